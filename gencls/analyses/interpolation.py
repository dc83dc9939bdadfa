"""Straight lines between images of two classes: does the model know that nothing lies between them?

x_α = (1 − α) x₀ + α x₁ with x₀ and x₁ of different classes, both classified right and accepted by
the detector. On every such path the predicted class changes. A model of the data should find what
lies between two classes unlikely, so that some point of the path is rejected; where a path is never
rejected, an attack that walks along it is not noticed.

The whole path is seen under the key of x₀: one deterministic classifier. At α = 0 the logits are
those of the image x₀ itself; at α = 1 those of x₁ under another key than its own, so that a pair
counts only if x₁ is right and accepted under this one too.

References:
  Fetaya et al. 2020, arXiv:1906.01171, section 4.4 and figures 1, 4 and 6.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gencls.analyses.inputs import (
  Arrays,
  Caption,
  Inputs,
  Numbers,
  classes,
  floats,
  has_density,
  judged,
  unit,
)
from gencls.analyses.paths import along, between, draw_pairs, profile
from gencls.evaluation.grading import predict
from gencls.evaluation.results import Cell
from gencls.intervals import share_interval
from gencls.markdown import grid, percent
from gencls.report import analysis_figures

SHOWN_PATHS, SHOWN_STEPS = 6, 9  # of the figure of images


def summarise(logits: np.ndarray, labels: np.ndarray, accepts: np.ndarray | None) -> dict[str, Any]:
  """Shares over the paths, with intervals.

  Args:
    logits: [P, A, C].
    labels: [P, 2].
    accepts: [P, A] bool of the detector; None without one.

  Returns:
    `third_class`: paths on which another class than the ends' is predicted somewhere. With a
    detector: `never_rejected`, paths that are accepted at every step although the class changes;
    `flip_accepted`, paths accepted on both sides of the first change away from the first class;
    `middle_accepted`, at the middle of the path.
  """
  predicted = classes(logits)
  known = np.any(predicted[..., None] == labels[:, None, :], axis=2)
  found = {"third_class": share_interval(~np.all(known, axis=1))._asdict()}
  if accepts is None:
    return found
  last = np.argmax(predicted != labels[:, :1], axis=1)  # the first step with another class
  rows, middle = np.arange(len(labels)), accepts.shape[1] // 2
  flip = accepts[rows, last] & accepts[rows, np.maximum(last - 1, 0)]
  shares = {"never_rejected": np.all(accepts, axis=1), "flip_accepted": flip}
  shares["middle_accepted"] = accepts[:, middle]
  return found | {name: share_interval(each)._asdict() for name, each in shares.items()}


def analyse(inputs: Inputs, settings: Mapping[str, Any]) -> tuple[Arrays, Numbers]:
  """The paths between random pairs of images.

  Args:
    inputs: the classifier and its logits of the images.
    settings: `num_pairs`, how many are drawn if the images last (none is in two pairs), and
      `num_steps` A >= 3, both ends included. Pairs whose ends are not right and accepted under the
      path's key too are left out.
  """
  examined, steps = inputs.examined, settings["num_steps"]
  if steps < 3 or settings["num_pairs"] < 1:
    raise ValueError(
      f"num_steps must be >= 3 and num_pairs >= 1, got {steps} and {settings['num_pairs']}"
    )
  name, labels = next(iter(inputs.fitted), None), examined.dataset.labels
  eligible = predict(inputs.logits) == labels
  if name is not None:
    eligible &= judged(inputs, name, inputs.logits)[1]
  if len(np.unique(labels[eligible])) < 2:
    return {}, {"reason": "the images that are classified right and accepted are of one class"}
  pairs = draw_pairs(labels, eligible, settings["num_pairs"], examined.seed)
  alphas = np.linspace(0, 1, steps).astype(np.float32)
  arrays = {"pair": pairs, "index": examined.dataset.indices[pairs], "label": labels[pairs]}
  arrays["logits"] = logits = along(examined, pairs, alphas)
  sound = np.all(classes(logits[:, [0, -1]]) == labels[pairs], axis=1)
  if name is not None:
    found = judged(inputs, name, logits.reshape(-1, logits.shape[2]))
    arrays["statistic"], arrays["accepted"] = (e.reshape(logits.shape[:2]) for e in found)
    sound &= np.all(arrays["accepted"][:, [0, -1]], axis=1)
  if not np.any(sound):
    return {}, {"reason": f"none of {len(pairs)} pairs is right and accepted under one key"}
  arrays = {key: values[sound] for key, values in arrays.items()}
  numbers: Numbers = {"reason": None, "detector": name, "num_eligible": int(np.sum(eligible))}
  if name is not None:
    numbers["threshold"] = float(np.asarray(inputs.fitted[name].threshold)[0])
  return {**arrays, "alpha": alphas, **_shown(inputs, arrays["pair"])}, {
    **numbers,
    "num_drawn": len(pairs),
    **describe(arrays, examined.class_prior, examined.score),
  }


def describe(arrays: Arrays, class_prior: np.ndarray, score: str) -> Numbers:
  """The numbers of paths, from their `logits`, `label` and, with a detector, `accepted`."""
  logits, labels = arrays["logits"], arrays["label"]
  values = profile(logits, labels, class_prior)
  return {
    "num_pairs": len(labels),
    "score": score,
    "class_prior": class_prior.tolist(),
    **summarise(logits, labels, arrays.get("accepted")),
    **middle(values, score),
  }


def _shown(inputs: Inputs, pairs: np.ndarray) -> Arrays:
  """Both ends of the first paths."""
  ends = (floats(inputs.examined.dataset, pairs[:SHOWN_PATHS, end]) for end in (0, 1))
  return dict(zip(("x_first", "x_second"), ends, strict=True))


def middle(values: Arrays, score: str) -> Numbers:
  """The middle of the paths against their ends.

  Args:
    values: from `profile`.
    score: what the logits are.

  Returns:
    `posterior_end` and `posterior_middle`, means of the probability of the likelier end's class,
    and with densities `middle_minus_ends_nats`, the mean over paths of log p(x) in the middle less
    its mean at the ends, with its standard error.
  """
  half = values["log_marginal"].shape[1] // 2
  both = np.maximum(values["posterior_first"], values["posterior_second"])
  found: Numbers = {"posterior_end": float(np.mean(both[:, 0]))}
  found["posterior_middle"] = float(np.mean(both[:, half]))
  if has_density(score):
    density = values["log_marginal"]
    drop = density[:, half] - 0.5 * (density[:, 0] + density[:, -1])
    error = float(np.std(drop, ddof=1) / np.sqrt(len(drop))) if len(drop) > 1 else None
    found["middle_minus_ends_nats"] = {"mean": float(np.mean(drop)), "standard_error": error}
  return found


def figures(cell: Cell, caption: Caption) -> dict[str, Any]:
  """Means along the paths, and the first paths as images."""
  numbers, arrays = cell.header["numbers"], cell.arrays
  if numbers["reason"]:
    return {}
  alphas = arrays["alpha"]
  values = profile(arrays["logits"], arrays["label"], np.array(numbers["class_prior"]))
  panels: dict[str, dict[str, np.ndarray]] = {}
  if has_density(numbers["score"]):
    names = {"log p(x)": "log_marginal", "log p(x | y₀)": "log_lik_first",
             "log p(x | y₁)": "log_lik_second"}  # fmt: skip
    panels[f"mean, {unit(numbers['score'])}"] = {k: values[v] for k, v in names.items()}
  panels["mean probability"] = {
    "p(y₀ | x)": values["posterior_first"],
    "p(y₁ | x)": values["posterior_second"],
  }
  if "accepted" in arrays:
    panels["share of the paths"] = {f"accepted by {numbers['detector']}": arrays["accepted"]}
  title = f"{caption.title}: between two images of different classes"
  note = f"{numbers['num_pairs']} pairs, both ends right and accepted; {caption.note}"
  mark = numbers["threshold"] if numbers["detector"] == "marginal" else None
  found = {"": analysis_figures.profiles(alphas, panels, title, note, mark)}
  return found | {"_images": _first_paths(arrays, caption)}


def _first_paths(arrays: Arrays, caption: Caption) -> Any:
  alphas = arrays["alpha"]
  chosen = np.round(np.linspace(0, len(alphas) - 1, SHOWN_STEPS)).astype(int)
  rows = [
    [between(first[None], second[None], alphas[[step]])[0] for step in chosen]
    for first, second in zip(arrays["x_first"], arrays["x_second"], strict=True)
  ]
  predicted = classes(arrays["logits"])
  accepts = arrays.get("accepted")
  words = [
    [(str(predicted[p, s]), None if accepts is None else bool(accepts[p, s])) for s in chosen]
    for p in range(len(rows))
  ]
  heads = [f"alpha = {alphas[s]:.2g}" for s in chosen]
  title, note = f"{caption.title}: the first paths", f"Numbers are predictions. {caption.note}"
  return analysis_figures.strips(rows, words, heads, title, note)


def markdown(cell: Cell) -> str:
  """The shares, and how far the likelihood falls."""
  numbers = cell.header["numbers"]
  if numbers["reason"]:
    return f"Not for this model: {numbers['reason']}."
  names = {
    "never_rejected": "never rejected, although the class changes",
    "flip_accepted": "accepted on both sides of the first change of class",
    "middle_accepted": "accepted in the middle",
    "third_class": "somewhere of a third class",
  }
  rows = [[text, percent(numbers[key])] for key, text in names.items() if key in numbers]
  table = grid([f"of {numbers['num_pairs']} paths", "%"], rows)
  text = (
    f"Straight lines between pairs of test images of different classes, both classified right and "
    f"accepted ({numbers['num_eligible']} images are; {numbers['num_drawn']} pairs were drawn, no "
    "image in two of them). "
    f"Detector: {numbers['detector'] or 'none'}. "
    f"Probability of the likelier end's class: {numbers['posterior_end']:.3f} at the "
    f"start, {numbers['posterior_middle']:.3f} in the middle."
  )
  if "middle_minus_ends_nats" in numbers:
    drop = numbers["middle_minus_ends_nats"]
    error = f" ± {drop['standard_error']:.2g}" if drop["standard_error"] is not None else ""
    text += f" log p(x) in the middle less its mean at the ends: {drop['mean']:.1f}{error} nats."
  return f"{text}\n\n{table}"
