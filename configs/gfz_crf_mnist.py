"""GFZ of binary images with a CRF on the decoder's logits on MNIST.

  python launch/train.py --config=configs/gfz_crf_mnist.py:cpu --workdir=runs/gfz_crf_mnist

full (not run yet): test accuracy >= 97.0% is wanted, on an accelerator.
cpu: test accuracy 97.4% (seed 0), minutes on 2 cores.
smoke: seconds, chance.

The published kernel: --config.model.crf=row_and_column
"""

from ml_collections import ConfigDict

from configs import base
from configs.composed import composed


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  config = base.variant(base.deep_latent("gfz", "mnist"), arg)
  return composed(config, "gfz_crf", at=0.5, crf="centre")
