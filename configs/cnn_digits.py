"""CNN on the embedded 8x8 handwritten digits, small enough for every machine.

  python launch/train.py --config=configs/cnn_digits.py --workdir=runs/cnn_digits

full and cpu: test accuracy >= 97%, seconds on 2 cores. smoke: seconds, chance.
adversarial: trained against PGD at eps 0.2, a minute on 2 cores.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (the same here), "smoke", "adversarial"."""
  config = base.cnn("digits")
  base.digits(config)
  return base.variant(config, arg, {"cpu": base.full, "adversarial": adversarial})


def adversarial(config: ConfigDict) -> None:
  """A tenth of the steps, images being small."""
  base.adversarial(config, eps=0.2, num_steps=10, step_size=0.05)
