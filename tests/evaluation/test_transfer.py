"""Images made on another model: read, graded, and held against white-box attacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import (
  IDENTITY,
  LEVELS,
  log_joint,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from configs.attacks import sanity
from gencls import data
from gencls.evaluate import evaluate
from gencls.evaluation import stored, transfer_source
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.probes import NO_PROBES, Probes
from gencls.summary.summarise import summarise

N = 30
MINIMUM = AttackSpec("deepfool", "deepfool", "l2", (0.2, 0.6), "margin", 1, {"num_steps": 5})
BEATS, NEW = "white-box beats transfer", "transfer finds nothing new"


def other_subject():
  """Another Gaussian classifier, not far from the toy's."""
  plain = toy_subject()
  noise = np.random.default_rng(3).normal(size=plain.params["mean"].shape)
  params = {"mean": plain.params["mean"] + jnp.asarray(0.05 * noise, jnp.float32)}
  fn = jax.tree_util.Partial(plain.classifier.logits, params)
  return plain._replace(params=params, logits_fn=fn, attack_logits_fn=fn)


def evaluated(workdir, subject, the_specs, probes=NO_PROBES, keep=N, n=N, name="toy"):
  folder, images = workdir / "results" / name, toy_images(n)
  x = np.asarray(data.to_float(images.images[:keep], images.num_levels))
  statement = {"title": "TOY", "name": name, "data": IDENTITY["data"]}
  return evaluate(
    subject,
    images,
    protocol(keep_images=keep, clean=("accuracy",)),
    the_specs,
    folder=folder / "cells",
    identity={**IDENTITY, "params": workdir.name},
    record=record(),
    progress=False,
    probes=probes,
    announce=lambda plans: stored.write_plan(folder, statement, plans, x),
  )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """The evaluation of the toy, whose images are transferred."""
  workdir = tmp_path_factory.mktemp("runs") / "cnn"
  return workdir, evaluated(workdir, toy_subject(), [*specs(), MINIMUM])


@pytest.fixture(scope="module")
def source(made):
  return transfer_source.read(made[0], "toy", toy_images(N))


def by_place(cells):
  return {(c.header["label"], c.header["norm"], c.header["eps"]): c for c in cells}


@pytest.fixture(scope="module")
def received(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "gfz"
  cells = evaluated(workdir, other_subject(), [*specs(), MINIMUM], Probes(sources=(source,)))
  return cells


def test_every_image_is_graded_on_this_model_and_the_worst_one_counts(made, received):
  cells, theirs = by_place(received), by_place(made[1])
  params, labels = other_subject().params, toy_images(N).labels
  rows = np.arange(N)
  for eps in (0.1, 0.5):
    margins = []
    for label in ("fgsm", "pgd"):
      z = np.asarray(log_joint(params, theirs[label, "linf", eps].arrays["x_adv"]), np.float64)
      own = z[rows, labels]
      z[rows, labels] = -np.inf
      margins.append(own - z.max(axis=1))
    cell = cells["transfer from cnn", "linf", eps]
    least = np.min(margins, axis=0)
    np.testing.assert_allclose(cell.arrays["select_margin"], least, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(cell.arrays["correct"], least > 0)
    taken = np.argmin(margins, axis=0)
    clear = np.abs(margins[0] - margins[1]) > 1e-3
    assert clear.sum() > 5
    np.testing.assert_array_equal(cell.arrays["made_by"][clear], taken[clear])
    x_adv = np.stack([theirs[label, "linf", eps].arrays["x_adv"] for label in ("fgsm", "pgd")])
    np.testing.assert_array_equal(cell.arrays["x_adv"][clear], x_adv[taken, rows][clear])


def test_of_a_minimum_norm_only_what_is_within_eps_is_transferred(made, received):
  whole = by_place(made[1])["deepfool", "l2", None].arrays
  clean = np.asarray(data.to_float(toy_images(N).images, LEVELS))
  for eps in (0.2, 0.6):
    arrays = by_place(received)["transfer from cnn", "l2", eps].arrays
    within = whole["norm"] <= eps + 1e-6
    assert 0 < within.sum() < N
    np.testing.assert_array_equal(arrays["x_adv"][within], whole["x_adv"][within])
    np.testing.assert_array_equal(arrays["x_adv"][~within], clean[~within])


def test_sound_models_beat_what_is_transferred_to_them(received):
  summary = summarise(received)
  found = {c["name"]: c for c in summary["checks"]}
  assert (found[BEATS]["status"], found[NEW]["status"]) == ("pass", "pass")
  assert "4 compared" in found[BEATS]["detail"]
  rows = [row for row in summary["rows"] if row["label"] == "transfer from cnn"]
  assert [row["disagree"] for row in rows] == [None] * 4
  assert rows[0]["attack"]["name"] == "transfer"
  worst = {(row["norm"], row["eps"]): row for row in summary["worst"]}
  assert "transfer from cnn" in worst["linf", 0.1]["chosen"]


def test_images_that_only_transfer_breaks_are_named(made, source, tmp_path):
  def quantised(params, keys, x):
    del keys
    return log_joint(params, jnp.round(16 * x) / 16)

  cells = evaluated(
    tmp_path / "bad", toy_subject(logits=quantised), specs()[1:], Probes(sources=(source,))
  )
  found = {c["name"]: c for c in summarise(cells)["checks"]}
  assert (found[BEATS]["status"], found[NEW]["status"]) == ("fail", "fail")
  places = by_place(cells)
  moved = places["transfer from cnn", "linf", 0.1].arrays["correct"] == 0
  missed = np.flatnonzero(moved & (places["pgd", "linf", 0.1].arrays["correct"] > 0))
  missed = [i for i in missed if cells[1].arrays["correct"][i] > 0]
  assert len(missed) > 1
  assert f"(images {', '.join(map(str, missed[:10]))}" in found[NEW]["detail"]


def test_images_of_the_same_model_are_candidates_and_compared_with_nothing(made, tmp_path):
  """Gradients and queries have both made them: they show neither that a gradient is masked, nor
  that it is not."""

  def quantised(params, keys, x):
    del keys
    return log_joint(params, jnp.round(16 * x) / 16)

  source = transfer_source.read(made[0], "toy", toy_images(N), same_run=True)
  assert source.label == "images of toy"
  subject, square = toy_subject(logits=quantised), AttackSpec(
    "square", "square", "linf", (0.1, 0.5), "margin", 1, {"num_steps": 30}
  )  # fmt: skip
  alone = summarise(evaluated(tmp_path / "alone", subject, [*specs()[1:], square]))
  both = summarise(
    evaluated(tmp_path / "both", subject, [*specs()[1:], square], Probes(sources=(source,)))
  )
  with_them, without = (
    {(row["norm"], row["eps"]): row for row in each["worst"]} for each in (both, alone)
  )
  for place, row in without.items():
    assert with_them[place]["accuracy"]["mean"] <= row["accuracy"]["mean"]
  assert with_them["linf", 0.1]["accuracy"]["mean"] < without["linf", 0.1]["accuracy"]["mean"], (
    "they count"
  )
  found, before = (
    {c["name"]: (c["status"], c["detail"]) for c in each["checks"]} for each in (both, alone)
  )
  assert found[BEATS][0] == found[NEW][0] == "not run"
  name = "a gradient-free attack finds nothing new"
  assert found[name] == before[name] and found[name][0] == "fail"


def test_what_is_transferred_decides_the_cell(source):
  from gencls.evaluation.transfer_cell import identity

  one = identity(source, "linf", 0.1, protocol())
  fewer = source._replace(cells=source.cells[1:], files=source.files[1:])
  assert one != identity(fewer, "linf", 0.1, protocol())
  assert one["files"] == [f for f in source.files if "_linf_0.1-" in f]


def test_images_are_not_passed_on_twice(received, source, tmp_path):
  workdir = tmp_path / "gfz"
  evaluated(workdir, other_subject(), specs((0.1,)), Probes(sources=(source,)))
  again = transfer_source.read(workdir, "toy", toy_images(N))
  assert {cell.header["label"] for cell in again.cells} == {"fgsm", "pgd"}


def test_what_cannot_be_transferred_is_said(made, tmp_path):
  few = tmp_path / "few"
  evaluated(few, toy_subject(), specs((0.1,)), keep=7)
  with pytest.raises(ValueError, match=r"keeps 7 .* 30 are evaluated here.*keep_images=30"):
    transfer_source.read(few, "toy", toy_images(N))
  assert len(transfer_source.read(few, "toy", _first(7)).cells) == 2
  with pytest.raises(ValueError, match="their label differs"):
    transfer_source.read(made[0], "toy", toy_images(N, seed=1))
  darker = toy_images(N)
  with pytest.raises(ValueError, match="attacked other images"):
    transfer_source.read(made[0], "toy", darker._replace(images=darker.images // 2))
  with pytest.raises(FileNotFoundError, match="did you mean 'toy'"):
    transfer_source.read(made[0], "tou", toy_images(N))
  gone = next((few / "results" / "toy" / "cells").glob("pgd*.npz"))
  gone.unlink()
  with pytest.raises(ValueError, match="is not finished, pgd is missing"):
    transfer_source.read(few, "toy", _first(7))


def test_the_sanity_evaluation_keeps_what_it_may_have_to_pass_on(made, tmp_path):
  """The images of small sets, all of them; how to go on with more is said before any attack."""
  config = sanity.get_config("full")
  assert config.keep_images == 1000 >= len(data.load("digits", split="test").labels)
  cpu = sanity.get_config("cpu")
  assert (cpu.num_images, cpu.keep_images) == (200, 1000)
  assert f"--config.num_images={config.keep_images}" in " ".join((sanity.__doc__ or "").split())
  few = tmp_path / "few"
  evaluated(few, toy_subject(), specs((0.1,))[:1], keep=7)
  with pytest.raises(ValueError, match=r"run this with --config.num_images=7 .*uses what is there"):
    transfer_source.read(few, "toy", toy_images(N))


def _first(n):
  whole = toy_images(N)
  parts = {name: getattr(whole, name)[:n] for name in ("images", "labels", "indices")}
  return whole._replace(**parts)


def test_two_runs_of_one_name_are_refused(source, tmp_path):
  with pytest.raises(ValueError, match=r"'transfer from cnn'.*different names"):
    evaluated(tmp_path, toy_subject(), specs(), Probes(sources=(source, source)))
