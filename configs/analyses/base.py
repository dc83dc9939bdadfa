"""Every key of a config of analyses. Config files start from `get_config` and choose.

The command line changes any of them: --config.interpolation.num_pairs=1487. A key that is not here
does not exist.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gencls.names import unknown_name

VARIANTS = ("full", "cpu", "smoke")


def get_config(run: Sequence[str], arg: str = "") -> ConfigDict:
  """All keys, locked.

  Args:
    run: the analyses, names in `gencls.analyses.REGISTRY`.
    arg: "" or "full": every image; "cpu": the first 200; "smoke": the first 16, few of all.

  Raises:
    ValueError: if the variant is unknown.
  """
  if arg not in ("", *VARIANTS):
    raise ValueError(unknown_name("config variant", arg, VARIANTS))
  config = ConfigDict(
    {
      "run": tuple(run),
      "split": "test",
      "num_images": placeholder(int),  # always the first n; None: all
      "seed": 0,
      "batch_size": placeholder(int),  # None: by the backend
      "step": "best",  # or "latest": which checkpoint
      # Hyperparameters of the model; None: as trained. K, and the rule of a CVAE.
      "model": {"num_samples": placeholder(int), "rule": placeholder(str)},
      # In gencls.detect.STATISTICS; the first that the model can have decides what is accepted.
      "detectors": ("marginal", "joint", "typicality", "kl"),
      "false_positive_rate": 0.05,  # of the fitting images, at most
      "fitted_on": "validation",  # or "train"
      "num_fitting_images": placeholder(int),  # at most the first n of that split; None: all
      # At most, while images last: none is in two pairs, and half are kept to compare means with.
      "interpolation": {"num_pairs": 1487, "num_steps": 101},
      "class_gap": {},
      "ambiguous": {"num_pairs": 2500},
      # Other sets of test images: of another shape, or not on this machine, they are left out.
      "out_of_distribution": {
        "sets": ("fashion_mnist", "mnist", "bg_mnist_0", "bg_mnist_5", "constant", "uniform_noise")
      },
      "robustness": {"evaluations": ()},  # names in results/; (): all that there are
    }
  )
  if arg == "cpu":
    config.update({"num_images": 200, "num_fitting_images": 1000})
    config.update({"interpolation": {"num_pairs": 100, "num_steps": 21}})
    config.update({"ambiguous": {"num_pairs": 50}})
  if arg == "smoke":
    config.update({"num_images": 16, "num_fitting_images": 64})
    config.update({"interpolation": {"num_pairs": 4, "num_steps": 5}})
    config.update({"ambiguous": {"num_pairs": 4}})
  return config.lock()
