"""Every evaluation config: its attacks exist with these hyperparameters."""

import importlib
import re
from pathlib import Path

import pytest
from toy_evaluation import offering_subject, protocol

from gencls.evaluate import check_protocol, check_specs
from gencls.evaluation.attack_cells import build_attack
from gencls.evaluation.attack_specs import check_spec, for_score, identity, takes_eps

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p.stem for p in (ROOT / "configs" / "attacks").glob("*.py") if p.stem != "base")
VARIANTS = ("", "full", "cpu", "smoke")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))


def config_of(name, arg=""):
  return importlib.import_module(f"configs.attacks.{name}").get_config(arg)


def specs_of(config):
  return importlib.import_module("launch.evaluate").specs(config.to_dict()["attacks"])


@pytest.mark.parametrize("name", FILES)
def test_every_attack_can_be_built(name):
  classifier, params = offering_subject().attacked
  offers_all = (classifier._replace(pixel_threshold=0.5), params)  # for flips, which are not run
  subject = offering_subject()._replace(attacked=offers_all)
  for arg in VARIANTS:
    config = config_of(name, arg)
    plain, specs = config.to_dict(), specs_of(config)
    the_protocol = protocol(plain["threat"])._replace(
      select_draws=plain["select_draws"], grade_draws=plain["grade_draws"]
    )
    check_protocol(the_protocol, {})
    check_specs(specs)
    for spec in specs:
      check_spec(spec)
      for eps in spec.eps if takes_eps(spec) else (None,):
        build_attack(subject, the_protocol, spec, eps)


@pytest.mark.parametrize("arg", ["", "full", "cpu"])
def test_the_checks_in_l2_are_those_in_linf_of_another_ball(arg):
  linf, l2 = (config_of("sanity", each).to_dict() for each in (arg, f"{arg}_l2".strip("_")))
  balls = {(a.pop("norm"), a.pop("eps")) for a in l2["attacks"].values()}
  assert balls == {("l2", (1.0, 2.0, 3.0, 5.0))}
  assert {a.pop("norm") for a in linf["attacks"].values() if a.pop("eps")} == {"linf"}
  assert (linf.pop("name"), l2.pop("name")) == ("sanity", "sanity_l2")
  assert linf == l2


def test_the_published_protocol_of_the_zoo():
  config = config_of("nus").to_dict()
  found = config["attacks"]
  assert config["num_images"] == 1000
  assert len(found) == 10
  assert found["carlini_wagner"]["eps"] == (0.1, 1.0, 10.0, 100.0, 1000.0)
  clipped = {label for label, attack in found.items() if attack["grade_as"] == "clip"}
  assert clipped == {"carlini_wagner", "linear_contrast", "binary_contrast", "gaussian_blur"}
  # Foolbox's PGD: relative steps, a random start, the last iterate, cross-entropy.
  for label, steps, size in (("pgd_l2", 50, 0.025), ("pgd_linf", 40, 1 / 30)):
    own = found[label]
    assert (own["num_steps"], own["rel_step_size"], own["loss"]) == (steps, size, "cross_entropy")
    assert (own["random_start"], own["early_stop"], own["keep_best"]) == (True, False, False)


def test_variants_are_smaller():
  for name in FILES:
    sizes = [config_of(name, arg).num_images for arg in VARIANTS]
    full = sizes[0] or 10_000
    assert sizes[0] == sizes[1]
    assert full >= sizes[2] > sizes[3] == 16
    every = [config_of(name, arg).to_dict()["attacks"] for arg in VARIANTS]
    both = every[0].keys() & every[2].keys()  # a short one may send a long attack after the others
    steps = [sum(own[label].get("num_steps", 1) for label in both) for own in every]
    assert steps[0] == steps[1] >= steps[2] >= steps[3]


def test_every_key_can_be_changed_and_no_other():
  config = config_of("fgsm_pgd", "smoke")
  config.attacks.pgd.max_seconds = 60.0
  config.attacks.pgd.max_queries = 100
  config.attacks.pgd.grade_as = "clip"
  spec = next(spec for spec in specs_of(config) if spec.label == "pgd")
  assert (spec.max_seconds, spec.max_queries, spec.grade_as) == (60.0, 100, "clip")
  assert not {"max_seconds", "max_queries", "grade_as"} & set(spec.hyperparameters)
  with pytest.raises(AttributeError):
    config.attacks.pgd.max_second = 60.0
  with pytest.raises(ValueError, match="has a fixed budget"):
    check_specs([spec])


def test_docstrings_name_the_command_of_their_file():
  for name in FILES:
    text = (ROOT / "configs" / "attacks" / f"{name}.py").read_text()
    assert re.search(rf"launch/evaluate\.py --config=configs/attacks/{name}\.py", text), name


def test_a_config_may_ask_for_foolbox():
  pytest.importorskip("foolbox")
  base = importlib.import_module("configs.attacks.base")
  theirs = {"theirs": base.attack("foolbox:LinfPGD", (0.1,), steps=3)}
  (spec,) = specs_of(base.get_config("both", theirs, arg="smoke"))
  assert spec.hyperparameters == {"steps": 2}
  check_specs([spec])
  assert takes_eps(spec)


def test_only_densities_give_probabilities_for_logits():
  every = specs_of(config_of("nus_probabilities", "cpu"))
  plain = {spec.label: spec.loss for spec in specs_of(config_of("nus", "cpu"))}
  check_specs(every)
  assert {for_score(spec, "posterior").label: for_score(spec, "posterior").loss for spec in every
          } == plain  # fmt: skip
  for score in ("estimate", "unnormalised"):
    masked = {spec.label: for_score(spec, score).loss for spec in every}
    assert masked == {label: f"{loss}_of_probabilities" for label, loss in plain.items()}
  with pytest.raises(ValueError, match="unknown loss_of_posteriors 'margn'"):
    check_specs([every[0]._replace(loss_of_posteriors="margn")])
  # A model that the other loss is not for has the cells it had before there was one.
  one, two = (identity(for_score(spec, "estimate"), protocol("known_seed"), None)
              for spec in (every[0], every[0]._replace(loss_of_posteriors=None)))  # fmt: skip
  assert one == two and "loss_of_posteriors" not in one


def test_flips_are_for_models_that_threshold_and_no_other():
  made_for = importlib.import_module("launch.evaluate").made_for
  every = config_of("nus_honest", "cpu").to_dict()["attacks"]
  assert set(every) - set(made_for(every, None)) == {"flips_linf", "flips_l2"}
  assert made_for(every, 0.5) == every
  # What is left out is checked all the same.
  for changes in ({"models": "threshold"}, {"loss": "margn"}):
    wrong = every | {"flips_l2": every["flips_l2"] | changes}
    with pytest.raises(ValueError, match="did you mean"):
      made_for(wrong, None)
  # It does not matter to what a cell holds why the attack was run.
  (spec,) = (each for each in specs_of(config_of("nus_honest")) if each.label == "flips_l2")
  one, two = (
    identity(each, protocol("known_seed"), None) for each in (spec, spec._replace(models=None))
  )
  assert one == two and one["name"] == "pixel_flips"


def test_a_walk_that_tries_several_starts_is_another_than_one_that_tried_one():
  base = importlib.import_module("configs.attacks.base")
  attacks = {
    "own": base.attack("boundary", (1.0,), norm="l2"),
    "told": base.attack("boundary", (1.0,), norm="l2", start="nearest_wrong"),
    "detector": base.attack("boundary", (1.0,), norm="l2", against="detector"),
    "pgd": base.attack("pgd", (0.1,), against="detector"),
  }
  specs = specs_of(base.get_config("walks", attacks))
  found = {s.label: identity(s, protocol("known_seed"), None).get("start_tries") for s in specs}
  assert found == {"own": None, "told": 5, "detector": 5, "pgd": None}
