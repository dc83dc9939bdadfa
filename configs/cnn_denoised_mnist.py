r"""CNN behind an Ising denoiser on MNIST.

  python launch/train.py --config=configs/cnn_denoised_mnist.py:cpu \
    --workdir=runs/cnn_denoised_mnist

full: as the CNN, on an accelerator; published: 96%.
cpu: test accuracy 99.0% (seed 0), at most 15 minutes on 2 cores.
smoke: seconds, chance.

The published denoiser: --config.model.method=one_shot --config.model.beta=3.0
--config.model.centre=0.1307 --config.model.detached=True
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import DENOISER, composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.cnn("mnist"), arg)
  return composed(config, "cnn_denoised", **DENOISER)
