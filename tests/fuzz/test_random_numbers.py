"""Random values in every field of a config: refused by name, or taken for what they are."""

import inspect
import math
from numbers import Real

import jax
import pytest
from finished import changed, evaluation_config, module, train_config
from hypothesis import given, settings
from hypothesis import strategies as st

from gencls import attacks, models
from gencls.evaluate import check_protocol, check_specs
from gencls.evaluation import settings as evaluation_settings
from gencls.evaluation.attack_specs import AttackSpec
from gencls.training import settings as train_settings

NUMBERS = st.one_of(
  st.integers(-3, 3),
  st.integers(-(2**70), 2**70),
  st.floats(),
  st.floats(0, 1),
  st.booleans(),
  st.none(),
  st.text(max_size=3),
  st.just(()),
)
QUICK = settings(max_examples=25, deadline=None, derandomize=True)  # the same at every run


def leaves(config, prefix=""):
  for name, value in config.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


TRAIN = [name for name, _ in leaves(train_config()) if name.split(".")[0] in ("train", "seed")]
TRAIN = [name for name in TRAIN if name not in ("train.loss", "train.method")]


@pytest.mark.parametrize("field", TRAIN)
@QUICK
@given(value=NUMBERS)
def test_a_training_setting_is_taken_or_refused_by_name(field, value):
  config = changed(train_config(), {field: value})
  given = {**config["train"], "seed": config["seed"], "num_validation_images": 1, "keep": 1}
  del given["loss"], given["method"]
  try:
    train_settings.check(given, 60)
  except ValueError as error:
    assert field in str(error), error
    return
  kind = train_settings.SETTINGS[field.split(".")[-1]].kind
  assert sane(value, kind), f"{field}={value!r} was taken"


def sane(value, kind):
  """Whether a value that was taken is finite and of its kind."""
  text = str(kind)
  if value is None:
    return "None" in text
  if isinstance(value, bool):
    return "bool" in text
  if isinstance(value, str):
    return "str" in text
  if isinstance(value, int):
    return "int" in text or "float" in text
  return isinstance(value, float) and "float" in text and math.isfinite(value)


# Some attacks keep an array of their steps.
SMALL_OR_HUGE = NUMBERS.filter(lambda v: not isinstance(v, int) or not 2**12 < abs(v) < 2**31)
ATTACKS = [name for name in attacks.REGISTRY if name != "latent_descent"]


def _logits(keys, x):
  return x.reshape(len(x), -1)[:, :3]


LOGITS = jax.tree_util.Partial(_logits)


def hyperparameters(name):
  parameters = inspect.signature(attacks.REGISTRY[name]).parameters.values()
  return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", ATTACKS)
@settings(QUICK, max_examples=30)
@given(data=st.data())
def test_a_hyperparameter_of_an_attack_is_taken_or_refused_by_name(name, data):
  every = hyperparameters(name)
  field, value = data.draw(st.sampled_from(sorted(every))), data.draw(SMALL_OR_HUGE)
  needed = {"eps": 0.1} if attacks.takes_eps(name) else {}
  try:
    attacks.build(name, LOGITS, **{**needed, field: value})
  except ValueError as error:
    named = (field, field.replace("_", " ").removeprefix("rel "), "step size")
    assert any(each in str(error) for each in named), f"{field}={value!r}: {error}"
    return
  assert sane(value, every[field].annotation), f"{field}={value!r} was taken"


MODELS = [(name, p) for name in ("gfz", "cvae", "cnn")
          for p in inspect.signature(models.REGISTRY[name]).parameters
          if p not in ("image_shape", "num_classes", "class_prior", "factorisation")]  # fmt: skip


@pytest.mark.parametrize(("name", "field"), MODELS)
@QUICK
@given(value=NUMBERS.filter(lambda v: not isinstance(v, int) or abs(v) < 2**20))
def test_a_hyperparameter_of_a_model_is_taken_or_refused_by_name(name, field, value):
  try:
    models.build(name, image_shape=(4, 4, 1), num_classes=3, **{field: value})
  except ValueError as error:
    assert field in str(error), error
    return
  kind = inspect.signature(models.REGISTRY[name]).parameters[field].annotation
  assert value == () or sane(value, kind), f"{field}={value!r} was taken"


EVALUATION = [name for name, _ in leaves(evaluation_config())
              if name.split(".")[0] not in ("attack_model", "model")]  # fmt: skip


@pytest.mark.parametrize("field", EVALUATION)
@QUICK
@given(value=NUMBERS)
def test_an_evaluation_setting_is_taken_or_refused_by_name(field, value):
  config = changed(evaluation_config(), {field: value})
  try:
    check_evaluation(config)
  except ValueError as error:
    assert field.split(".")[-1] in str(error), f"{field}={value!r}: {error}"
    return
  assert value == () or isinstance(value, Real | str | None)
  assert not isinstance(value, float) or math.isfinite(value), f"{field}={value!r} was taken"


def check_evaluation(config):
  """What launch/evaluate.py checks before it reads a model."""
  evaluation_settings.check(config)
  evaluator = module("launch.evaluate")
  fields = {n: config[n] for n in evaluator.Protocol._fields if n != "clean"}
  check_protocol(evaluator.Protocol(**fields, clean=tuple(config["clean"])), {})
  specs = evaluator.specs(config["attacks"])
  assert all(isinstance(spec, AttackSpec) for spec in specs)
  check_specs(specs)
