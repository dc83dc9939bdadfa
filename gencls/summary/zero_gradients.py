"""The check of gradients by the logits: does what an attack maximises have one?

The margin always has, so that an attack on it cannot fail here; what cross-entropy would have is
told beside it. An ensemble is judged by the losses of its members, not by that of its judge, and
what pursues several classes in turn by its loss towards each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gencls import sanity
from gencls.attacks.losses import LOSSES
from gencls.evaluation import masking
from gencls.evaluation.grading import predict
from gencls.evaluation.results import Cell
from gencls.summary.detection import evading
from gencls.summary.members import members_of
from gencls.summary.targeted import aim


def check(
  attacked: Sequence[Mapping[str, Any]], cells: Sequence[Cell], untouched: Cell
) -> sanity.Check:
  """No loss that an attack maximises has a zero gradient by the logit it is about.

  Args:
    attacked: a row for each attack that was run, with its counts.
    cells: of every attack, as in `checks.run`.
    untouched: the cell of the clean images.
  """
  made = {(c.header["label"], c.header["norm"], c.header["eps"]): c for c in cells}
  counts = {}
  for row in attacked:
    at = "minimum" if row["eps"] is None else f"{row['eps']:g}"
    where = f"{row['label']} {row['norm']} {at}"
    attack, cell = row["attack"], made.get((row["label"], row["norm"], row["eps"]))
    num_targets = attack["hyperparameters"].get("num_targets", 0)
    if cell is not None and (every := members_of(cell)):
      for name, member in every.items():
        counts[f"{where} ({name})"] = _zeros(member.loss, member.num_targets, cell, untouched)
    elif row["zero_gradient"] is None:
      continue  # it has no loss
    elif cell is not None and num_targets:
      counts[where] = _zeros(attack["loss"], num_targets, cell, untouched)
    else:
      counts[where] = row["zero_gradient"]
  name, n = "no zero gradient of the loss by the logit it is about", len(untouched.arrays["label"])
  found = sanity.counted(name, counts, n)
  return found._replace(detail=f"{found.detail}; {cross_entropy(untouched)}")


def _zeros(loss: str, num_targets: int, cell: Cell, untouched: Cell) -> int:
  arrays = untouched.arrays
  target = cell.arrays["target"] if aim(cell) is not None else None
  accepted = arrays["accepted"][:, 0] if evading(cell) else None
  given = arrays["logits"], arrays["label"], target, accepted
  zero = masking.standing_zeros(LOSSES[loss], *given, num_targets)
  return int(np.sum(zero))


def cross_entropy(untouched: Cell) -> str:
  """Of how many clean images that are right cross-entropy has no gradient, in words."""
  logits, labels = untouched.arrays["logits"], untouched.arrays["label"]
  right = predict(logits) == labels
  zero = masking.standing_zeros(LOSSES["cross_entropy"], logits, labels) & right
  return f"by cross-entropy zero for {np.sum(zero)} of {np.sum(right)} images that are right"
