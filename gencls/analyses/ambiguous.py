"""Ambiguous and mislabelled inputs: outliers of the average case, made without an attack.

An ambiguous input is the mean of two images of different classes: it belongs to neither, and a
model of the data should find it less likely than real images. A mislabelled input is a real image
with a random wrong label: what does p(x | given label) say? Beside it p(given label | x), which a
discriminative classifier has too.

References:
  Fetaya et al. 2020, arXiv:1906.01171, sections 1 and 4 ("average-case outliers", "incorrectly
  labeled in-distribution inputs").
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gencls.analyses.auroc import accepted_at, auroc
from gencls.analyses.inputs import (
  PURPOSE,
  Arrays,
  Caption,
  Inputs,
  Numbers,
  classes,
  floats,
  has_density,
  judged,
  log_lik,
  logits_of,
  statistic,
  unit,
)
from gencls.analyses.paths import between, draw_pairs
from gencls.calibration import log_softmax
from gencls.evaluation.grading import keys_for
from gencls.evaluation.results import Cell
from gencls.intervals import share_interval
from gencls.markdown import grid, percent
from gencls.report import analysis_figures

_STREAM, _HALVES = 12, 13  # of the random wrong labels, and of which images are mixed
_SHOWN = 8


def wrong_labels(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
  """[N] int32 another label for each image, uniformly among the others."""
  rng = np.random.default_rng([seed, _STREAM])
  return ((labels + rng.integers(1, num_classes, len(labels))) % num_classes).astype(np.int32)


def label_scores(
  logits: np.ndarray, given: np.ndarray, class_prior: np.ndarray, density: bool
) -> Arrays:
  """What logits [N, C] say of the labels [N] that are given: name -> [N] float64, nats.

  `log_lik`, log p(x | given), where the logits tell it, and `log_posterior`, log p(given | x).
  """
  found = {"log_posterior": log_softmax(logits)[np.arange(len(given)), given]}
  return {"log_lik": log_lik(logits, given, class_prior), **found} if density else found


def analyse(inputs: Inputs, settings: Mapping[str, Any]) -> tuple[Arrays, Numbers]:
  """Means of two images, and wrong labels.

  Args:
    inputs: the classifier and its logits of the images.
    settings: `num_pairs`, how many means if half of the images last: none is in two of them, nor
      among the images that they are compared with.
  """
  examined, labels = inputs.examined, inputs.examined.dataset.labels
  halves = np.random.default_rng([examined.seed, _HALVES]).permutation(len(labels))
  pairs = draw_pairs(labels, halves < len(labels) // 2, settings["num_pairs"], examined.seed)
  others = np.setdiff1d(np.arange(len(labels)), pairs)
  keys = keys_for(examined.seed, examined.dataset.indices[pairs[:, 0]], PURPOSE)

  def images(rows: np.ndarray) -> np.ndarray:
    first, second = (floats(examined.dataset, pairs[rows, end]) for end in (0, 1))
    return between(first, second, np.full(len(rows), 0.5))

  mixed = logits_of(examined, keys, images, "ambiguous")
  shown = np.arange(min(_SHOWN, len(pairs)))
  arrays = {"pair": pairs, "other": others, "mixed_logits": mixed, "x_mixed": images(shown)}
  arrays["mixed_label"] = labels[pairs]
  numbers: Numbers = {
    "num_pairs": len(pairs),
    "num_others": len(others),
    "detectors": {},
    "score": examined.score,
  }
  for name in inputs.fitted:
    real = statistic(inputs, name, inputs.logits[others])
    values, accepts = judged(inputs, name, mixed)
    arrays |= {f"real_{name}": real, f"mixed_{name}": values, f"accepted_{name}": accepts}
    numbers["detectors"][name] = {
      "auroc": auroc(real, values),
      "accepted": share_interval(accepts)._asdict(),
    }
  posterior = np.exp(log_softmax(mixed))
  known = np.any(classes(mixed)[:, None] == labels[pairs], axis=1)
  numbers["neither"] = share_interval(~known)._asdict()
  numbers["confident"] = share_interval(np.max(posterior, axis=1) > 0.9)._asdict()
  arrays |= _mislabelled(inputs, numbers)
  return arrays, numbers


def _mislabelled(inputs: Inputs, numbers: Numbers) -> Arrays:
  """Adds what tells right from wrong labels to the numbers; returns the values."""
  examined, labels = inputs.examined, inputs.examined.dataset.labels
  density = has_density(examined.score)
  given = wrong_labels(labels, inputs.logits.shape[1], examined.seed)
  right, wrong = (
    label_scores(inputs.logits, each, examined.class_prior, density) for each in (labels, given)
  )
  numbers["labels"] = {
    name: {
      "auroc": auroc(right[name], wrong[name], paired=True),
      "accepted_at_5": accepted_at(right[name], wrong[name]),
    }
    for name in right
  }
  arrays = {"wrong_label": given}
  return arrays | {
    f"{kind}_{name}": values
    for kind, each in (("right", right), ("wrong", wrong))
    for name, values in each.items()
  }


def figures(cell: Cell, caption: Caption) -> dict[str, Any]:
  """Histograms of real and mixed images, and of right and wrong labels; the first mixed images."""
  numbers, arrays = cell.header["numbers"], cell.arrays
  panels = {}
  for name in list(numbers["detectors"])[:1]:
    axis = f"{name} statistic" + (f", {unit(numbers['score'])}" if name == "marginal" else "")
    values = {"test images": arrays[f"real_{name}"], "means of two": arrays[f"mixed_{name}"]}
    panels[axis] = values
  if "right_log_lik" in arrays:
    axis = f"log p(x | given label), {unit(numbers['score'])}"
    panels[axis] = {"right label": arrays["right_log_lik"], "wrong label": arrays["wrong_log_lik"]}
  found = {}
  title = f"{caption.title}: ambiguous and mislabelled inputs"
  if panels:
    found[""] = analysis_figures.histograms(panels, title, caption.note)
  predicted, name = classes(arrays["mixed_logits"]), next(iter(numbers["detectors"]), None)
  words = [
    (str(predicted[i]), None if name is None else bool(arrays[f"accepted_{name}"][i]))
    for i in range(len(arrays["x_mixed"]))
  ]
  heads = [f"{first} + {second}" for first, second in arrays["mixed_label"][: len(words)]]
  title = f"{caption.title}: means of two images"
  note = f"Above: the classes of both. Numbers are predictions. {caption.note}"
  found["_images"] = analysis_figures.strips([list(arrays["x_mixed"])], [words], heads, title, note)
  return found


def markdown(cell: Cell) -> str:
  """Two tables: means of two images, and labels."""
  numbers = cell.header["numbers"]
  mixed = [
    [name, percent(each["auroc"]), percent(each["accepted"])]
    for name, each in numbers["detectors"].items()
  ]
  names = {"log_lik": "log p(x \\| given label)", "log_posterior": "log p(given label \\| x)"}
  labels = [
    [names[name], percent(each["auroc"]), f"{100 * each['accepted_at_5']:.1f}"]
    for name, each in numbers["labels"].items()
  ]
  return (
    f"The mean of two test images of different classes, {numbers['num_pairs']} of them, no "
    f"image in two: {percent(numbers['neither'])}% are classified as neither, "
    f"{percent(numbers['confident'])}% with a probability above 0.9. The AUROC is against the "
    f"{numbers['num_others']} test images that are in none of them.\n\n"
    + grid(["statistic", "AUROC against other test images, %", "accepted, %"], mixed)
    + "\n\nTest images with their own label against the same images with a random wrong one:\n\n"
    + grid(["", "AUROC, %", "wrong labels accepted where 5% of the right ones are not, %"], labels)
  )
