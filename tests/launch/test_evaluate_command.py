"""launch/evaluate.py, from a run to its table."""

import importlib
from pathlib import Path

import jax
import pytest
import toy_evaluation
from processes import ROOT, command, finish, start

from gencls import runs


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))


def evaluate(workdir, **changes):
  config = importlib.import_module("configs.attacks.generative").get_config("smoke")
  config.update(changes)
  run = importlib.import_module("launch.evaluate").run
  return run(config.to_dict(), str(workdir), progress=False)


def toy_run():
  """The toy as a run that offers everything attacks on generative models ask for."""
  subject = toy_evaluation.offering_subject()
  assert subject.attacked is not None
  classifier, params = subject.attacked
  data = {"name": "toy", "dir": None, "validation_size": 0}
  config = {"model": {"name": "toy"}, "seed": 0, "data": data}
  record = {**toy_evaluation.record(), "config": config, "data": {"source": "made"}}
  logits_fn = jax.tree_util.Partial(classifier.logits, params)
  return runs.Run(classifier, params, config, record, 5, logits_fn, params)


def check_rows(summary):
  labels = {row["label"] for row in summary["rows"]}
  assert {"pgd", "per_sample", "per_sample_ce", "from_wrong_class"} <= labels
  assert len(summary["worst"]) == 2


def sanity_config(**changes):
  config = importlib.import_module("configs.attacks.sanity").get_config("smoke")
  config.update({"clean": ("accuracy",), "keep_images": 16, **changes})
  for label in ("pgd", "pgd_80_steps", "pgd_5_restarts", "square", "noise"):
    config.attacks[label].eps = ()
  return config.to_dict()


def test_what_every_evaluation_asks_for():
  config = importlib.import_module("configs.attacks.fgsm_pgd").get_config("smoke").to_dict()
  dataset = toy_evaluation.toy_images(4)
  found = importlib.import_module("launch.evaluate").probes(config, "", toy_run(), dataset)
  assert found.gradient and found.unseen and found.regrade is None


@pytest.mark.parametrize(
  ("text", "place"),
  [
    ("runs/b:pgd", ("runs/b", "pgd", False)),
    ("runs/b", ("runs/b", "honest", False)),
    (":flip", ("runs/a", "flip", True)),
  ],
)
def test_images_come_from_another_run_or_another_evaluation_of_this_one(text, place):
  place_of_images = importlib.import_module("launch.evaluate").place_of_images
  assert place_of_images(text, "runs/a", "honest") == (Path(place[0]), *place[1:])


@pytest.mark.parametrize("text", [":honest", "runs/a", "runs/../runs/a:honest"])
def test_an_evaluation_does_not_grade_its_own_images(text):
  with pytest.raises(ValueError, match="is this evaluation itself: name another one"):
    importlib.import_module("launch.evaluate").place_of_images(text, "runs/a", "honest")


@pytest.mark.slow
def test_every_probe_is_asked_for_by_the_config(tmp_path, monkeypatch):
  """Another number of samples is loaded anew; another run's images are read by its folder."""
  asked = []

  def load(folder, step, **overrides):
    asked.append((step, overrides))
    found = toy_run()
    found.config["model"] |= {"num_samples": 2, **overrides}
    return found

  monkeypatch.setattr(runs, "load", load)
  monkeypatch.setattr(runs.Run, "split", lambda *_: toy_evaluation.toy_images(16))
  run = importlib.import_module("launch.evaluate").run
  run(sanity_config(regrade_samples=()), str(tmp_path / "one"), progress=False)
  assert asked == [("best", {})]
  other = f"{tmp_path / 'one'}:sanity"
  again = sanity_config(regrade_samples=(3,), transfer_from=(other,))
  summary = run(again, str(tmp_path / "two"), progress=False)
  # Of the step that is graded, whatever is best or latest by then.
  assert asked[1:] == [("best", {}), (5, {"num_samples": 3})]
  assert {row["num_samples"] for row in summary["regraded"]} == {2, 3}
  checks = {check["name"]: check["status"] for check in summary["checks"]}
  for name in ("white-box beats transfer", "the gradient is that of the loss"):
    assert checks[name] == "pass"
  assert checks["more importance samples change nothing"] == "not run"  # of 16 images: undecided
  assert "transfer from one" in {row["label"] for row in summary["rows"]}
  assert (tmp_path / "two" / "figures" / "sanity_surface.png").is_file()
  table = (tmp_path / "two" / "results" / "sanity" / "table.json").read_text()
  assert str(tmp_path) not in table
  # Of another evaluation of the same run: called by its name.
  third = sanity_config(regrade_samples=(), transfer_from=(":sanity",)) | {"name": "third"}
  summary = run(third, str(tmp_path / "two"), progress=False)
  assert "images of sanity" in {row["label"] for row in summary["rows"]}
  run(again | {"regrade_samples": ()}, str(tmp_path / "two"), progress=False)  # goes on


@pytest.mark.slow
def test_attacks_on_generative_models_get_the_attacked_model(tmp_path, monkeypatch):
  """Its importance samples and reconstructions, not its logits alone."""
  monkeypatch.setattr(runs, "load", lambda *_, **__: toy_run())
  monkeypatch.setattr(runs.Run, "split", lambda *_: toy_evaluation.toy_images(16))
  check_rows(evaluate(tmp_path, clean=("accuracy",)))


@pytest.mark.slow
def test_attacks_on_generative_models_of_a_trained_run(tmp_path):
  workdir = tmp_path / "gfz"
  finish(start(command(workdir, config="gfz_digits.py:smoke"), tmp_path / "cache"))
  check_rows(evaluate(workdir))
