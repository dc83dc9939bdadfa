"""`nus_honest.py` in which each attack meets only the images that cheaper ones have left.

  python launch/evaluate.py --config=configs/attacks/nus_honest_cascade.py:cpu \\
    --workdir=runs/cnn_mnist

The attacks and the worst case are the same, and so is the name; of a network most of the time is
Square's on images that APGD has broken. What stands beside a single attack counts what it was
handed. One-step attacks, PGD, and minimum norms meet every image.
"""

from ml_collections import ConfigDict

from configs.attacks import nus_honest

# The expensive ones last; noise, which finds little, at the end.
ORDER = {
  "linf": ("pgd_linf", "flips_linf", "apgd_linf", "apgd_dlr_linf", "apgd_t_linf", "square_linf",
           "uniform_noise"),
  "l2": ("pgd_l2", "flips_l2", "apgd_l2", "apgd_dlr_l2", "apgd_t_l2", "square_l2",
         "gaussian_noise"),
}  # fmt: skip


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  config = nus_honest.get_config(arg)
  for order in ORDER.values():
    for place, label in enumerate(order[1:], start=1):
      config.update({"attacks": {label: {"after": order[:place]}}})
  return config
