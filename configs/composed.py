"""Configs of models behind a threshold, a denoiser or with a CRF: the inner model's, and more."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

DENOISER = {
  "method": "mean_field",  # or "icm", "gibbs", "one_shot"
  "h": 0.2,
  "beta": 0.2,  # published: 3.0
  "num_sweeps": 10,
  "burn_in": 5,  # of "gibbs"
  "centre": 0.5,  # published: 0.1307
  "backward": placeholder(str),  # of "one_shot": "field" (None), or "straight_through"
  "detached": False,  # published: True, no gradient passes
}

# Of binary images: their likelihood is Bernoulli and no choice.
FIXED = ("gfz_binary", "gfz_crf")


def composed(config: ConfigDict, name: str, **hyperparameters: Any) -> ConfigDict:
  """The config of the inner model, in the variant wanted, as that of model `name`.

  Args:
    config: of the inner model.
    name: of the composition.
    **hyperparameters: of its model, new ones or others than the inner model's.
  """
  with config.unlocked():
    config.update({"model": {"name": name, **hyperparameters}})
    if name in FIXED:
      delattr(config.model, "likelihood")
  return config
