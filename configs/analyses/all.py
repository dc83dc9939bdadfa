"""Every analysis of gencls.analyses on a trained run.

  python launch/analyse.py --config=configs/analyses/all.py --workdir=runs/gfz_mnist

full: all test images, and the pairs of arXiv:1906.01171 (1,487 paths of 101 steps). cpu: the first
200 test images, 1,000 validation images, at most 100 paths of 21 steps: GFZ on MNIST takes minutes
on 2 cores. `--config.run="('interpolation','class_gap')"` takes some of them. Known seed: one draw
of a randomised classifier.
"""

from ml_collections import ConfigDict

from configs.analyses import base
from gencls.analyses import REGISTRY


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  return base.get_config(tuple(REGISTRY), arg)
