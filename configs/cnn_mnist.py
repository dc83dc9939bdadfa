"""CNN on MNIST.

  python launch/train.py --config=configs/cnn_mnist.py:cpu --workdir=runs/cnn_mnist

full: test accuracy >= 99.0%, on an accelerator. cpu: >= 98.5%, at most 15 minutes on 2 cores.
smoke: seconds, chance.

adversarial: trained against PGD at eps 0.3 (Madry et al. 2018), on an accelerator: robust accuracy
>= 90% under 40 steps of PGD. adversarial_cpu: 10 steps of PGD, 5 epochs, 18 minutes on 2 cores;
docs/results/mnist/sanity.md has what it holds.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke", "adversarial", "adversarial_cpu"."""
  variants = {"adversarial": base.adversarial, "adversarial_cpu": adversarial_cpu}
  return base.variant(base.cnn("mnist"), arg, variants)


def adversarial_cpu(config: ConfigDict) -> None:
  """A quarter of the steps, each five times as long; without a warm-up it stays at chance."""
  base.cpu(config)
  base.adversarial(config, warmup_steps=1100, num_steps=10, step_size=0.05)
