"""Logistic regression by L-BFGS on MNIST.

  python launch/train.py --config=configs/logistic_regression_mnist.py \\
    --workdir=runs/logistic_regression_mnist

Test accuracy >= 92%, a minute or two on 2 cores. smoke: three iterations. published: by SGD, 25
epochs, without a penalty, from PyTorch's start; 88.0 +- 0.5%.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "published"."""
  return build("mnist", arg)


def build(data: str, arg: str) -> ConfigDict:
  """The config of any data set."""
  config = base.fitted(
    "logistic_regression",
    data,
    # Candidates for the whole training set, 1 / C of scikit-learn; validation accuracy decides.
    l2=(1.0, 10.0, 100.0, 1000.0),
    tol=1e-4,
    max_iterations=1000,
    init_scale=0.0,
  )
  return base.variant(config, arg, {"cpu": base.full, "smoke": smoke, "published": published})


def smoke(config: ConfigDict) -> None:
  """Seconds, to see that everything runs."""
  base.smoke(config)
  config.update({"model": {"l2": (1.0,), "max_iterations": 3}})


def published(config: ConfigDict) -> None:
  """The published training."""
  train = {
    "method": "gradient",
    "optimizer": "sgd",
    "batch_size": 100,
    "num_epochs": 25,
    "learning_rate": 1e-3,
  }
  config.update({"train": train, "model": {"init_scale": 1.0}})
