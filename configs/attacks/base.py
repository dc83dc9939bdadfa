"""Every key of an evaluation config. Config files start from `get_config` and add their attacks.

The command line changes any of them: --config.attacks.pgd.num_steps=100; an attack with no eps,
--config.attacks.pgd.eps="()", is left out. A key that is not here does not exist.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from gencls.names import unknown_name

VARIANTS = ("full", "cpu", "smoke")


def attack(
  name: str,
  eps: Sequence[float],
  *,
  norm: str = "linf",
  loss: str = "margin",
  eot_samples: int = 1,
  grade_as: str | None = None,
  target: str | int | None = None,
  against: str | None = None,
  models: str | None = None,
  loss_of_posteriors: str | None = None,
  after: Sequence[str] | None = None,
  **hyperparameters: Any,
) -> dict[str, Any]:
  """One attack over an eps grid; its randomness follows from the threat model.

  Args:
    name: a name in `gencls.attacks.REGISTRY`, or "foolbox:<name>" with a name in `foolbox.attacks`.
      A name that does not exist fails when the config is used.
    eps: the grid, in the units of images in [0, 1]. A minimum-norm attack is run once, and its
      curve is read at these eps.
    norm: of the ball, or that distances are measured in.
    loss: what it maximises, of the logits in nats.
    eot_samples: draws per query under a fresh seed.
    grade_as: of minimum-norm attacks: "distance" (the default; broken at eps where the graded image
      is wrong and no further away) or "clip" (clipped to each eps and predicted again).
    target: None (untargeted), a rule of `gencls.evaluation.targets` ("next", "random",
      "least_likely", "most_likely") or a class; on the command line
      --config.attacks.<label>.target=3.
    against: None ("classifier") or "detector": the image has to be accepted by config.detector
      too, and the loss pursues both.
    models: "thresholded": only models that threshold their input are attacked so; None: all are.
    loss_of_posteriors: in the place of `loss` for models that give p(y | x) alone; None: `loss`.
    after: labels of other attacks in this norm: what they break at an eps is handed on, and not
      attacked again. The worst case is the same; numbers on unseen draws are of fewer candidates.
      Known seed, no detector. On the command line --config.attacks.square.after="('pgd',)".
    **hyperparameters: of the attack, see its docstring.
  """
  return {
    "name": name,
    "norm": norm,
    "eps": tuple(float(e) for e in eps),
    "loss": loss,
    "eot_samples": eot_samples,
    "grade_as": grade_as if grade_as is not None else placeholder(str),
    "target": str(target) if target is not None else placeholder(str),  # a class by its digits
    "against": against if against is not None else placeholder(str),
    "models": models if models is not None else placeholder(str),
    "loss_of_posteriors": (
      loss_of_posteriors if loss_of_posteriors is not None else placeholder(str)
    ),
    "after": tuple(after) if after else placeholder(tuple),
    "accept_weight": placeholder(float),  # of the detector's score in the loss; None: 1
    "max_seconds": placeholder(float),  # of the whole cell, shared out among its images; None: all
    "max_queries": placeholder(int),  # forward and backward passes for each image; None: all
    **hyperparameters,
  }


def get_config(name: str, attacks: Mapping[str, dict[str, Any]], *, fresh: bool = False,
               arg: str = "", detector: str | None = None, probe_gradient: bool = True,
               surface_images: int = 0,
               regrade_samples: Sequence[int] = ()) -> ConfigDict:  # fmt: skip
  """All keys of an evaluation config, locked.

  Args:
    name: of the evaluation; results go to workdir/results/<name>/.
    attacks: label -> `attack(...)`.
    fresh: whether the threat model is a fresh seed, the mean over draws; else a known seed.
    arg: "" or "full": every image; "cpu": the first 200; "smoke": the first 16, few steps.
    detector: a name in `gencls.detect.STATISTICS`; None: no detector.
    probe_gradient: whether the gradient is held against the loss, see
      `gencls/evaluation/gradient_cell.py`.
    surface_images: of how many images the loss surface is drawn, see
      `gencls/evaluation/surface_cell.py`.
    regrade_samples: numbers of importance samples under which the worst case is graded again, for
      models that have such a number, see `gencls/evaluation/regrade_cell.py`.

  Raises:
    ValueError: if the variant is unknown.
  """
  if arg not in ("", *VARIANTS):
    raise ValueError(unknown_name("config variant", arg, VARIANTS))
  config = ConfigDict(
    {
      "name": name,
      "split": "test",
      "num_images": placeholder(int),  # always the first n; None: all
      "seed": 0,
      "threat": "fresh_seed" if fresh else "known_seed",
      "select_draws": 5 if fresh else 1,  # choose the candidate per image
      "grade_draws": 20 if fresh else 1,  # are reported; at least 20 for a fresh seed
      "clean_draws": 5,
      "clean": (
        "accuracy",
        "label_nll_nats",
        "ece",
        "loss_nats",
        "elbo_nats",
        "log_marginal_nats",
        "bpd",
      ),
      "batch_size": placeholder(int),  # None: by the backend
      "keep_images": 32,  # adversarial images kept in each cell
      "step": "best",  # or "latest": which checkpoint
      # Hyperparameters of the graded model; None: as trained. K, and the rule of a CVAE.
      "model": {"num_samples": placeholder(int), "rule": placeholder(str)},
      "attack_model": {  # the same as the attack sees it; None: as it is graded
        "num_samples": placeholder(int),  # K
        "backward": placeholder(str),  # another gradient of the same function: "flip" of Ising
        "detached_target": placeholder(bool),  # of GFZ and its kin, as published
        "detached": placeholder(bool),  # of a denoiser; published: True, no gradient passes it
      },
      "detector": _detector(detector),
      # What sanity checks look at beside the attacks; none of it changes an attack's numbers.
      "probe_gradient": probe_gradient,  # hold the gradient against the loss, by differences
      # The margin over a plane through the first images, within eps (linf), points x points.
      "surface": {"num_images": surface_images, "eps": 0.3, "points": 21},
      "regrade_samples": tuple(regrade_samples),  # K of the worst case again, of the kept images
      # Finished evaluations of the same images, of other models ("workdir:evaluation") or of this
      # run (":evaluation"): their adversarial images are graded here too. They have to keep them
      # all (keep_images).
      "transfer_from": (),
      "attacks": {k: _short(v) if arg == "smoke" else v for k, v in attacks.items()},
    }
  )
  if arg == "cpu":
    config.num_images = 200
  if arg == "smoke":
    config.update({"num_images": 16, "clean_draws": 2, "keep_images": 4})
  return config.lock()


def _detector(name: str | None) -> dict[str, Any]:
  """What images are accepted; beside accuracy the tables then have "misclassified and accepted"."""
  return {
    "name": name if name is not None else placeholder(str),  # None: no detector
    "per_class": False,  # a threshold for each predicted class, or one for all
    "threshold": "quantile",  # or "mean_std" or "fixed"
    "false_positive_rate": 0.05,  # quantile: at most this share of the fitting images is rejected
    "alpha": 1.5,  # mean_std: standard deviations below the mean
    "bits_per_dim": placeholder(float),  # fixed: the most that is accepted, of "marginal"
    "fitted_on": "validation",  # or "train"
    "num_images": placeholder(int),  # at most the first n of that split; None: all
    "classes": "prediction",  # or "label": the class that a fitting image stands for
    "only_correct": False,  # fit to images that are classified right
  }


# What the smoke variant makes of an attack, where it has the setting.
_SMOKE = {
  "num_steps": 2,
  "binary_search_steps": 2,
  "num_samples": 20,
  "steps": 2,
  "num_queries": 10,
  "num_targets": 2,
}


def _short(settings: dict[str, Any]) -> dict[str, Any]:
  """An attack of two steps at two eps."""
  short = {name: value for name, value in _SMOKE.items() if name in settings}
  return {**settings, **short, "eps": settings["eps"][:2]}
