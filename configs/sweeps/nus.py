"""The zoo of generative and discriminative MNIST classifiers, as published and as it holds.

  python launch/sweep.py --config=configs/sweeps/nus.py:cpu --workdir=runs/nus
  python launch/report.py --workdirs=runs/nus --name=nus_probabilities --honest=nus_honest \\
    --file=nus --published=docs/published/nus.json --out=docs/results
  python launch/report.py --workdirs=runs/nus --name=nus_probabilities_100 \\
    --honest=nus_honest_100 --file=nus_100 --published=docs/published/nus.json \\
    --out=docs/results/nus_100  # of the cpu variant

25 trainings, published versions among them, and of each a clean evaluation, the published protocol
to the letter (configs/attacks/nus_probabilities.py; of the CNN-VAEs, whose published likelihood
passes no gradient, through a detached one) and the honest one (configs/attacks/nus_honest.py: what
was detached, or followed another gradient, in a published version is attacked by the right one; the
Ising models through both of theirs, nus_honest grades the images of nus_honest_flip with its own).
The CNN-VAEs draw anew for each query where they are published: nus_honest_fresh attacks them so,
by expectations over their draws. full: the first 1,000 test images.

cpu: short attacks, convolutional networks as published without Carlini and Wagner (hours each);
clean numbers are of all images, those of the CNN-VAEs in two draws. Their decoder runs for every
class of each image: they have the first 100 only, in evaluations with _100 behind their names (as
published without Carlini and Wagner, and with 100 levels of contrast and blur in the place of
1,000; honest by an ensemble for each eps; by expectations 20 steps of PGD at two eps), and so have
the networks that they are held against.
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs.sweeps import base

SHALLOW = ("gaussian_naive_bayes", "bernoulli_naive_bayes", "ising", "gaussian_mixture",
           "logistic_regression", "logistic_regression_binary")  # fmt: skip
NETWORKS = ("mlp", "cnn", "cnn_binary", "cnn_denoised", "vae_classifier",
            "pretrained_vae_classifier")  # fmt: skip
# Carlini and Wagner as published, 9 searches of 1,000 steps, takes hours of these on a CPU.
CONVOLUTIONAL = ("cnn", "cnn_binary", "cnn_denoised", "cnn_denoised_published", "vae_classifier",
                 "pretrained_vae_classifier")  # fmt: skip
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
  "logistic_regression_published": ("logistic_regression", "published"),
  "cvae_log_mean_exp": ("cvae", None, "model.rule=log_mean_exp"),
  "cnn_denoised_published": ("cnn_denoised", None, *ONE_SHOT),
  "gfz_crf_published": ("gfz_crf", None, "model.crf=row_and_column"),
}
PLAIN = (*SHALLOW, *NETWORKS, "cvae", *CNN_VAES)
# What honest attacks are told of a published version in the place of its own gradient.
UNMASKED = {
  "cnn_denoised_published": "attack_model.detached=False",
  "gaussian_naive_bayes_published": "attack_model.backward=flip",
}
# These have two gradients, of which neither finds all that the other does.
TWO_GRADIENTS = ("ising", "ising_discriminative")
CHEAP = [name for name in dict.fromkeys((*PLAIN, *VERSIONS)) if name not in CNN_VAES]
PROBABILITIES, HONEST = "configs/attacks/nus_probabilities.py", "configs/attacks/nus_honest.py"
ENSEMBLE = "configs/attacks/nus_honest_ensemble.py"
# Without Carlini and Wagner, whom the paper has not run on CNN-VAEs either ("weeks"), and with
# searches of 100 levels in the place of 1,000.
NO_SEARCHES = "attacks.carlini_wagner.eps=()"
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
  cnn_vaes = [f"{name}_mnist" for name in CNN_VAES]
  others = [label for label in models if label not in cnn_vaes]
  whole = "smoke" if arg == "smoke" else ""  # all test images
  attacks = {
    "clean": base.attack("configs/attacks/clean.py", whole, models=others),
    "clean_cnn_vaes": base.attack(
      "configs/attacks/clean.py", whole, "clean_draws=2", models=cnn_vaes, name="clean"
    ),
  }
  if arg == "cpu":
    attacks |= _evaluations(arg, CHEAP, (), "", "num_images=1000", slow=CONVOLUTIONAL)
    attacks |= _evaluations(arg, NETWORKS, CNN_VAES, "_100")
  else:
    attacks |= _evaluations(arg, CHEAP, CNN_VAES, "")
  return base.get_config(models, attacks)


def _evaluations(
  arg: str,
  plain: Sequence[str],
  detached: Sequence[str],
  suffix: str,
  *fields: str,
  slow: Sequence[str] = (),
) -> dict[str, Any]:
  """Both protocols, for models attacked as they are and for those whose gradient was detached."""
  one, two = ([f"{name}_mnist" for name in names] for names in (plain, detached))
  name = f"nus_honest{suffix}"
  honest, published = (ENSEMBLE, (*fields, *FEWER)) if suffix else (HONEST, fields)
  masked = [f"{run}_mnist" for run in UNMASKED if run in plain]
  twice = [f"{run}_mnist" for run in TWO_GRADIENTS if run in plain]
  costly = [f"{run}_mnist" for run in slow if run in plain]
  others = [model for model in (*one, *two) if model not in (*masked, *twice)]
  found = {
    f"nus_probabilities{suffix}": base.attack(
      PROBABILITIES, arg, *published, models=[model for model in one if model not in costly]
    ),
    name: base.attack(honest, arg, *fields, models=others),
  }
  if costly:
    found[f"nus_probabilities{suffix}_slow"] = base.attack(
      PROBABILITIES, arg, *published, NO_SEARCHES, models=costly, name=f"nus_probabilities{suffix}"
    )
  if twice:
    flip, kept = f"{name}_flip", "keep_images=1000"
    found[flip] = base.attack(
      HONEST, arg, *fields, kept, "attack_model.backward=flip", models=twice
    )
    both = (*fields, f"transfer_from=(':{flip}',)")
    found[f"{name}_both"] = base.attack(HONEST, arg, *both, models=twice, name=name, after=[flip])
  for run, unmasked in UNMASKED.items():
    if f"{run}_mnist" in masked:
      found[f"{name}_{run}"] = base.attack(
        HONEST, arg, *fields, unmasked, models=[f"{run}_mnist"], name=name
      )
  if two:
    hidden = (*published, "attack_model.detached_target=True")
    found[f"detached{suffix}"] = base.attack(
      PROBABILITIES, arg, *hidden, models=two, name=f"nus_probabilities{suffix}"
    )
    fresh = f"nus_honest_fresh{suffix}"
    found[fresh] = base.attack("configs/attacks/nus_honest_fresh.py", arg, *fields, models=two)
  return found
