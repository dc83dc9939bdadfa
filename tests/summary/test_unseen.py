"""The worst case of a known seed on draws that no attack has known, always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_regrade import evaluated
from toy_detection import DETECTION, SEEING
from toy_evaluation import (
  CLASSES,
  IDENTITY,
  SHAPE,
  log_joint,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from gencls.evaluate import evaluate
from gencls.evaluation.probes import Probes
from gencls.evaluation.results import Cell
from gencls.paired import paired_interval
from gencls.summary import unseen
from gencls.summary.summarise import summarise


def steered(params, keys, x):
  """Logits that a direction drawn from the example's key tilts: one attack fits one draw."""
  drawn = jax.vmap(lambda key: jax.random.normal(key, (CLASSES, *SHAPE)))(keys)
  tilt = jnp.sum(drawn * (x[:, None] - 0.5), axis=(2, 3, 4))
  return log_joint(params, x) + params["noise"] * tilt


def prepared(params, draw, keys, x):
  """The same, drawn once for all keys."""
  return steered(params, jnp.broadcast_to(jax.random.key(draw), keys.shape), x)


def evaluated_alone(
  folder, noise, keep=120, n=120, threat="known_seed", once=False, detection=None
):
  """An evaluation without other numbers of samples; `once`: the model draws when it is prepared."""
  plain = toy_subject()
  params = {**plain.params, "noise": jnp.float32(noise)}
  fn = (
    jax.tree_util.Partial(prepared, params, 0) if once else jax.tree_util.Partial(steered, params)
  )
  redraw = (lambda draw: jax.tree_util.Partial(prepared, params, draw)) if once else None
  subject = plain._replace(
    classifier=plain.classifier._replace(logits=steered),
    params=params,
    logits_fn=fn,
    attack_logits_fn=fn,
    redraw=redraw,
  )
  return evaluate(
    subject,
    toy_images(n),
    protocol(threat, keep_images=keep, clean=("accuracy",), batch_size=None),
    [*specs((0.05, 0.1)), *(SEEING if detection else [])],
    folder=folder,
    identity={**IDENTITY, "params": f"noise {noise}"},
    record=record(),
    progress=False,
    probes=Probes(unseen=True),
    detection=detection,
  )


def check_of(cells):
  return {c["name"]: c for c in summarise(cells)["checks"]}[unseen.NAME]


def is_unseen(cell):
  return cell.header["label"].startswith("unseen draws")


def test_a_number_that_rests_on_the_seed_is_found(tmp_path):
  cells = evaluated_alone(tmp_path, 4.0)
  own = [cell for cell in cells if is_unseen(cell)]
  assert [c.header["label"] for c in own] == ["unseen draws linf 0.05", "unseen draws linf 0.1"]
  assert own[0].header["draws"] == {"unseen": 20, "correct": 1}
  worst = summarise(cells)["worst"]
  for cell, row in zip(own, worst, strict=True):
    assert np.mean(cell.arrays["correct"]) == pytest.approx(row["accuracy"]["mean"])
  change = paired_interval(own[1].arrays["unseen"], own[1].arrays["correct"])
  found = check_of(cells)
  assert found["status"] == "fail"
  assert f"0.1: {100 * change.mean:+.1f} [{100 * change.low:+.1f}, " in found["detail"]
  assert found["detail"].startswith("the numbers are those of known draws: linf 0.05: +")
  assert found["detail"].endswith("n = 120")
  again = evaluated_alone(tmp_path, 4.0)  # the cell of the clean images tells that it is randomised
  assert [c.header for c in again] == [c.header for c in cells]


def test_the_same_is_read_off_the_own_number_of_samples(tmp_path):
  other = evaluated(tmp_path, 8.0, specs((0.1,)))
  assert not any(is_unseen(cell) for cell in other)
  assert "linf 0.1: +" in check_of(other)["detail"]


def test_where_nothing_is_drawn_or_known_there_is_nothing_to_grade(tmp_path):
  still = evaluated_alone(tmp_path / "still", 0.0, n=8)
  assert not any(is_unseen(cell) for cell in still)
  assert check_of(still)["detail"] == "deterministic: nothing is drawn"
  kept = evaluated_alone(tmp_path / "none", 8.0, keep=0, n=8)
  assert not any(is_unseen(cell) for cell in kept)
  found = check_of(kept)
  assert found["status"] == "not run" and "config.keep_images" in found["detail"]
  fresh = evaluated_alone(tmp_path / "fresh", 8.0, n=8, threat="fresh_seed")
  assert not any(is_unseen(cell) for cell in fresh)
  assert check_of(fresh)["detail"] == "fresh seed: no attack knows the draws"


@pytest.mark.parametrize("threat", ["known_seed", "fresh_seed"])
def test_draws_that_are_made_once_are_known_under_any_threat_model(tmp_path, threat):
  """Keys change nothing of the model; another preparation tilts what it thinks of the images."""
  cells = evaluated_alone(tmp_path, 4.0, threat=threat, once=True)
  own = [cell for cell in cells if is_unseen(cell)]
  assert [cell.header["draws"]["unseen"] for cell in own] == [20, 20]
  assert all(np.mean(c.arrays["unseen"] - c.arrays["correct"]) > 0.05 for c in own)
  found = {c["name"]: c for c in summarise(cells)["checks"]}
  assert found[unseen.NAME]["status"] == "fail"
  fits = found["forward pass and threat model agree"]
  assert fits["status"] == ("pass" if threat == "known_seed" else "fail")
  assert threat == "known_seed" or "in `prepare`: set threat='known_seed'" in fits["detail"]


def test_what_gets_past_a_detector_is_graded_on_unseen_draws_too(tmp_path):
  cells = evaluated_alone(tmp_path, 4.0, detection=DETECTION)
  summary = summarise(cells)
  worst = {
    row["eps"]: row["evading"]["mean"]
    for row in summary["detection"]["worst"]
    if row["kind"] == "either"
  }
  own = [cell for cell in cells if is_unseen(cell)]
  assert len(own) == 3  # the attack on the detector has an eps of its own
  for cell in own:
    held, unknown = cell.arrays["held"], cell.arrays["unseen_held"]
    assert 1 - np.mean(held) == pytest.approx(worst[cell.header["settings"]["unseen"]["eps"]])
    assert set(np.unique(held)) <= {0.0, 1.0} and np.mean(unknown - held) > 0.02
    assert cell.header["draws"]["unseen_held"] == 20
  found = {c["name"]: c for c in summary["checks"]}
  assert found[unseen.HELD]["status"] == found[unseen.NAME]["status"] == "fail"
  change = paired_interval(own[0].arrays["unseen_held"], own[0].arrays["held"])
  assert f"0.05: {100 * change.mean:+.1f} [" in found[unseen.HELD]["detail"]


def _checked(known, unknown, unfinished=()):
  untouched = Cell({"settings": {"threat": "known_seed"}, "randomness": {"randomised": True}}, {})
  clean = Cell({"prepared_anew": False}, {})
  settings = {"settings": {"unseen": {"norm": "linf", "eps": 0.1}}}
  cells = [Cell(settings, {"correct": known, "unseen": unknown})] if len(known) else []
  return unseen.check(cells, untouched, clean, {}, unfinished)


def test_few_images_decide_nothing():
  known = np.repeat([1.0, 0.0], [900, 100])
  assert _checked(known, known).status == "pass"
  found = _checked(known[880:920], known[880:920])
  assert found.status == "not run" and found.detail.startswith("undecided, the interval is wider")
  assert _checked(known, np.repeat([1.0, 0.0], [880, 120])).status == "fail"  # flattered
  assert _checked([], [], ["unseen draws linf 0.1"]).detail == "not finished yet"
