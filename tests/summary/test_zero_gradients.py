"""Whether what attacks maximise has a gradient by the logits, by the losses that they use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import attacks
from gencls.attacks import auto_attack
from gencls.attacks.losses import LOSSES
from gencls.evaluation import masking
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


def test_what_pursues_several_classes_is_judged_by_its_loss_towards_each():
  """The label is third: the untargeted DLR is constant in it, the targeted one in no rival."""
  logits = np.array([[8, 10, 9, 3, 2]], np.float32)
  untouched = Cell(
    {"num_images": 1},
    {"logits": logits, "label": np.zeros(1, np.int32), "accepted": np.zeros((1, 1), bool)},
  )

  def found(name, **hyperparameters):
    cell = _cell(name, "detector", **hyperparameters)  # broken, but not accepted
    attack = {**cell.header["settings"]["attack"], "loss": "dlr"}
    row = {"label": "a", "norm": "linf", "eps": 0.1, "attack": attack, "zero_gradient": 1}
    return check([row], [cell], untouched).detail.split(";")[0]

  assert found("apgd") == "a linf 0.1: 1 of 1"
  assert found("apgd", num_targets=4) == "none"
  assert found("auto_attack", version="apgd", num_classes=5, num_targets=3) == "none"
  rand = found("auto_attack", version="rand", num_classes=5)
  assert rand == "a linf 0.1 (apgd_dlr): 1 of 1"


def test_an_attack_towards_several_classes_is_starved_where_all_of_them_are():
  """Cross-entropy towards classes 400 nats and more behind has no gradient in float32."""
  logits = np.array([[0, -400, -500, -1], [0, -400, -500, -600]], np.float32)
  label = np.zeros(2, np.int32)
  softmax = LOSSES["cross_entropy_of_probabilities"]
  assert masking.standing_zeros(softmax, logits, label, num_targets=3).tolist() == [False, True]
  assert masking.standing_zeros(softmax, logits[:, ::-1], label + 3, num_targets=1).tolist() == [
    False,
    True,
  ]


ATTACKS = {"apgd_ce": "apgd", "apgd_t": "apgd", "fab_t": "fab", "square": "square"}


@pytest.mark.parametrize(
  ("num_classes", "found"),
  [
    (10, {"apgd_ce": "cross_entropy", "apgd_t": "dlr", "fab_t": "margin", "square": "margin"}),
    (3, {"apgd_ce": "cross_entropy", "apgd_t": "margin", "fab_t": "margin", "square": "margin"}),
    (2, {"apgd_ce": "cross_entropy", "square": "margin"}),
  ],
)
def test_the_losses_are_those_of_the_members(num_classes, found):
  members = auto_attack.members(num_classes=num_classes, num_steps=7, num_targets=4)
  assert {name: member.loss for name, member in members.items()} == found
  assert {name: member.attack for name, member in members.items()} == {n: ATTACKS[n] for n in found}
  targets = {n: min(4, num_classes - 1) for n in found if n.endswith("_t")}
  assert {n: m.num_targets for n, m in members.items() if m.num_targets} == targets


@pytest.mark.parametrize("version", auto_attack.VERSIONS)
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_members_are_those_that_are_built(version, adaptive):
  fresh = {"randomness": "fresh", "eot_samples": 2} if version == "rand" else {}
  accept = (lambda keys, x, logits: jnp.ones(len(x))) if adaptive else None
  fn = jax.tree_util.Partial(lambda keys, x: x[:, 0, 0, :])
  built = attacks.build("auto_attack", fn, eps=0.1, version=version, accept=accept, **fresh)
  assert built.names == tuple(auto_attack.members(version=version, adaptive=adaptive))
