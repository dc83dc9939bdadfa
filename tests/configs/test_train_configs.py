import importlib.util
from pathlib import Path

import pytest

from gencls import models
from gencls.training import optimizers

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
