"""The worst case of an evaluation, graded again under other numbers K of importance samples.

The model is the same at every K; only its estimate of log p(x, y) changes. The images were made
against the evaluation's own K: accuracy that rises at another K shows that they do not carry over
to it. Whether its estimate would stand an attack of its own, only an attack at that K tells.

The image that stands for an example stays what it was: chosen at the evaluation's own K. The draws
follow the rule of the threat model. Where the attack has known the draws (a known seed, or draws
that `prepare` makes once) every K is graded on draws that it has not known, "unseen": only these
compare. What the evaluation's own K loses from its own draws to unseen ones rests on knowing them.
One unseen draw of an image would tell little: there are at least as many as under a fresh seed.
With a detector, what is right or rejected, "held", is graded so too, of the image that stands for
an example there; at the evaluation's own K alone, which the detector was fitted at.
Every model whose draws attacks know is graded so, whether or not it has a K, in cells called
"unseen draws …" where no other K is asked.

References:
  Li et al. 2019, arXiv:1802.06552 (K = 10 in attack and grading alike).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.data import to_float
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.attack_grades import padded
from gencls.evaluation.batch_loop import Arrays, Turn, Work, over_batches, size_of_batches
from gencls.evaluation.candidates import Group, attacks_first, candidate, groups
from gencls.evaluation.cells import GREY, UNTOUCHED
from gencls.evaluation.grading import MIN_FRESH_DRAWS, grey, reclip, share_right
from gencls.evaluation.minimum_norm import AS_DISTANCE
from gencls.evaluation.results import Cell
from gencls.types import Accept, LogitsFn

LABEL, UNSEEN = "regraded K=", "unseen draws"  # how the labels of such cells begin


class Estimate(NamedTuple):
  """A model's logits with one number of samples."""

  logits_fn: LogitsFn
  # draw >= 1 -> with `prepare` drawn anew; None where it draws nothing.
  anew: Callable[[int], LogitsFn] | None = None
  growth: float = 1.0  # K over the evaluation's own


class Regrade(NamedTuple):
  """Which numbers of samples, and how the model looks with each."""

  num_samples: tuple[int, ...]  # increasing, the evaluation's own among them
  estimate: Callable[[int], Estimate]


def label(num_samples: int, norm: str, eps: float) -> str:
  """What a cell is called."""
  return f"{LABEL}{num_samples} {norm} {eps:g}"


def unseen_label(norm: str, eps: float) -> str:
  """What a cell is called that only has the evaluation's own number of samples, if any."""
  return f"{UNSEEN} {norm} {eps:g}"


def unseen_draws(grade_draws: int) -> int:
  """How many draws that no attack has known each image is graded on."""
  return max(grade_draws, MIN_FRESH_DRAWS)


def check_regrade(num_samples: Sequence[Any], keep_images: int) -> None:
  """Raises ValueError for what is no number of samples, or where no images are kept."""
  for each in num_samples:
    if isinstance(each, bool) or not isinstance(each, int) or each < 1:
      raise ValueError(f"regrade_samples must be whole numbers >= 1, got {each!r}")
  if num_samples and keep_images < 1:
    raise ValueError(
      f"regrade_samples grades the adversarial images that cells keep, got keep_images="
      f"{keep_images}: set it to the number of images that are to be graded again"
    )


def regraded_cell(
  work: Work,
  title: str,
  estimate: Estimate,
  where: tuple[str, float],
  untouched: Cell,
  cells: Sequence[Cell],
  held: bool = False,
) -> tuple[Arrays, dict[str, Any]]:
  """Grades the worst case at one norm and eps under another number of samples.

  Args:
    work: the evaluation, its dataset the images whose adversarial images are kept.
    title: what the progress bar says.
    estimate: the model with the other number of samples.
    where: (norm, eps).
    untouched: the cell of the clean images.
    cells: of every attack and grey image of the norm at this eps or a smaller one, and of every
      minimum-norm attack.
    held: whether to grade what is right or rejected too; at the evaluation's own K alone.

  Returns:
    ({"correct": [M] share of the draws that are right}, and where the attack has known the draws
    "unseen", that of `unseen_draws` others; away from the evaluation's own K "correct" is the same;
    with `held` "held" and "unseen_held" too; the header's "draws" says how many each of them is a
    mean of).
  """
  protocol = work.protocol
  group = next(g for g in groups(cells, untouched) if (g.norm, g.eps) == where)
  x = np.asarray(to_float(work.dataset.images, work.dataset.num_levels))
  images = worst_images(group, untouched, cells, x)
  known = protocol.threat == "known_seed" or estimate.anew is not None
  many, own = unseen_draws(protocol.grade_draws), protocol.grade_draws
  draws = {"unseen": many} if known else {}
  draws["correct"] = many if known and estimate.growth != 1 else own
  evading = None
  if held:
    assert work.accept is not None and known and estimate.growth == 1, "`plans` sees to it"
    seen = group._replace(cells=[as_held(cell) for cell in group.cells])
    evading = worst_images(seen, as_held(untouched), cells, x)
    draws |= {"unseen_held": many, "held": own}

  def make(turn: Turn) -> Arrays:
    batch = turn.batch

    def share(images: np.ndarray, accept: Accept | None = None) -> Callable[..., np.ndarray]:
      return functools.partial(
        share_right,
        x=padded(images[batch.at], batch),
        labels=batch.labels,
        indices=batch.indices,
        seed=protocol.seed,
        accept=accept,
      )

    right, arrays = share(images), {}
    as_attacked = {"threat": protocol.threat, "purpose": "grade", "draws": own}
    if evading is not None:
      past = share(evading, work.accept)
      arrays["unseen_held"] = _unseen(estimate, past, many)
      arrays["held"] = past(estimate.logits_fn, **as_attacked)
    if known:
      arrays["unseen"] = _unseen(estimate, right, many)
    if known and estimate.growth != 1:
      return {**arrays, "correct": arrays["unseen"]}
    return {**arrays, "correct": right(estimate.logits_fn, **as_attacked)}

  # As many samples at once as in the evaluation, so that memory does not grow with K.
  size = size_of_batches(work.dataset, protocol.batch_size) / max(1.0, estimate.growth)
  smaller = work._replace(protocol=protocol._replace(batch_size=max(1, int(size))))
  return over_batches(smaller, title, make), {"draws": draws}


def _unseen(estimate: Estimate, right: Callable[..., np.ndarray], draws: int) -> np.ndarray:
  """[B] the share of draws that are right; no other draw of this purpose is ever reported."""
  right = functools.partial(right, threat="fresh_seed", purpose="regrade")
  if estimate.anew is None:
    return right(estimate.logits_fn, draws=draws)
  each = [right(estimate.anew(draw), draws=1) for draw in range(1, draws + 1)]
  return np.asarray(np.mean(each, axis=0), np.float32)


def worst_images(group: Group, untouched: Cell, cells: Sequence[Cell], x: np.ndarray) -> np.ndarray:
  """The image that stands for each example in the worst case, [M, H, W, D].

  Args:
    group: the candidates at one norm and eps.
    untouched: the cell of the clean images.
    cells: as the attacks made them, with M adversarial images each.
    x: [M, H, W, D] the clean images.
  """
  everything = attacks_first(group, untouched)
  pick = candidate(everything)[0][: len(x)]
  made = {(cell.header["label"], cell.header["norm"], cell.header["eps"]): cell for cell in cells}
  images = x.copy()
  for i in np.unique(pick):
    own = pick == i
    images[own] = _images(everything[i], made, x)[own]
  return images


def _images(
  cell: Cell, made: Mapping[tuple[str, str, float | None], Cell], x: np.ndarray
) -> np.ndarray:
  """[M, H, W, D] the images that a candidate stands for."""
  label, norm, eps = (cell.header[name] for name in ("label", "norm", "eps"))
  if label == UNTOUCHED:
    return x
  if label == GREY:
    return grey(x, norm, eps)
  if "derived" not in cell.header:
    return cell.arrays["x_adv"][: len(x)]
  x_adv = made[label.removesuffix(AS_DISTANCE), norm, None].arrays["x_adv"][: len(x)]
  if cell.header["derived"] == "clip":
    return reclip(x_adv, x, norm, eps)[0]
  moved = cell.arrays["norm"][: len(x)] > 0  # the others stand for x itself
  return np.where(np.reshape(moved, (-1,) + (1,) * (x.ndim - 1)), x_adv, x)
