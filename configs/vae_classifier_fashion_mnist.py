"""VAE classifier on Fashion-MNIST.

  python launch/train.py --config=configs/vae_classifier_fashion_mnist.py:cpu \\
    --workdir=runs/vae_classifier_fashion_mnist

full: the protocol of MNIST, on an accelerator; cpu: minutes on 2 cores. smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.vae_classifier("fashion_mnist"), arg)
