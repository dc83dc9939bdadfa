"""GFZ on the embedded 8x8 handwritten digits, small enough for every machine.

  python launch/train.py --config=configs/gfz_digits.py --workdir=runs/gfz_digits

full and cpu: test accuracy >= 97%, about half a minute on 2 cores. smoke: seconds, chance.

The Gaussian with a learned scale, not the squared error of the MNIST configs: its fixed variance of
1/2 tells 64 pixels too little about the class (89%).
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke"."""
  config = base.deep_latent("gfz", "digits")
  base.digits(config, num_epochs=120, learning_rate=2e-3)
  config.update({"model": {"likelihood": "gaussian"}})
  return base.variant(config, arg, {"cpu": base.full})
