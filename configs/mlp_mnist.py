"""Fully connected network on MNIST.

  python launch/train.py --config=configs/mlp_mnist.py --workdir=runs/mlp_mnist

full: test accuracy >= 98.0% after 20 epochs, minutes on 2 cores. cpu: >= 98.0% after 10. smoke:
seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return build("mnist", arg)


def build(data: str, arg: str) -> ConfigDict:
  """The config of a data set of that size."""
  model = {"name": "mlp", "hidden_sizes": (512, 512), "dropout_rate": 0.0}
  config = base.get_config(data, model)
  train = {"batch_size": 100, "num_epochs": 20, "learning_rate": 1e-3, "schedule": "cosine"}
  config.update({"train": train})
  return base.variant(config, arg, {"cpu": cpu})


def cpu(config: ConfigDict) -> None:
  """Half the epochs."""
  config.update({"train": {"num_epochs": 10}})
