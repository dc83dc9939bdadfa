"""Logistic regression behind a threshold on MNIST, by L-BFGS.

  python launch/train.py --config=configs/logistic_regression_binary_mnist.py \\
    --workdir=runs/logistic_regression_binary_mnist

The discriminative counterpart of models on bits (naive Bayes, Ising): what they share with it is
the threshold's doing. Test accuracy 91.7%, none is published; minutes on 2 cores.
smoke, published: as without the threshold.
"""

from ml_collections import ConfigDict

from configs.composed import composed
from configs.logistic_regression_mnist import build


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "published"."""
  return composed(build("mnist", arg), "logistic_regression_binary", at=0.5)
