"""Whether what attacks maximise has a gradient by the logits, by the losses that they use."""

import numpy as np
import pytest

from gencls.attacks import auto_attack
from gencls.evaluation.results import Cell
from gencls.summary.zero_gradients import check

LABELS = np.zeros(4, np.int32)
LOGITS = np.array([[0, -300, -400], [0, -1, -2], [-300, 0, -1], [np.nan, 0, 0]], np.float32)


def _untouched(**arrays):
  return Cell({"num_images": 4}, {"logits": LOGITS, "label": LABELS, **arrays})


def _cell(name, against="classifier", target=None, **hyperparameters):
  attack = {"name": name, "against": against, "hyperparameters": hyperparameters, "target": target}
  header = {"label": "a", "norm": "linf", "eps": 0.1, "settings": {"attack": attack}}
  return Cell(header, {} if target is None else {"target": np.full(4, target)})


def _checked(cell, count=0, **untouched):
  row = {n: cell.header[n] for n in ("label", "norm", "eps")}
  row |= {"attack": cell.header["settings"]["attack"], "zero_gradient": count}
  return check([row], [cell], _untouched(**untouched))


def test_what_cross_entropy_would_have_is_told_where_the_margin_cannot_fail():
  found = _checked(_cell("pgd"))
  assert found.name == "no zero gradient of the loss by the logit it is about"
  assert found.status == "pass"
  assert found.detail == "none; by cross-entropy zero for 1 of 2 images that are right"
  found = _checked(_cell("pgd"), 3)
  assert found.status == "fail" and found.detail.startswith("a linf 0.1: 3 of 4; by cross-entropy")


def test_an_ensemble_is_judged_by_the_losses_of_its_members():
  """Image 0 is saturated, image 2 is broken already and image 3 is not finite."""
  found = _checked(_cell("auto_attack", version="apgd", num_classes=3))
  assert found.status == "fail"
  assert found.detail.startswith("a linf 0.1 (apgd_ce): 2 of 4; by cross-entropy")
  every = {"accepted": np.ones((4, 1), bool)}
  seen = _cell("auto_attack", "detector", version="rand", num_classes=3)
  assert _checked(seen, **every).detail.startswith("a linf 0.1 (apgd_ce): 2 of 4;")
  aimed = _cell("auto_attack", target=1, version="apgd", num_classes=3)
  assert _checked(aimed).detail.startswith("a linf 0.1 (apgd_ce): 1 of 4;")


@pytest.mark.parametrize(
  ("num_classes", "found"),
  [
    (10, {"apgd_ce": "cross_entropy", "apgd_t": "dlr", "fab_t": "margin", "square": "margin"}),
    (3, {"apgd_ce": "cross_entropy", "apgd_t": "margin", "fab_t": "margin", "square": "margin"}),
    (2, {"apgd_ce": "cross_entropy", "square": "margin"}),
  ],
)
def test_the_losses_are_those_of_the_members(num_classes, found):
  assert auto_attack.losses(num_classes=num_classes, num_steps=7) == found
