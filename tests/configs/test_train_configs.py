import importlib.util
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import data, models
from gencls.keys import example_keys
from gencls.train import num_steps
from gencls.training import optimizers
from gencls.types import FitData

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*_*.py"))
DATA = ("fashion_mnist", "mnist", "digits")  # the longer name first


def get_config(path, arg, monkeypatch):
  monkeypatch.syspath_prepend(str(CONFIGS.parent))
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


def test_every_model_has_a_config_for_both_sets():
  names = {path.stem for path in FILES}
  expected = {f"{model}_{data}" for model in models.REGISTRY for data in ("mnist", "fashion_mnist")}
  on_digits = set(models.REGISTRY) - {"gfy", "gbz", "gby", "dfz", "dbx"}
  assert expected | {f"{model}_digits" for model in on_digits} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configs_build_what_they_name(path, monkeypatch):
  for arg in ("", "full", "cpu", "smoke"):
    config = get_config(path, arg, monkeypatch).to_dict()
    data = next(name for name in DATA if path.stem.endswith(f"_{name}"))
    model = path.stem.removesuffix(f"_{data}")
    assert (config["model"]["name"], config["data"]["name"]) == (model, data)
    shape = (8, 8, 1) if data == "digits" else (28, 28, 1)
    models.build(**config["model"], image_shape=shape, num_classes=10)
    optimizers.learning_rates(
      learning_rate=config["train"]["learning_rate"],
      schedule=config["train"]["schedule"],
      warmup_steps=config["train"]["warmup_steps"],
      total_steps=100,
    )


# Hyperparameters whose default in the factory is not what the config of MNIST says, and why.
OTHERWISE = {
  "rule",  # CVAE: the config has the published one, the factory the one that estimates log p(x, y)
  "kl_warmup_steps",  # DBX alone needs it
  "l2",  # candidates for validation; a factory's fit has one, and needs no validation images
}


@pytest.mark.parametrize("name", sorted(models.REGISTRY))
def test_factories_default_to_what_their_configs_say(name, monkeypatch):
  config = get_config(CONFIGS / f"{name}_mnist.py", "", monkeypatch).to_dict()["model"]
  parameters = inspect.signature(models.REGISTRY[name]).parameters
  differing = {
    each
    for each, value in config.items()
    if each != "name" and parameters[each].default not in (value, inspect.Parameter.empty)
  }
  assert differing <= OTHERWISE


def test_the_grid_of_the_mixture_has_the_published_point_and_what_stands_beside_it(monkeypatch):
  path = CONFIGS / "gaussian_mixture_mnist.py"
  published, factors, grid = (
    get_config(path, arg, monkeypatch).to_dict()["model"] for arg in ("", "factors", "grid")
  )
  models.build(**grid, image_shape=(28, 28, 1), num_classes=10)
  for name in ("covariance", "num_components"):
    assert published[name] in grid[name] and factors[name] in grid[name]
  assert published["reg_covar"] in grid["reg_covar"]
  assert max(factors["reg_covar"]) in grid["reg_covar"]


@pytest.mark.parametrize("arg", ["", "cpu", "smoke"])
@pytest.mark.parametrize("data_name", DATA)
def test_pretrained_vaes_and_their_heads_both_have_their_share(data_name, arg, monkeypatch):
  path = CONFIGS / f"pretrained_vae_classifier_{data_name}.py"
  config = get_config(path, arg, monkeypatch).to_dict()
  num_examples = len(data.load("digits", "train").labels) if data_name == "digits" else 55_000
  given = {name: config["train"][name] for name in ("batch_size", "num_epochs", "max_steps")}
  _, total = num_steps(num_examples, **given)
  steps, stuck_after = config["model"]["pretrain_steps"], config["train"]["stuck_after"]
  assert 0.2 * total <= steps <= 0.5 * total
  if data_name == "mnist" and arg != "smoke":
    assert total - steps >= 32 * 550  # epochs of the head, fewer leave it at 92%
  assert stuck_after is None or total < stuck_after or steps > stuck_after


def test_configs_are_locked_and_typed(monkeypatch):
  config = get_config(CONFIGS / "gfz_mnist.py", "", monkeypatch)
  with pytest.raises(AttributeError, match='Did you mean "seed"'):
    config.sede = 1
  with pytest.raises(KeyError):
    config.update({"train": {"batchsize": 3}})
  with pytest.raises(TypeError):
    config.update({"train": {"num_epochs": 0.5}})
  with pytest.raises(ValueError, match="did you mean 'smoke'"):
    get_config(CONFIGS / "gfz_mnist.py", "smoek", monkeypatch)


def few_images(name):
  """100 digits as they are, or 28×28 images of ten classes where the data may not be at hand."""
  if name == "digits":
    split = data.load("digits", "train")
    return data.to_float(split.images[:100], split.num_levels), split.labels[:100]
  rng = np.random.default_rng(0)
  return rng.random((100, 28, 28, 1), np.float32), np.arange(100) % 10


@pytest.mark.slow
@pytest.mark.parametrize(
  "path", [each for each in FILES if not each.stem.endswith("_mnist")
           or each.stem.endswith("fashion_mnist")], ids=lambda path: path.stem
)  # fmt: skip
def test_every_model_learns_and_scores_on_digits_and_fashion_mnist(path, monkeypatch):
  config = get_config(path, "smoke", monkeypatch).to_dict()
  x, y = (jnp.asarray(each) for each in few_images(config["data"]["name"]))
  prior = np.bincount(y, minlength=10) / len(y)
  classifier = models.build(
    **config["model"], image_shape=x.shape[1:], num_classes=10, class_prior=prior
  )
  keys, some = example_keys(0, jnp.arange(10)), slice(0, 10)
  if config["train"]["method"] == "fit":
    params = classifier.fit(jax.random.key(0), FitData(x, y, x[:50], y[:50])).params
  else:
    params = classifier.init(jax.random.key(0), x, y)
    loss = lambda params: jnp.mean(  # noqa: E731
      classifier.loss(params, keys, x[some], y[some], jnp.int32(0)).total
    )
    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
    assert all(jnp.isfinite(leaf).all() for leaf in slopes)
    assert any(jnp.any(leaf != 0) for leaf in slopes)
  if classifier.prepare:
    params = classifier.prepare(params, jax.random.key(1))
  logits = classifier.logits(params, keys, x[some])
  assert logits.shape == (10, 10) and jnp.isfinite(logits).all()
  assert jnp.std(logits, axis=1).min() > 0
