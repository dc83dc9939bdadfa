"""`nus.py` as published: attacks take the probabilities of densities for logits.

  python launch/evaluate.py --config=configs/attacks/nus_probabilities.py:cpu \\
    --workdir=runs/gaussian_naive_bayes_published_mnist
  python launch/report.py --workdirs=runs/... --name=nus_probabilities --honest=nus_honest \\
    --published=docs/published/nus.json --out=docs/results

A soft-max on top of the soft-max hides the gradients of whatever is sure of itself, and much of the
published robustness is that: the sanity checks of these evaluations fail, as they should. The
paper's discriminative models gave logits or their log-softmax, and are attacked by the plain loss.
The published models go with it: `:published` of the configs that have it, and for the CNN-VAE
--config.attack_model.detached_target=True, in `nus_probabilities_fresh.py` with the draws that the
paper made anew at every query. What holds is `nus_honest.py`.
"""

from ml_collections import ConfigDict

from configs.attacks import nus

MASKED = {"cross_entropy": "cross_entropy_of_probabilities", "margin": "margin_of_probabilities"}


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full" (the first 1000 images), "cpu", "smoke"."""
  config = nus.get_config(arg)
  masked = {
    label: {"loss": MASKED[attack["loss"]], "loss_of_posteriors": attack["loss"]}
    for label, attack in config.to_dict()["attacks"].items()
  }
  config.update({"name": "nus_probabilities", "attacks": masked})
  return config
