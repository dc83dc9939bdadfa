"""Targeted cells: which class each image is sent to, and what counts as having got there."""

import importlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from processes import ROOT
from toy_evaluation import (
  CLASSES,
  IDENTITY,
  full_summary,
  log_joint,
  protocol,
  run,
  toy_images,
  toy_subject,
)
from toy_minimum import LINE, cells_of, clean, predicted

from gencls.attacks.losses import LOSSES
from gencls.evaluate import check_specs, make_plans
from gencls.evaluation import masking, targets
from gencls.evaluation.attack_specs import AttackSpec
from gencls.keys import example_keys
from gencls.report import compare, table
from gencls.summary.summarise import summarise

PROTOCOL = protocol(clean=())
PGD = AttackSpec("pgd", "pgd", "linf", (0.1, 0.2), "margin", 1, {"num_steps": 6})
pytestmark = pytest.mark.usefixtures("registered_line")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  """FGSM untargeted and targeted, PGD under four kinds of target; everything kept."""
  fgsm = AttackSpec("fgsm", "fgsm", "linf", (0.1, 0.2), "margin", 1, {})
  aimed = [PGD._replace(label=f"pgd_{t}", target=t) for t in (*targets.RULES, 1)]
  noise = AttackSpec("noise", "uniform_noise", "linf", (0.2,), "margin", 1, {"num_repeats": 20})
  every = [fgsm, fgsm._replace(label="fgsm_next", target="next"), *aimed, noise]
  return run(tmp_path_factory.mktemp("a"), None, PROTOCOL._replace(keep_images=30), every)


# Which class.


def test_targets_by_hand():
  labels, indices = np.array([0, 1, 2, 2]), np.arange(4)
  logits = np.array([[9.0, 1, 2], [5, 9, 4], [3, 3, -1], [1, np.nan, 0]], np.float32)

  def chosen(target):
    return list(targets.choose(target, labels, indices, 3, 0, logits))

  assert chosen("next") == [1, 2, 0, 0]
  assert chosen("least_likely") == [1, 2, 0, targets.LEFT_OUT]
  assert chosen("most_likely") == [2, 0, 0, targets.LEFT_OUT]  # not the label, even where it wins
  assert chosen(2) == [2, 2, targets.LEFT_OUT, targets.LEFT_OUT]


def test_random_targets_are_uniform_among_the_wrong_and_follow_the_index():
  n = 4000
  labels, indices = np.arange(n) % 4, np.arange(n)
  found = targets.choose("random", labels, indices, 4, 0)
  offsets = np.bincount((found - labels) % 4, minlength=4)
  assert offsets[0] == 0
  assert np.max(np.abs(offsets[1:] - n / 3)) < 4 * np.sqrt(n * 2 / 9)  # 4 standard errors
  order = np.random.default_rng(0).permutation(n)[:7]
  again = targets.choose("random", labels[order], indices[order], 4, 0)
  np.testing.assert_array_equal(again, found[order])
  assert np.mean(targets.choose("random", labels, indices, 4, 1) != found) > 0.5


def test_no_prediction_is_not_the_target_of_an_image_that_has_none():
  prediction = np.array([[-1, -1], [1, 2], [2, 2]])
  found = targets.share_in_target(prediction, np.array([-1, 2, 2]))
  assert list(found) == [0.0, 0.5, 1.0]


def test_the_gradient_that_may_vanish_is_that_of_the_targets_logit():
  logits, label = np.array([[0.0, 200.0, 0.0]], np.float32), np.array([0])
  loss = LOSSES["cross_entropy"]
  assert not masking.zero_gradients(loss, logits, label)[0]
  assert masking.zero_gradients(loss, logits, label, np.array([1]))[0]


def test_a_saturated_loss_is_no_zero_gradient_of_an_image_that_is_broken_already(tmp_path):
  """Ten thousand nats apart, the cross-entropy of every image is flat: of those that are right."""

  def apart(params, keys, x):
    return 1e4 * log_joint(params, x)

  spec = PGD._replace(eps=(0.1,), loss="cross_entropy")
  for own in (spec, spec._replace(target="least_likely")):
    cells = run(tmp_path / str(own.target), toy_subject(logits=apart), PROTOCOL, [own])
    (untouched,) = (cell for cell in cells if cell.header["label"] == "untouched")
    arrays = cells_of(cells, "pgd")[0.1].arrays
    right = untouched.arrays["correct"] > 0
    assert 0 < right.sum() < 30
    if own.target is None:
      np.testing.assert_array_equal(arrays["zero_gradient"], right)
    else:
      assert not arrays["zero_gradient"][
        arrays["target"] == untouched.arrays["prediction"][:, 0]
      ].any()


# Fixed budgets.


def test_cells_hold_targets_and_whether_they_are_reached(evaluated):
  x, labels = clean()
  for label, cell in ((f"pgd_{t}", cells_of(evaluated, f"pgd_{t}")[0.2]) for t in targets.RULES):
    wanted = targets.choose(
      cell.header["settings"]["attack"]["target"],
      labels,
      np.arange(30),
      CLASSES,
      0,
      np.asarray(log_joint(toy_subject().params, jnp.asarray(x))),
    )
    np.testing.assert_array_equal(cell.arrays["target"], wanted, err_msg=label)
    assert np.all(wanted != labels)
    hit = predicted(cell.arrays["x_adv"]) == wanted
    assert 0 < hit.sum() < 30
    np.testing.assert_array_equal(cell.arrays["in_target"], hit)
    assert np.max(np.abs(cell.arrays["x_adv"] - x)) <= 0.2 + 1e-6


def test_success_and_accuracy_are_of_the_images_with_a_target(evaluated):
  x, labels = clean()
  cell = cells_of(evaluated, "pgd_1")[0.2]
  own = labels == 1
  assert 0 < own.sum() < 30
  np.testing.assert_array_equal(cell.arrays["target"], np.where(own, -1, 1))
  np.testing.assert_array_equal(cell.arrays["x_adv"][own], x[own])  # bit for bit
  assert not np.any(cell.arrays["forward"][own]) and np.all(cell.arrays["forward"][~own] > 0)
  row = next(r for r in summarise(evaluated)["rows"] if (r["label"], r["eps"]) == ("pgd_1", 0.2))
  found, x_adv = row["targeted"], cell.arrays["x_adv"]
  assert (found["target"], found["num_images"], found["left_out"]) == (1, 30 - own.sum(), own.sum())
  assert found["success_rate"]["mean"] == pytest.approx(np.mean(predicted(x_adv)[~own] == 1))
  right = (predicted(x_adv) == labels) & (predicted(x) == labels)
  assert found["accuracy"]["mean"] == pytest.approx(np.mean(right[~own]))
  assert row["accuracy"]["mean"] == pytest.approx(np.mean(right))  # of all images
  json.dumps(row, allow_nan=False)


def test_targeted_results_are_candidates_of_the_worst_case(evaluated, tmp_path):
  """Any wrong class counts there, whichever class an attack was after."""
  alone = run(tmp_path, None, PROTOCOL, [PGD._replace(label="t", target="least_likely")])
  summary = summarise(alone)
  x, labels = clean()
  cells = [*cells_of(alone, "t").values(), *cells_of(alone, "grey").values()]
  right = np.all([c.arrays["correct"] > 0 for c in cells], axis=0) & (predicted(x) == labels)
  assert summary["worst"][-1]["accuracy"]["mean"] == pytest.approx(np.mean(right))
  wrong = cells_of(alone, "t")[0.2].arrays
  astray = (wrong["correct"] == 0) & (wrong["in_target"] == 0) & (predicted(x) == labels)
  assert astray.sum() > 0  # and these count as errors
  assert not np.any(right & astray)


def test_checks_compare_attacks_of_one_target(evaluated):
  checks = {c["name"]: c for c in summarise(evaluated)["checks"]}
  assert [c for c in checks.values() if c["status"] == "fail"] == []
  assert checks["pgd_next (linf): the share outside the target class falls with eps"]
  assert "pgd_next (linf): accuracy falls with eps" not in checks
  # FGSM beside four PGDs of other aims: only the pair of one target is compared, at two eps.
  assert checks["iterated attacks beat single-step ones"]["detail"] == "2 compared"
  assert checks["white-box beats black-box"]["detail"] == "1 compared"
  aimed = [c for c in evaluated if c.header["label"] not in ("fgsm", "fgsm_next")]
  only = {c["name"]: c["status"] for c in summarise(aimed)["checks"]}
  assert only["white-box beats black-box"] == "not run"


def test_an_attack_that_misses_its_target_disagrees_with_none(evaluated):
  """The agreement is about the target: wrong in a third class is no success."""
  rows = [r for r in summarise(evaluated)["rows"] if r["label"] == "pgd_least_likely"]
  assert [row["disagree"] for row in rows] == [0, 0]
  cell = cells_of(evaluated, "pgd_least_likely")[0.2].arrays
  assert np.any((cell["correct"] == 0) & ~cell["attack_success"])


@pytest.mark.parametrize("target", ["random", "most_likely"])
def test_batch_size_decides_nothing(target, evaluated, tmp_path):
  other = run(
    tmp_path,
    None,
    PROTOCOL._replace(batch_size=7, keep_images=30),
    [PGD._replace(label=f"pgd_{target}", target=target, eps=(0.2,))],
  )
  one, two = (cells_of(cells, f"pgd_{target}")[0.2] for cells in (evaluated, other))
  assert one.header["settings"] == two.header["settings"]
  for name in ("target", "in_target", "prediction"):
    np.testing.assert_array_equal(one.arrays[name], two.arrays[name])


def test_fresh_seed_shares_are_of_the_grade_draws(tmp_path):
  subject, fresh = toy_subject(noise=3.0), protocol("fresh_seed", clean=())
  spec = PGD._replace(eps=(0.2,), target="least_likely")
  cell = cells_of(run(tmp_path, subject, fresh, [spec]), "pgd")[0.2]
  # Chosen from what the attack may know: its own keys.
  keys = example_keys(0, np.arange(30), "attack")
  logits = np.array(subject.attack_logits_fn(keys, jnp.asarray(clean()[0])))
  logits[np.arange(30), clean()[1]] = np.inf
  np.testing.assert_array_equal(cell.arrays["target"], logits.argmin(1))
  hits = cell.arrays["prediction"] == cell.arrays["target"][:, None]
  assert hits.shape == (30, 20)
  np.testing.assert_allclose(cell.arrays["in_target"], hits.mean(1), rtol=1e-6)
  assert np.any((cell.arrays["in_target"] > 0) & (cell.arrays["in_target"] < 1))


def test_images_without_finite_logits_have_no_likely_target(tmp_path):
  def broken(params, keys, x):
    del keys
    return jnp.where(x[:, :1, 0, 0] > 0.7, jnp.nan, log_joint(params, x))

  every = [PGD._replace(eps=(0.1,)), LINE._replace(eps=(0.1,))]
  every = [spec._replace(target="most_likely") for spec in every]
  cells = run(tmp_path, toy_subject(logits=broken), PROTOCOL, every)
  bad = clean()[0][:, 0, 0, 0] > 0.7
  assert 0 < bad.sum() < 30
  arrays = cells_of(cells, "pgd")[0.1].arrays
  np.testing.assert_array_equal(arrays["target"] == targets.LEFT_OUT, bad)
  for name in ("in_target", "norm", "zero_gradient"):
    assert not np.any(arrays[name][bad])
  (row,) = [row for row in summarise(cells)["rows"] if row["label"] == "pgd"]
  assert row["targeted"]["left_out"] == bad.sum()
  # Their prediction, none, is no success of a minimum-norm attack either.
  assert not np.any(cells_of(cells, "line")[None].arrays["select_in_target"][bad])


# What is asked, refused and shown.


def test_untargeted_cells_keep_their_identity():
  def plan(spec):
    return make_plans(ROOT, PROTOCOL, [spec], IDENTITY, toy_images())[-1]

  assert "target" not in plan(PGD).settings["attack"]
  paths = {plan(PGD._replace(target=t)).path for t in (None, *targets.RULES, 0, 1)}
  assert len(paths) == 7


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"target": "nxt"}, "unknown target 'nxt'; did you mean 'next'.* or a class"),
    ({"target": -1}, "or a class >= 0, got -1"),
    ({"target": True}, "got True"),
    ({"target": 3}, "target must be < 3, the number of classes, got 3"),
    ({"target": "next", "loss": "dlr"}, "a targeted dlr needs at least 4 classes, got 3"),
    ({"target": "next", "name": "foolbox:LinfPGD"}, "Foolbox's attacks are run untargeted"),
  ],
)
def test_targets_that_cannot_be_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    run(tmp_path, None, PROTOCOL, [PGD._replace(**change)])
  assert not list(tmp_path.iterdir())


def test_configs_take_targets(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  base = importlib.import_module("configs.attacks.base")
  specs = importlib.import_module("launch.evaluate").specs
  config = base.get_config(
    "t", {n: base.attack("pgd", (0.1,), target=t) for n, t in (("a", None), ("b", 3), ("c", None))}
  )
  config.attacks.c.target = "least_likely"
  found = specs(config.to_dict()["attacks"])
  assert [spec.target for spec in found] == [None, 3, "least_likely"]
  assert all("target" not in spec.hyperparameters for spec in found)
  check_specs(found)


def test_tables_show_the_target_and_who_was_left_out(evaluated):
  summary = full_summary(summarise(evaluated), PROTOCOL)
  text = table.markdown(summary)
  assert "the share of images that end in their target class" in text
  row = next(r for r in summary["rows"] if (r["label"], r["eps"]) == ("pgd_1", 0.2))
  shares = [table.percent(row["targeted"][name]) for name in ("success_rate", "accuracy")]
  (line_,) = [row for row in text.splitlines() if row.startswith("| pgd_1 ") and "class 1" in row][
    1:
  ]
  assert [cell.strip() for cell in line_.split("|")[1:-1]] == [
    *("pgd_1", "class 1", "linf", "0.2", "20", "10"),
    *shares,
  ]
  assert "| pgd_least_likely | least likely |" in text
  assert "TOY: pgd_1" in compare.targeted({"TOY": summary})
  plain = [c for c in evaluated if c.header["label"] == "fgsm" or not c.header["norm"]]
  plain = full_summary(summarise(plain), PROTOCOL)
  assert "target" not in table.markdown(plain)
  assert compare.targeted({"TOY": plain}) == ""


def test_a_class_that_all_images_have_leaves_nobody_to_attack(tmp_path, monkeypatch):
  only = toy_images()._replace(labels=np.ones(30, np.int32))
  monkeypatch.setattr("toy_evaluation.toy_images", lambda n: only)
  cells = run(tmp_path, None, PROTOCOL, [PGD._replace(target=1), LINE._replace(target=1)])
  summary = full_summary(summarise(cells), PROTOCOL)
  assert all(row["targeted"]["num_images"] == 0 for row in summary["rows"] if "targeted" in row)
  assert "none" in table.targeted_table(summary["rows"])
  table.markdown(summary)
  json.dumps(summary["rows"] + summary["minimum"], allow_nan=False)
