"""ROC curves of the detector of an evaluation, from the scores that its cells hold.

Cells of an evaluation with a detector have "score" [N, G], larger where an image looks more
ordinary, on the grade draws; a detector rejects what lies below its threshold.
"""

from collections.abc import Sequence

import numpy as np

from gencls import minimum_norm
from gencls.evaluate import GREY, UNTOUCHED
from gencls.report.plots import Roc
from gencls.report.reading import Entry
from gencls.results import Cell

SCORE = "score"


def rates(clean: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(false-positive, detection) rates at every threshold at which the curve bends.

  Args:
    clean: [N] scores of clean images, N >= 1; what is not finite is always rejected.
    attacked: [M] scores of adversarial images, M >= 1.
  """
  from sklearn.metrics import roc_curve  # noqa: PLC0415

  both = np.concatenate([clean, attacked]).astype(np.float64)
  finite = np.isfinite(both)
  lowest = np.min(both, where=finite, initial=0.0)
  strange = -np.where(finite, both, lowest - 1.0)
  truth = np.repeat([0, 1], [len(clean), len(attacked)])
  fpr, tpr, _ = roc_curve(truth, strange)
  return fpr, tpr


def read(entries: Sequence[Entry]) -> list[Roc]:
  """A curve for each model and attack at the largest eps of each norm.

  Clean images stand against successful attacks. Models without a detector, and attacks without a
  success, have none.
  """
  found = []
  for entry in entries:
    untouched = next((c for c in entry.cells if c.header["label"] == UNTOUCHED), None)
    if untouched is None or SCORE not in untouched.arrays:
      continue
    attacked = [c for c in entry.cells if c.header["norm"] and c.header["label"] != GREY]
    cells = [c for c in minimum_norm.expand(attacked, untouched) if SCORE in c.arrays]
    largest = {c.header["norm"]: c.header["eps"] for c in sorted(cells, key=_eps)}
    for cell in cells:
      wrong = cell.arrays["prediction"] != untouched.arrays["label"][:, None]
      header = cell.header
      if header["eps"] == largest[header["norm"]] and np.any(wrong):
        points = rates(untouched.arrays[SCORE].ravel(), cell.arrays[SCORE][wrong])
        label = f"{header['label']} {header['norm']} {header['eps']:g}"
        found.append(Roc(label, *points, entry.title))
  return found


def _eps(cell: Cell) -> float:
  return cell.header["eps"]
