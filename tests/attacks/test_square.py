"""The windows, bumps, energies and schedule of Square, as its paper and authors have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import keys
from jax.tree_util import Partial

from gencls import attacks
from gencls.attacks import geometry, square
from gencls.attacks.square import HALVED_AT
from gencls.types import Goal


def _pyramid(rows, columns):
  """Nested rectangles around the middle, the k-th of weight 1 / k², as the authors add them up."""
  delta = np.zeros((rows, columns))
  row, column = rows // 2, columns // 2
  for k in range(max(rows // 2 + 1, columns // 2 + 1)):
    delta[max(row, 0) : row + 2 * k + 1, max(column, 0) : column + 2 * k + 1] += 1 / (k + 1) ** 2
    row, column = row - 1, column - 1
  return delta / np.linalg.norm(delta)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7])
def test_bump_is_that_of_the_paper(side):
  row, column = (jnp.asarray(v)[None, :, :, None] for v in np.mgrid[:9, :9])
  inside = (row < side) & (column < side)
  bump = np.asarray(jax.jit(square._bump)(inside, row, column, jnp.full(1, side)))[0, :, :, 0]
  halves = [_pyramid(side // 2, side)] if side > 1 else []
  whole = np.concatenate([*halves, -_pyramid(side - side // 2, side)])
  np.testing.assert_allclose(bump[:side, :side], whole / np.linalg.norm(whole), atol=1e-6)
  assert not bump[side:].any() and not bump[:, side:].any()


def test_windows_shrink_and_cover_the_whole_image():
  x = jnp.zeros((200, 8, 7, 2)) + 0.5
  ball, p = geometry.linf(0.1), jnp.full(200, 0.2)
  changed = np.asarray(jax.jit(square._set_square)(keys(200), x, x, p, ball)) - 0.5
  area = np.sum(np.abs(changed) > 0, axis=(1, 2))
  assert np.all(area == round(np.sqrt(0.2 * 56)) ** 2)  # one square, all channels
  np.testing.assert_allclose(np.abs(changed).max(axis=(1, 2, 3)), 0.1, rtol=1e-5)
  assert np.all(np.any(changed, axis=0))  # the last row and column too
  # Each window has one sign per channel, and the two are drawn apart.
  sign = np.sign(changed.sum(axis=(1, 2)))
  assert np.all(np.abs(sign) == 1) and abs(np.mean(sign[:, 0] * sign[:, 1])) < 0.3


@pytest.mark.parametrize("depth", [1, 2])
def test_a_bump_gets_the_energy_of_both_windows_and_what_eps_leaves(depth):
  x = jnp.full((50, 9, 8, depth), 0.5)
  delta = 0.01 * jnp.where(jax.vmap(lambda k: jax.random.bernoulli(k, shape=x.shape[1:]))(keys(50)),
                           1.0, -1.0)  # fmt: skip
  ball, p = geometry.l2(0.3), jnp.full(50, 0.1)
  move = jax.jit(square._move_energy)
  moved = np.asarray(move(keys(50, 7), x, x + delta, p, ball)) - 0.5
  spent = float(jnp.sum(jnp.square(delta[0])))
  assert 1.3 * spent < 0.3**2
  # The ball is full without scaling, so that no pixel outside of the windows has changed.
  outside = np.isclose(moved, delta, atol=1e-6).all(axis=3)
  emptied = (np.abs(moved).max(axis=3) < 1e-6) & ~outside
  first = ~outside & ~emptied
  side = np.sqrt(first.sum(axis=(1, 2)))
  assert np.all(side == 3) and np.all(emptied.sum(axis=(1, 2)) <= 9) and np.any(emptied)
  energy = np.sum(np.square(moved) * first[..., None], axis=(1, 2))  # [50, depth]
  both = (first | emptied).sum(axis=(1, 2))[:, None] * 0.01**2
  want = np.broadcast_to((0.3**2 - spent) / depth + both, energy.shape)
  np.testing.assert_allclose(energy, want, rtol=1e-3)


def test_schedule_of_the_squares():
  """Sides seen by the model: those of the paper's table, at the stretched iteration."""

  step = jax.jit(lambda attack_step, state: attack_step(keys(1), state)[0].x_adv)
  flat = Partial(lambda keys, x: jnp.zeros((len(x), 2)))

  def side_at(iteration, **options):
    attack = attacks.build("square", flat, eps=0.1, num_steps=1000, **options)
    x = jnp.full((1, 20, 20, 1), 0.5)
    goal = Goal(jnp.zeros(1, jnp.int32), jnp.full(1, -1))
    state = attack.init(keys(1), x, goal)
    # A loss below all: the next candidate is kept and can be looked at.
    query = jnp.full(1, iteration + 1, jnp.int32)
    state = state._replace(query=query, best_loss=jnp.full(1, -9.0))
    return np.sqrt(np.sum(np.asarray(step(attack.step, state)) != 0.5))

  for iteration, halvings in [(0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (501, 4), (999, 4)]:
    assert side_at(iteration) == max(round(np.sqrt(0.8 / 2**halvings * 400)), 1)
  assert side_at(1) == side_at(0) and side_at(2, rescale=True) == round(np.sqrt(0.4 * 400))
  assert side_at(801, rescale=True) == 1 == round(np.sqrt(0.8 / 2**9 * 400))
  assert len(HALVED_AT) == 9
