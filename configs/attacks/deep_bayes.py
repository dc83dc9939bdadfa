"""White-box linf attacks of Li et al. 2019 (arXiv:1802.06552), and one honest attack beside them.

  python launch/evaluate.py --config=configs/attacks/deep_bayes.py:cpu --workdir=runs/gfz_mnist

As published: cross-entropy of the K-merged logits, fresh noise at every step, PGD 40 × 0.01 from a
random start to the last iterate. At eps = 0.5 those 40 steps cannot reach the far side of the ball:
`pgd_margin` has steps that scale with eps, a loss whose gradient does not vanish and averages of
ten draws. Fresh seed. Unlike the paper's one draw, grading is the mean over 20 draws and clean
errors count as errors. cpu: the first 200 test images; full: all 10,000, as published, for an
accelerator.
"""

from ml_collections import ConfigDict

from configs.attacks import base

EPS = (0.1, 0.2, 0.3, 0.4, 0.5)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  # A single lucky draw must not end an attack whose success is a mean over draws.
  pgd = {"num_steps": 40, "random_start": True, "early_stop": False}
  attacks = {
    "fgsm": base.attack("fgsm", EPS, loss="cross_entropy"),
    "pgd": base.attack("pgd", EPS, loss="cross_entropy", step_size=0.01, keep_best=False, **pgd),
    "pgd_margin": base.attack("pgd", EPS, rel_step_size=0.1, eot_samples=10, **pgd),
  }
  return base.get_config("deep_bayes", attacks, fresh=True, arg=arg)
