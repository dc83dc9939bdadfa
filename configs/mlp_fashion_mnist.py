"""Fully connected network on Fashion-MNIST.

  python launch/train.py --config=configs/mlp_fashion_mnist.py --workdir=runs/mlp_fashion_mnist

full: 20 epochs, minutes on 2 cores; accuracy is reported, none is published. cpu: 10 epochs. smoke:
seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  model = {"name": "mlp", "hidden_sizes": (512, 512), "dropout_rate": 0.0}
  config = base.get_config("fashion_mnist", model)
  train = {"batch_size": 100, "num_epochs": 20, "learning_rate": 1e-3, "schedule": "cosine"}
  config.update({"train": train})
  return base.variant(config, arg, {"cpu": cpu})


def cpu(config: ConfigDict) -> None:
  """Half the epochs."""
  config.update({"train": {"num_epochs": 10}})
