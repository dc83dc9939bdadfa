"""Other images than those the model was made for: do its densities tell?

For every detector statistic the AUROC of test images against another set, and the share of the
other set that is accepted where 5% of the test images are not ("FPR at 95% TPR"). Generative models
are known to find simpler images more likely than their own: an AUROC below 0.5 is a finding.

References:
  Nalisnick et al. 2019, arXiv:1810.09136; Hendrycks and Gimpel 2017, arXiv:1610.02136 (the
  measures).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gencls import data
from gencls.analyses.auroc import accepted_at, auroc
from gencls.analyses.inputs import (
  Arrays,
  Caption,
  Examined,
  Inputs,
  Numbers,
  floats,
  logits_of_set,
  statistic,
  unit,
)
from gencls.evaluation.results import Cell
from gencls.markdown import grid, percent
from gencls.names import unknown_name
from gencls.report import analysis_figures

_STREAM = 13  # of the noise
_SHOWN = 8


def constant(own: data.Dataset) -> np.ndarray:
  """[N, H, W, D] images of one grey level each, the levels evenly spaced from black to white."""
  n = len(own.labels)
  levels = np.round(np.linspace(0, own.num_levels - 1, n)).astype(np.uint8)
  return np.broadcast_to(levels[:, None, None, None], own.images.shape).copy()


def uniform_noise(own: data.Dataset, seed: int) -> np.ndarray:
  """[N, H, W, D] images whose every value is uniform among the grey levels."""
  rng = np.random.default_rng([seed, _STREAM])
  return rng.integers(0, own.num_levels, own.images.shape).astype(np.uint8)


MADE: dict[str, Callable[[data.Dataset, int], np.ndarray]] = {
  "constant": lambda own, seed: constant(own),
  "uniform_noise": uniform_noise,
}


def other_set(examined: Examined, name: str) -> tuple[data.Dataset | None, str | None]:
  """(as many images of another set as there are of the own, or fewer; why there are none).

  Args:
    examined: what they are compared with.
    name: one of `MADE`, or of a data set, whose images must have the same shape.

  Raises:
    ValueError: if there is no such set.
  """
  own = examined.dataset
  if name in MADE:
    images = MADE[name](own, examined.seed)
    return own._replace(name=name, images=images), None
  if name not in data.BUILT_IN and not name.startswith("tfds:"):
    raise ValueError(unknown_name("other set", name, [*MADE, *data.BUILT_IN, "tfds:<name>"]))
  if name == own.name:
    return None, "the model's own data"
  if not examined.there(name):
    return None, "it is not on this machine"
  found = examined.load(name)
  if found.images.shape[1:] != own.images.shape[1:]:
    return None, f"its images are {found.images.shape[1:]}, not {own.images.shape[1:]}"
  n = min(len(own.labels), len(found.labels))
  arrays = {field: getattr(found, field)[:n] for field in ("images", "labels", "indices")}
  return found._replace(**arrays), None


def depends(examined: Examined, settings: Mapping[str, Any]) -> Any:
  """Which sets there are: where one comes to the machine later, the analysis is made again."""
  return [name for name in settings["sets"] if name in MADE or examined.there(name)]


def analyse(inputs: Inputs, settings: Mapping[str, Any]) -> tuple[Arrays, Numbers]:
  """Every other set against the test images, by every statistic.

  Args:
    inputs: the classifier and its logits of the images.
    settings: `sets`, the names of the others.
  """
  examined = inputs.examined
  own = {name: statistic(inputs, name, inputs.logits) for name in inputs.fitted}
  arrays: Arrays = {f"own_{name}": values for name, values in own.items()}
  numbers: Numbers = {"sets": {}, "left_out": {}, "score": examined.score}
  for other in settings["sets"]:
    dataset, reason = other_set(examined, other)
    if dataset is None:
      numbers["left_out"][other] = reason
      continue
    logits = logits_of_set(examined, dataset, other, other)
    found: Numbers = {"num_images": len(dataset.labels), "source": _source(dataset, other)}
    found["nonfinite"] = int(np.sum(~np.all(np.isfinite(logits), axis=1)))
    evenly = np.linspace(0, len(dataset.labels) - 1, _SHOWN).astype(int)
    arrays[f"x_{other}"] = floats(dataset, evenly)
    for name, values in own.items():
      theirs = statistic(inputs, name, logits)
      arrays[f"{other}_{name}"] = theirs
      found[name] = {"auroc": auroc(values, theirs), "fpr_at_95": accepted_at(values, theirs)}
    numbers["sets"][other] = found
  return arrays, numbers


def _source(dataset: data.Dataset, name: str) -> str:
  """What the images are, without this machine's folders."""
  if name in MADE:
    return "made"
  lossy = ", photographs from JPEG files (lossy)" if "JPEG" in dataset.source else ""
  return f"the first {dataset.split} images{lossy}"


def figures(cell: Cell, caption: Caption) -> dict[str, Any]:
  """Histograms of the first statistics, and some images of every set, evenly spaced."""
  numbers, arrays = cell.header["numbers"], cell.arrays
  if not numbers["sets"]:
    return {}
  names = [key.removeprefix("own_") for key in arrays if key.startswith("own_")]
  panels = {}
  for name in names[:2]:
    axis = f"{name} statistic" + (f", {unit(numbers['score'])}" if name == "marginal" else "")
    others = {other: arrays[f"{other}_{name}"] for other in numbers["sets"]}
    panels[axis] = {"test images": arrays[f"own_{name}"], **others}
  title = f"{caption.title}: out of distribution"
  found = {"": analysis_figures.histograms(panels, title, caption.note)} if panels else {}
  rows = [list(arrays[f"x_{other}"]) for other in numbers["sets"]]
  title = f"{caption.title}: the other sets"
  found["_images"] = analysis_figures.strips(rows, None, None, title, caption.note,
                                             sides=list(numbers["sets"]))  # fmt: skip
  return found


def markdown(cell: Cell) -> str:
  """One row for each set and statistic."""
  numbers = cell.header["numbers"]
  rows = []
  for other, found in numbers["sets"].items():
    for name in (key for key, each in found.items() if isinstance(each, dict)):
      rows.append(
        [
          f"{other} (n = {found['num_images']})",
          name,
          percent(found[name]["auroc"]),
          f"{100 * found[name]['fpr_at_95']:.1f}",
        ]
      )
  header = ["other set", "statistic", "AUROC, %", "accepted where 5% of the test images are not, %"]
  left_out = "".join(f"\n\nWithout {name}: {why}." for name, why in numbers["left_out"].items())
  lossy = [name for name, found in numbers["sets"].items() if "lossy" in found["source"]]
  if lossy:
    left_out += f"\n\nThe photographs of {', '.join(lossy)} come from JPEG files (lossy)."
  bad = [name for name, found in numbers["sets"].items() if found["nonfinite"]]
  if bad:
    left_out += f"\n\nNon-finite logits, counted as rejected: {', '.join(bad)}."
  return grid(header, rows) + left_out if rows else f"No other set.{left_out}"
