"""Minimum-norm attacks: one run, and from it the accuracy at every eps.

The attack returns the nearest success it has found. Graded like any other image, it stands for
every eps at or beyond its distance:

  broken at eps  ⇔  the graded image is wrong and its norm <= eps (+ grading's tolerance).

The distances of a targeted attack are those of the nearest images in the target class.

Some published numbers were made otherwise (`grade_as="clip"`): the image is drawn back into each
ball and predicted anew, whether or not the success lies inside. Both curves are then reported.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gencls.evaluation import acceptance
from gencls.evaluation.grading import perturbation_norm, tolerance
from gencls.evaluation.results import CLIPPED, Cell
from gencls.evaluation.targets import LEFT_OUT, share_in_target

GRADE_AS = ("distance", "clip")
# The nearest success lies on the boundary: in a batch of another size one rounding error decides,
# and under a fresh seed half of the draws say "right". The perturbation is lengthened until the
# image, or half of its select draws, fails.
STRETCHES = (1.0, 1.001, 1.02, 1.05, 1.1, 1.2, 1.5)
# Under a fresh seed the attack may have kept one lucky draw far inside, and does not return x.
FRESH_STRETCHES = (0.0, *STRETCHES, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
AS_DISTANCE = " (distance)"  # behind the label of a clipped attack's honest curve
AS_RETURNED = "correct_as_returned"  # graded before it was lengthened: what a publication counts
RELATIVE_L2 = "relative_l2_norm"  # ‖η‖₂ / ‖x‖₂, whatever the attack's norm
SELECT_IN_TARGET = "select_in_target"  # the share of the select draws that predict the target
RHO_NORM = "l2"
PER_EXAMPLE = ("prediction", "correct", "select_correct", "select_margin", "nonfinite_grades")


def per_example(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
  """The names of what grading says of every image; with a detector, of its verdict too."""
  return (*PER_EXAMPLE, *(name for name in acceptance.ARRAYS if name in arrays))


def is_minimum(cell: Cell) -> bool:
  """Whether a cell holds the result of a minimum-norm attack, before any eps is asked."""
  return cell.header["eps"] is None


def failing(select_correct: np.ndarray) -> np.ndarray:
  """[N] bool, whether at least half of the select draws fail (known seed: whether it is wrong)."""
  return select_correct <= 0.5


def stretches(threat: str) -> tuple[float, ...]:
  """Those of a threat model."""
  return FRESH_STRETCHES if threat == "fresh_seed" else STRETCHES


def nearest_failure(
  x_adv: np.ndarray,
  x: np.ndarray,
  share: Callable[[np.ndarray], np.ndarray],
  factors: Sequence[float] = STRETCHES,
) -> np.ndarray:
  """The first point on the way through x_adv at which at least half of the select draws fail.

  Where there is a target, a draw fails that predicts it.

  Args:
    x_adv: [B, H, W, D] what the attack returned, in the box.
    x: [B, H, W, D].
    share: x_adv -> [B] share of the select draws that are right, or not in the target.
    factors: of the perturbation, increasing; see `stretches`.

  Returns:
    [B, H, W, D] float32; x_adv itself where no factor fails.
  """
  found, open_ = x_adv, np.ones(len(x), bool)
  delta = np.asarray(x_adv, np.float64) - x
  for stretch in factors:
    at = x_adv if stretch == 1.0 else np.clip(x + stretch * delta, 0.0, 1.0).astype(np.float32)
    now = open_ & failing(share(at))
    found = np.where(np.reshape(now, (-1,) + (1,) * (x.ndim - 1)), at, found)
    open_ = open_ & ~now
    if not np.any(open_):
      break
  return found


def relative_l2(size: np.ndarray, x: np.ndarray) -> np.ndarray:
  """[B] ‖η‖₂ / ‖x‖₂ of ℓ2 norms; infinite for a perturbation of an image that is all 0."""
  whole = perturbation_norm(x, np.zeros_like(x), "l2")
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(size == 0, 0.0, size / whole)


def derive(cell: Cell, untouched: Cell, eps: float, grade_as: str) -> Cell:
  """The cell of one eps, as if the attack had been run with that budget.

  Args:
    cell: of a minimum-norm attack.
    untouched: the cell of the clean images; they are what is left where the success is too far.
    eps: radius; to be clipped, one of the cell's own.
    grade_as: one of `GRADE_AS`.
  """
  attack, norm = cell.header["settings"]["attack"], cell.header["norm"]
  header = {name: cell.header[name] for name in ("settings", "num_images", "seconds", "record")}
  # Beside the published protocol stands the honest curve.
  both = attack["grade_as"] == "clip" and grade_as == "distance"
  label = cell.header["label"] + AS_DISTANCE * both
  header |= {"label": label, "norm": norm, "eps": float(eps), "derived": grade_as}
  if grade_as == "clip":
    column = attack["eps"].index(eps)
    names = (*per_example(cell.arrays), "norm")
    arrays = {name: cell.arrays[CLIPPED + name][:, column] for name in names}
    return Cell(header, _with_target(arrays, cell))
  within = cell.arrays["norm"].astype(np.float64) <= eps + tolerance(norm, eps)

  def choose(name: str) -> np.ndarray:
    reached, clean = cell.arrays[name], untouched.arrays[name]
    return np.where(np.reshape(within, (-1,) + (1,) * (reached.ndim - 1)), reached, clean)

  arrays = {name: choose(name) for name in per_example(cell.arrays)}
  arrays["norm"] = np.where(within, cell.arrays["norm"], 0.0)
  return Cell(header, _with_target(arrays, cell))


def _with_target(arrays: dict[str, np.ndarray], cell: Cell) -> dict[str, np.ndarray]:
  """With the target of a targeted attack, and the share of the grade draws that reach it."""
  if "target" not in cell.arrays:
    return arrays
  target, attack = cell.arrays["target"], cell.header["settings"]["attack"]
  accepted = arrays["accepted"] if attack.get("against") == "detector" else None
  in_target = share_in_target(arrays["prediction"], target, accepted)
  return {**arrays, "target": target, "in_target": in_target}


def expand(cells: Sequence[Cell], untouched: Cell) -> list[Cell]:
  """Cells that each have an eps: those of minimum-norm attacks at every eps of their grid."""
  found = []
  for cell in cells:
    if not is_minimum(cell):
      found.append(cell)
      continue
    own = cell.header["settings"]["attack"]["grade_as"]
    for grade_as in ("clip", "distance") if own == "clip" else ("distance",):
      found += [derive(cell, untouched, eps, grade_as) for eps in cell.header["grid"]]
  return found


def asked(cell: Cell) -> np.ndarray:
  """[N] bool, the images that were attacked: all, or those that have a target."""
  if "target" not in cell.arrays:
    return np.ones(len(cell.arrays["norm"]), bool)
  return cell.arrays["target"] != LEFT_OUT


def successes(cell: Cell) -> np.ndarray:
  """[N] bool, whether at least half of the select draws fail, or predict the target."""
  if SELECT_IN_TARGET in cell.arrays:
    return cell.arrays[SELECT_IN_TARGET] >= 0.5
  return failing(cell.arrays["select_correct"])


def distances(cell: Cell) -> np.ndarray:
  """[N] float64, the norm of each success; infinite where the attack found none."""
  return np.where(successes(cell), cell.arrays["norm"].astype(np.float64), np.inf)


def relative_distances(cell: Cell) -> np.ndarray | None:
  """[N] float64, ‖η‖₂ / ‖x‖₂ of each success, infinite where there is none; None: not stored.

  Older cells have `relative_norm`, in the attack's own norm: of ℓ2 it is the same.
  """
  own = cell.arrays.get("relative_norm") if cell.header["norm"] == "l2" else None
  size = cell.arrays.get(RELATIVE_L2, own)
  return None if size is None else np.where(successes(cell), size.astype(np.float64), np.inf)


def statistics(cell: Cell) -> dict[str, Any]:
  """What is reported of the distances of the images that were attacked, JSON-able.

  None where a number would be infinite, or there are no images.
  `mean_relative_norm` is DeepFool's average robustness ρ = mean ‖η‖₂ / ‖x‖₂ over these images,
  where natural errors count 0 and one failure makes it infinite.
  """
  mine, relative = asked(cell), relative_distances(cell)
  return distance_statistics(distances(cell)[mine], None if relative is None else relative[mine])


def distance_statistics(found: np.ndarray, relative: np.ndarray | None) -> dict[str, Any]:
  """The same of distances [N] and relative ones [N], infinite where there is no success.

  `rho_norm` is the norm of the relative ones, None where they are not stored.
  """
  success = np.isfinite(found)
  there = relative if relative is not None else np.zeros(0)
  some = np.any(success) and relative is not None
  return {
    "median_norm": _finite(np.median(found[success])) if np.any(success) else None,
    "median_norm_all": _finite(_median(found)),
    "rho_norm": None if relative is None else RHO_NORM,
    "mean_relative_norm": _finite(np.mean(there)) if len(there) else None,
    "mean_relative_norm_of_successes": _finite(np.mean(there[success])) if some else None,
    "median_relative_norm_all": _finite(_median(there)),
  }


def has_rho(row: Mapping[str, Any]) -> bool:
  """Whether a row of `statistics` has ρ; older ones have it in the attack's norm, not in ℓ2."""
  return row.get("rho_norm", row["norm"]) == RHO_NORM


def text(row: Mapping[str, Any], field: str) -> str:
  """A field of `statistics` as tables print it; what is not finite is None there."""
  if "relative" in field and not has_rho(row):
    return "not stored"
  return "∞" if row[field] is None else f"{row[field]:.4g}"


def _median(values: np.ndarray) -> float:
  """The median, where values may be infinite (inf − inf would make it NaN)."""
  if not len(values):
    return np.inf
  low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
  return float(low if low == high else (low + high) / 2)


def _finite(value: Any) -> float | None:
  return float(value) if np.isfinite(value) else None
