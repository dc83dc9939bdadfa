"""Pre-trained VAE classifier on MNIST.

  python launch/train.py --config=configs/pretrained_vae_classifier_mnist.py:cpu \\
    --workdir=runs/pretrained_vae_classifier_mnist

full (not run yet): test accuracy >= 95.5% is wanted after 20 epochs of the VAE and 40 of
the head, on an accelerator.
cpu: 8 epochs of the VAE and 32 of the head, test accuracy 96.1% (seed 0), 25 minutes on one core.
smoke: seconds, chance.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.variant(base.pretrained_vae_classifier("mnist"), arg)
