"""ROC curves of the detector of an evaluation, from the scores that its cells hold.

Cells of an evaluation with a detector have "score" [N, G], larger where an image looks more
ordinary, on the grade draws; a detector rejects what lies below its threshold.
"""

from collections.abc import Sequence

from gencls.evaluate import UNTOUCHED
from gencls.evaluation import minimum_norm
from gencls.report.plots import Roc
from gencls.report.reading import Entry
from gencls.summary import detection

SCORE = "score"


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
    attacked = [c for c in entry.cells if c.header["norm"]]
    cells = [c for c in minimum_norm.expand(attacked, untouched) if SCORE in c.arrays]
    for (norm, eps), curves in detection.curves(untouched, cells).items():
      found += [Roc(f"{label} {norm} {eps:g}", fpr, tpr, entry.title) for label, fpr, tpr in curves]
  return found
