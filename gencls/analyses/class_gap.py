"""log p(x | true class) against log p(x | best wrong class): how much does the class matter?

A class is certain at a gap of log(C − 1) + log((1 − δ)/δ) nats (13.7 for C = 10, δ = 1e-5), which
is little beside how log p(x | y) varies from image to image. Where the two histograms lie on each
other, an image with a wrong label is as ordinary as one with its own, and no threshold tells.

References:
  Fetaya et al. 2020, arXiv:1906.01171, section 4.2 and figure 3.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gencls.analyses.auroc import accepted_at, auroc
from gencls.analyses.inputs import Arrays, Caption, Inputs, Numbers, has_density, log_lik, unit
from gencls.bits import bits_per_dimension
from gencls.evaluation.results import Cell
from gencls.markdown import grid, percent
from gencls.report import analysis_figures
from gencls.types import NORMALISED_SCORES

_DELTA = 1e-5


def true_and_wrong(
  logits: np.ndarray, labels: np.ndarray, class_prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """([N] log p(x | true class), [N] log p(x | best wrong class)), the best by log p(x, y)."""
  others = np.array(logits, np.float64)
  others[np.arange(len(labels)), labels] = -np.inf
  wrong = np.argmax(others, axis=1)
  return log_lik(logits, labels, class_prior), log_lik(logits, wrong, class_prior)


def certain_gap(num_classes: int, delta: float = _DELTA) -> float:
  """Nats by which the true logit must lead all the others for p(y | x) >= 1 − delta."""
  return math.log(num_classes - 1) + math.log1p(-delta) - math.log(delta)


def analyse(inputs: Inputs, settings: Mapping[str, Any]) -> tuple[Arrays, Numbers]:
  """Both log-likelihoods of every image, and what tells them apart.

  Args:
    inputs: the classifier and its logits of the images.
    settings: none.
  """
  del settings
  examined, labels = inputs.examined, inputs.examined.dataset.labels
  if not has_density(examined.score):
    return {}, {"reason": "the score of this model is 'posterior': it has no p(x | y)"}
  true, wrong = true_and_wrong(inputs.logits, labels, examined.class_prior)
  numbers: Numbers = {
    "score": examined.score,
    "certain_gap_nats": certain_gap(inputs.logits.shape[1]),
  }
  numbers |= {"reason": None, "auroc": auroc(true, wrong, paired=True)}
  numbers["wrong_accepted_at_5"] = accepted_at(true, wrong)
  gap = true - wrong
  for name, values in (("true", true), ("wrong", wrong), ("gap", gap)):
    low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
    numbers[name] = {"p05": float(low), "median": float(median), "p95": float(high)}
  numbers["gap"]["share_certain"] = float(np.mean(gap > numbers["certain_gap_nats"]))
  numbers["standard_deviation_of_true"] = float(np.std(true))
  dims, levels = int(np.prod(examined.dataset.images.shape[1:])), examined.density_levels
  numbers["per_dim"] = {
    name: _per_dim(float(np.mean(values)), dims, levels, examined.score)
    for name, values in (("true", true), ("wrong", wrong))
  }
  return {"log_lik_true": true, "log_lik_wrong": wrong}, numbers


def _per_dim(mean: float, dims: int, levels: int, score: str) -> dict[str, float | None]:
  """The mean as the paper's axes may have it; bits of the image without dequantisation noise."""
  bits = None
  if score in NORMALISED_SCORES:
    bits = float(bits_per_dimension(np.array(mean), dims, levels))
  return {"nll_nats": -mean / dims, "bits": bits}


def figures(cell: Cell, caption: Caption) -> dict[str, Any]:
  """Both histograms, and that of the gap."""
  numbers, arrays = cell.header["numbers"], cell.arrays
  if numbers["reason"]:
    return {}
  true, wrong = arrays["log_lik_true"], arrays["log_lik_wrong"]
  panels = {
    f"log p(x | y), {unit(numbers['score'])}": {"true class": true, "best wrong class": wrong},
    "log p(x | true) - log p(x | best wrong), nats": {"gap": true - wrong},
  }
  marks = {1: {"certain": numbers["certain_gap_nats"]}}
  title = f"{caption.title}: what the class does to the likelihood"
  note = f"AUROC {numbers['auroc']['mean']:.3f}; certain: p(y | x) > 0.99999. {caption.note}"
  return {"": analysis_figures.histograms(panels, title, note, marks)}


def markdown(cell: Cell) -> str:
  """A table of the numbers."""
  numbers = cell.header["numbers"]
  if numbers["reason"]:
    return f"Not for this model: {numbers['reason']}."
  rows = [
    [name, *(f"{numbers[key][q]:.1f}" for q in ("p05", "median", "p95"))]
    for name, key in (("true class", "true"), ("best wrong class", "wrong"), ("gap", "gap"))
  ]
  table = grid([f"log p(x \\| y), {unit(numbers['score'])}", "5%", "median", "95%"], rows)
  wrong, certain = numbers["wrong_accepted_at_5"], numbers["gap"]["share_certain"]
  shown = ", ".join(
    f"{name} {each['nll_nats']:.3f} nats"
    + (f" or {each['bits']:.3f} bits (not dequantised)" if each["bits"] is not None else "")
    for name, each in numbers["per_dim"].items()
  )
  return (
    "AUROC of true against best wrong class (0.5: the class is invisible), %: "
    f"{percent(numbers['auroc'])}, n = {numbers['auroc']['n']}. A threshold that rejects 5% of the "
    f"true labels accepts {100 * wrong:.1f}% of the best wrong ones. "
    f"{100 * certain:.1f}% of the gaps are above {numbers['certain_gap_nats']:.1f} nats, where "
    "p(y | x) > 0.99999; log p(x | true class) has a standard deviation of "
    f"{numbers['standard_deviation_of_true']:.1f}. Mean of -log p(x | y) per dimension: {shown}."
    f"\n\n{table}"
  )
