"""The zoo of generative and discriminative MNIST classifiers, as published and as it holds.

  python launch/sweep.py --config=configs/sweeps/nus.py:cpu --workdir=runs/nus
  python launch/report.py --workdirs=runs/nus --name=nus_probabilities --honest=nus_honest \\
    --file=nus --published=docs/published/nus.json --out=docs/results
  python launch/report.py --workdirs=runs/nus --name=nus_probabilities_100 \\
    --honest=nus_honest_100 --file=nus_100 --published=docs/published/nus.json \\
    --out=docs/results/nus_100  # of the cpu variant

26 trainings, published versions among them, and of each a clean evaluation, the published protocol
(configs/attacks/nus_probabilities.py; through the published gradient, that of a density at bits,
and of the CNN-VAEs none through the likelihood) and the honest one (configs/attacks/nus_honest.py:
what was detached, or followed another gradient, in a published version is attacked by the right
one; the generative Ising model through both of its own, nus_honest grades the images of
nus_honest_flip with those it finds). The CNN-VAEs draw anew for each query where they are
published; both protocols keep each image's draw. Anew they draw in nus_probabilities_fresh and,
attacked by expectations over their draws, in nus_honest_fresh. full: the first 1,000 test images.

cpu: short attacks, convolutional networks and the mixture that a grid chooses as published without
Carlini and Wagner (hours each) and honest by attacks that meet what cheaper ones have left
(configs/attacks/nus_honest_cascade.py); clean numbers are of all images, those of the CNN-VAEs in
two draws. Their decoder runs for every class of each image: they have the first 100 only, in
evaluations with _100 behind their names (as published without Carlini and Wagner, and with 100
levels of contrast and blur in the place of 1,000; honest by an ensemble for each eps; drawn anew by
PGD and contrast at an eps or two), and so have the networks that they are held against, and the
mixtures of factor analysers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs.sweeps import base

SHALLOW = ("gaussian_naive_bayes", "bernoulli_naive_bayes", "ising", "gaussian_mixture",
           "logistic_regression", "logistic_regression_binary")  # fmt: skip
NETWORKS = ("mlp", "cnn", "cnn_binary", "cnn_denoised", "vae_classifier",
            "pretrained_vae_classifier")  # fmt: skip
# Carlini and Wagner as published, 9 searches of 1,000 steps, takes hours of these on a CPU.
SLOW = ("gaussian_mixture_grid", "cnn", "cnn_binary", "cnn_denoised", "cnn_denoised_published",
        "vae_classifier", "pretrained_vae_classifier")  # fmt: skip
# Of the generative models that have 1,000 images these keep most.
MIXTURES = ("gaussian_mixture_factors", "gaussian_mixture_grid")
CNN_VAES = ("gfz", "gfz_binary", "gfz_crf", "gfz_crf_published")
ONE_SHOT = ("model.method=one_shot", "model.beta=3.0", "model.centre=0.1307", "model.detached=True")
# Run -> config, variant and changed fields: what the paper has, where it is another model, and
# right ones beside those.
VERSIONS = {
  "gaussian_naive_bayes_published": ("gaussian_naive_bayes", "published"),
  "gaussian_naive_bayes_binarized": ("gaussian_naive_bayes", "binarized"),
  "ising_published": ("ising", "published"),
  "ising_discriminative": ("ising", "discriminative"),
  "gaussian_mixture_factors": ("gaussian_mixture", "factors"),
  "gaussian_mixture_grid": ("gaussian_mixture", "grid"),
  "logistic_regression_published": ("logistic_regression", "published"),
  "cvae_log_mean_exp": ("cvae", None, "model.rule=log_mean_exp"),
  "cnn_denoised_published": ("cnn_denoised", None, *ONE_SHOT),
  "gfz_crf_published": ("gfz_crf", None, "model.crf=row_and_column"),
}
PLAIN = (*SHALLOW, *NETWORKS, "cvae", *CNN_VAES)
# What honest attacks are told of a published version in the place of its own gradient.
UNMASKED = {
  "cnn_denoised_published": ("attack_model.detached=False", "attack_model.backward=field"),
  "gaussian_naive_bayes_published": ("attack_model.backward=flip",),
}
DETACHED = "attack_model.detached_target=True"
STRAIGHT_THROUGH = "attack_model.backward=straight_through"
# What the published protocol is told of right versions: its gradients, which were theirs too.
MASKED = {
  **dict.fromkeys(("gaussian_naive_bayes_binarized", "ising"), (STRAIGHT_THROUGH,)),
  **dict.fromkeys(CNN_VAES, (DETACHED,)),
}
# These have two gradients, of which neither finds all that the other does.
TWO_GRADIENTS = ("ising",)
PROBABILITIES, HONEST = "configs/attacks/nus_probabilities.py", "configs/attacks/nus_honest.py"
CASCADE = "configs/attacks/nus_honest_cascade.py"
ENSEMBLE, FRESH = "configs/attacks/nus_honest_ensemble.py", "configs/attacks/nus_honest_fresh.py"
PROBABILITIES_FRESH = "configs/attacks/nus_probabilities_fresh.py"
# Carlini and Wagner, which the paper has not run on CNN-VAEs either ("weeks").
NO_SEARCHES = "attacks.carlini_wagner.eps=()"
# Without it, and with 100 levels of contrast and blur in the place of 1,000.
FEWER = (
  "num_images=100",
  NO_SEARCHES,
  "attacks.linear_contrast.num_steps=100",
  "attacks.gaussian_blur.num_steps=100",
)


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  base.check_variant(arg)
  models = base.grid([name for name in PLAIN if name not in VERSIONS], ("mnist",), arg)
  for run, (name, variant, *fields) in VERSIONS.items():
    own = arg if variant is None or arg == "smoke" else variant
    models[f"{run}_mnist"] = base.model(f"configs/{name}_mnist.py", own, *fields)
  whole = "smoke" if arg == "smoke" else ""  # all test images
  every = list(dict.fromkeys((*PLAIN, *VERSIONS)))
  cheap = [name for name in every if name not in CNN_VAES]
  draws = {name: ("clean_draws=2",) for name in CNN_VAES}
  attacks = _by_fields("clean", "configs/attacks/clean.py", whole, (), every, draws)
  if arg == "cpu":
    images, short = "num_images=1000", [*MIXTURES, *NETWORKS, *CNN_VAES]
    attacks |= _published(arg, cheap, "", images, slow=SLOW)
    slow = [name for name in cheap if name in SLOW]
    attacks |= _honest(arg, HONEST, [name for name in cheap if name not in slow], "", images)
    attacks |= _honest(arg, CASCADE, slow, "", images)
    attacks |= _published(arg, short, "_100", *FEWER) | _honest(arg, ENSEMBLE, short, "_100")
  else:
    attacks |= _published(arg, every, "") | _honest(arg, HONEST, every, "")
  return base.get_config(models, attacks)


def _published(
  arg: str, names: Sequence[str], suffix: str, *fields: str, slow: Sequence[str] = ()
) -> dict[str, Any]:
  """The published protocol, of the CNN-VAEs by draws anew too."""
  own = dict.fromkeys(slow, (NO_SEARCHES,)) | MASKED
  found = _by_fields(f"nus_probabilities{suffix}", PROBABILITIES, arg, fields, names, own)
  if drawn := [f"{run}_mnist" for run in CNN_VAES if run in names]:
    found[f"nus_probabilities_fresh{suffix}"] = base.attack(
      PROBABILITIES_FRESH, arg, DETACHED, models=drawn
    )
  return found


def _honest(
  arg: str, config: str, names: Sequence[str], suffix: str, *fields: str
) -> dict[str, Any]:
  """The honest protocol, for the Ising model after one that follows its other gradient."""
  name, flip = f"nus_honest{suffix}", f"nus_honest_flip{suffix}"
  twice = [f"{run}_mnist" for run in TWO_GRADIENTS if run in names]
  others = [run for run in names if run not in TWO_GRADIENTS]
  found = _by_fields(name, config, arg, fields, others, UNMASKED)
  if twice:
    kept, both = "keep_images=1000", (STRAIGHT_THROUGH, f"transfer_from=(':{flip}',)")
    found[flip] = base.attack(
      config, arg, *fields, kept, "attack_model.backward=flip", models=twice
    )
    found[f"{name}_both"] = base.attack(
      config, arg, *fields, *both, models=twice, name=name, after=[flip]
    )
  if drawn := [f"{run}_mnist" for run in CNN_VAES if run in names]:
    found[f"nus_honest_fresh{suffix}"] = base.attack(FRESH, arg, *fields, models=drawn)
  return found


def _by_fields(
  name: str,
  config: str,
  arg: str,
  fields: Sequence[str],
  names: Sequence[str],
  own: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
  """An evaluation of one name, for each set of fields that models have of their own."""
  models: dict[tuple[str, ...], list[str]] = {}
  for run in names:
    models.setdefault(tuple(own.get(run, ())), []).append(f"{run}_mnist")
  return {
    f"{name}_of_{runs[0]}": base.attack(config, arg, *fields, *extra, models=runs, name=name)
    for extra, runs in models.items()
  }
