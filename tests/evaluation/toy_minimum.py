"""A minimum-norm attack that NumPy can make too: the first wrong image on the way to grey."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from toy_evaluation import LEVELS, log_joint, toy_images, toy_subject

from gencls.attacks.broadcast import choose, expand
from gencls.attacks.objective import info, query
from gencls.evaluation.attack_specs import AttackSpec
from gencls.types import Array, Attack, Goal

LINE = AttackSpec("line", "line", "linf", (0.1, 0.3, 0.5), "margin", 1, {"num_steps": 10})


class State(NamedTuple):
  x: Array
  best: Array
  found: Array
  goal: Goal
  step: Array


def line(objective, *, num_steps: int = 10, reach: float = 1.0) -> Attack:
  """Tries x + reach · k / num_steps · (0.5 − x) for k = 0, 1, …; no eps, no norm."""
  plan = {"num_steps": jnp.int32(num_steps), "reach": jnp.float32(reach)}
  step = Partial(_step, objective=objective, **plan)
  return Attack(Partial(_init), step, Partial(_result), num_steps + 1)


def _init(keys, x, goal):
  zeros = jnp.zeros(len(x), jnp.int32)
  return State(x, x, zeros > 0, goal._replace(start=None), zeros)


def _step(keys, state, *, objective, num_steps, reach):
  share = reach * state.step.astype(jnp.float32) / num_steps
  x_adv = state.x + expand(share, state.x) * (0.5 - state.x)
  at = query(objective, keys, state.step, x_adv, state.goal)
  new = at.success & ~state.found
  found, step = state.found | at.success, state.step + 1
  best = choose(new, x_adv, state.best)
  state = state._replace(best=best, found=found, step=step)
  return state, info(at, found | (step > num_steps))


def _result(state):
  return state.best


def by_hand(x, wrong, num_steps=10, reach=1.0):
  """([N, H, W, D] result, [N] bool found) with `wrong`: x -> [N] bool."""
  best, found = x.copy(), np.zeros(len(x), bool)
  for step in range(num_steps + 1):
    x_adv = (x + np.float32(reach * step / num_steps) * (np.float32(0.5) - x)).astype(np.float32)
    new = wrong(x_adv) & ~found
    best[new] = x_adv[new]
    found |= new
  return best, found


def clean():
  """(images, labels) of the toy."""
  dataset = toy_images()
  return np.asarray(dataset.images / (LEVELS - 1), np.float32), dataset.labels


def predicted(x):
  """[N] the classes that the toy finds."""
  return np.asarray(log_joint(toy_subject().params, jnp.asarray(x))).argmax(1)


def cells_of(cells, label):
  """eps -> the cell of an attack."""
  return {c.header["eps"]: c for c in cells if c.header["label"] == label}
