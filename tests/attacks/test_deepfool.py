"""DeepFool in any ℓp: the paper's closed form, SciPy's optimum in the box, and both ends of p."""

import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys, linear, predictions
from jax.tree_util import Partial
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from toy_evaluation import CLASSES, LEVELS, SCALE, protocol, run, toy_images, toy_subject

from gencls import attacks
from gencls.attacks import geometry
from gencls.evaluation.attack_cells import AttackSpec
from gencls.evaluation.grading import perturbation_norm
from gencls.summary.summarise import summarise

SHAPE = (4, 6, 1)
LINEAR = linear(size=24, num_classes=5)
INNER = images(32, shape=SHAPE)
INNER_Y = predictions(LINEAR, INNER)
ROUGH = curved(size=24, num_classes=5, width=24)
CURVED = Partial(ROUGH.func, 0.4 * ROUGH.args[0], ROUGH.args[1])
X = images(32, shape=SHAPE, low=0, high=1)
Y = predictions(CURVED, X)


def _run(logits_fn, x, y, norm, *, batch=None, **options):
  attack = attacks.build("deepfool", logits_fn, norm=norm, **options)
  return attacks.run(attack, keys(len(x)), x, y, batch_size=batch, compact=False)


def _sizes(adv, x, norm):
  return perturbation_norm(np.asarray(adv.x), np.asarray(x), norm)


def _nearest(logits_fn, x, y):
  """(|f| [B, C], w [B, C, D]) of every boundary, in float64; |f| = inf for the own class."""
  weights, bias = (np.asarray(leaf, float) for leaf in logits_fn.args)
  z = np.asarray(x, float).reshape(len(x), -1) @ weights + bias
  w = (weights[:, None, :] - weights[:, y][:, :, None]).transpose(1, 2, 0)
  rivals = np.arange(z.shape[1])[None] != np.asarray(y)[:, None]
  return np.where(rivals, z[np.arange(len(y)), y][:, None] - z, np.inf), w


def _distances(logits_fn, x, y, p):
  """|f| / ||w||_q of the nearest boundary."""
  gaps, w = _nearest(logits_fn, x, y)
  largest = np.max(np.abs(w), axis=2) + 1e-300  # no power of a number in [0, 1] overflows
  size = largest * np.linalg.norm(w / largest[:, :, None], ord=p / (p - 1), axis=2)
  return np.min(gaps / np.where(size > 0, size, 1), axis=1)


@pytest.mark.parametrize("p", [1.001, 1.01, 1.5, 3, 1000])
def test_on_a_linear_model_it_goes_the_dual_norms_distance_and_overshoots_it(p):
  adv = _run(LINEAR, INNER, INNER_Y, f"l{p}")
  assert adv.info.success.all() and np.all(predictions(LINEAR, adv.x) != INNER_Y)
  np.testing.assert_array_equal(adv.info.num_steps, 2)
  expected = 1.02 * (_distances(LINEAR, INNER, INNER_Y, p) + 1e-4)
  np.testing.assert_allclose(_sizes(adv, INNER, f"l{p}"), expected, rtol=1e-4)


@pytest.mark.parametrize("p", [1.5, 3])
def test_the_move_is_the_papers(p):
  """r = |f| / ||w||_q^q · |w|^(q−1) ⊙ sign(w), but for what is added to every move's length."""
  adv = _run(LINEAR, INNER, INNER_Y, f"l{p}", overshoot=0.0)
  gaps, w = _nearest(LINEAR, INNER, INNER_Y)
  q, rows = p / (p - 1), np.arange(32)
  size = np.sum(np.abs(w) ** q, axis=2)
  nearest = np.argmin(gaps / np.where(size > 0, size, 1) ** (1 / q), axis=1)
  f, w, size = gaps[rows, nearest], w[rows, nearest], size[rows, nearest]
  move = (f / size)[:, None] * np.abs(w) ** (q - 1) * np.sign(w)
  move *= (1 + 1e-4 / np.linalg.norm(move, ord=p, axis=1))[:, None]
  np.testing.assert_allclose(np.asarray(adv.x - INNER).reshape(32, 24), move, atol=1e-6)


@pytest.mark.parametrize(("near", "named"), [("l1.001", "l1"), ("l1000", "linf")])
def test_the_ends_of_p_are_the_norms_of_their_names(near, named):
  ours, ends = (_run(LINEAR, INNER, INNER_Y, norm) for norm in (near, named))
  np.testing.assert_allclose(_sizes(ours, INNER, named), _sizes(ends, INNER, named), rtol=0.02)


@pytest.mark.parametrize(("near", "named"), [("l2.001", "l2"), ("l1000", "linf")])
def test_beside_l2_and_linf_it_is_as_strong_on_a_curved_model(near, named):
  ours, same = (_run(CURVED, X, Y, norm) for norm in (near, named))
  assert np.mean(ours.info.success) >= np.mean(same.info.success) > 0.9
  sizes = [np.median(_sizes(adv, X, named)) for adv in (ours, same)]
  assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def _plane(w, offset):
  """Two classes, the second where w·x > offset."""
  bias = jnp.asarray([0.0, -offset], jnp.float32)
  return Partial(LINEAR.func, jnp.asarray(np.stack([0 * w, w], axis=1), jnp.float32), bias)


def _smallest_in_box(w, offset, x, p):
  """The least ℓp norm of a δ in the box with w·(x + δ) >= offset, by SciPy."""

  def power(delta):
    return np.sum(np.abs(delta) ** p), p * np.abs(delta) ** (p - 1) * np.sign(delta)

  corner = np.where(w > 0, 1 - x, -x)
  reach = {"type": "ineq", "fun": lambda delta: w @ delta + w @ x - offset, "jac": lambda _: w}
  walls = [(-v, 1 - v) for v in x]
  found = minimize(
    power,
    0.5 * corner,
    jac=True,
    method="SLSQP",
    constraints=[reach],
    bounds=walls,
    options={"ftol": 1e-12, "maxiter": 500},
  )
  assert found.success, found.message
  return found.fun ** (1 / p)


@pytest.mark.parametrize("p", [1.5, 3])
def test_at_the_walls_it_finds_scipys_optimum(p):
  rng = np.random.default_rng(3)
  x = np.clip(np.round(rng.uniform(-0.2, 1.2, size=(24, 24)), 1), 0, 1).astype("f4")
  w = rng.normal(size=24)
  offset = np.sum(w[w > 0]) - 2.5  # the corner is beyond it
  ahead = offset - x.astype(float) @ w
  x, ahead = x[ahead > 0.2], ahead[ahead > 0.2]
  with threadpool_limits(1):  # threads that wait for each other took 100 times as long
    best = np.array([_smallest_in_box(w, offset, row.astype(float), p) for row in x])
  free = ahead / np.linalg.norm(w, ord=p / (p - 1))
  assert len(x) >= 16 and np.mean(best > 1.05 * free) > 0.7  # the walls matter
  x = x.reshape(-1, *SHAPE)
  adv = _run(_plane(w, offset), x, np.zeros(len(x), int), f"l{p}", overshoot=0.0)
  assert adv.info.success.all() and np.max(adv.info.num_steps) > 3
  ratio = _sizes(adv, x, f"l{p}") / best
  assert np.all(ratio > 1 - 1e-4) and np.all(ratio < 1.005), ratio


@pytest.mark.parametrize("p", [1.01, 1.2])
def test_a_steep_pixel_at_the_wall_does_not_hold_the_others_back(p):
  """Its slope is three times theirs: it would take all but (1/3)^q of every move."""
  w = np.where(np.arange(24) == 0, 3.0, 1.0)
  x = np.where(np.arange(24) == 0, 1.0, 0.5).reshape(1, *SHAPE).astype("f4").repeat(4, 0)
  adv = _run(_plane(w, float(np.sum(w * x[0].ravel())) + 1.0), x, np.zeros(4, int), f"l{p}")
  assert adv.info.success.all() and np.max(adv.info.num_steps) < 20
  least = 23 ** (1 / p) / 23
  ratio = _sizes(adv, x, f"l{p}") / least
  assert np.all(ratio > 1) and np.all(ratio < 1.03), ratio
  # Where nothing else has room either, it stays, and is no success.
  full = _run(_plane(w, 27.0), np.ones_like(x), np.zeros(4, int), f"l{p}")
  np.testing.assert_array_equal(full.x, np.ones_like(x))
  assert not full.info.success.any()


@pytest.mark.parametrize(("walled", "share"), [(0, 1.0), (6, None), (18, 0.5)])
def test_a_step_goes_the_papers_share_of_the_way_but_at_least_half(walled, share):
  """The share of Σ |w|^q that is not at the wall; the gain per length is as much less."""
  w = np.random.default_rng(4).normal(size=24)
  x = np.where(np.arange(24) < walled, w > 0, 0.5)
  move = attacks.build("deepfool", LINEAR, norm="l3").step.keywords["move"]
  direction, gain = move(*(jnp.asarray(v.reshape(1, *SHAPE), jnp.float32) for v in (w, x)))
  part = np.abs(w) ** 1.5  # q
  share = share or np.sum(part[walled:]) / np.sum(part)
  assert 0.5 <= share <= 1
  np.testing.assert_allclose(gain, np.sum(part[walled:]) ** (2 / 3) / share, rtol=1e-5)
  direction = np.asarray(direction).ravel()
  assert np.all(direction[:walled] == 0) and np.all(direction[walled:] * w[walled:] > 0)
  assert np.linalg.norm(direction, ord=3) == pytest.approx(1)


@pytest.mark.parametrize("norm", ["l1.01", "l3"])
def test_gradients_of_any_size_give_the_same_move(norm):
  """With q = 101, |w|^(q − 1) of 2^±100 is no float; nor is that of 16."""
  plain = _run(LINEAR, INNER, INNER_Y, norm)
  for scale in (2.0**-100, 16.0, 2.0**100):  # of two, so that no rounding is raised to the 100th
    scaled = Partial(LINEAR.func, *(scale * leaf for leaf in LINEAR.args))
    adv = _run(scaled, INNER, INNER_Y, norm)
    assert adv.info.success.all()
    np.testing.assert_allclose(adv.x, plain.x, atol=2e-5)


def test_other_ps_do_not_trace_again():
  traces = []

  def counted(weights, keys, x):
    traces.append(len(x))
    return jnp.tanh(x.reshape(len(x), -1) @ weights)

  logits_fn = Partial(counted, CURVED.args[0][:, :3])
  for norm in ("l1.5", "l3", "l77"):
    _run(logits_fn, X, Y % 3, norm)
  assert len(traces) == 2  # one example for the number of classes, then the attack


def test_l2_and_the_other_named_norms_keep_their_own_moves():
  """The steepest direction of `geometry`, bit for bit."""
  for norm in ("l1", "l2", "linf"):
    attack = attacks.build("deepfool", LINEAR, norm=norm)
    direction, size = attack.step.keywords["move"](INNER - 0.5, INNER)
    expected = geometry.build(norm, 0.0).steepest(INNER - 0.5, INNER)
    np.testing.assert_array_equal(direction, expected)
    np.testing.assert_array_equal(size, jnp.sum((INNER - 0.5) * expected, axis=(1, 2, 3)))


def _troubled(keys, x):
  """A linear model: NaN where the first pixel is above one half, flat where the last one is."""
  flat = x.reshape(len(x), -1)
  z = 2.0 * flat[:, :3] + jnp.asarray([[1.0, 0.0, 0.0]])
  z = jnp.where(flat[:, -1:] > 0.5, jnp.asarray([[1.0, 0.0, -1.0]]), z)
  return jnp.where(flat[:, :1] > 0.5, jnp.nan, 1.0) * z


def test_nan_and_flat_models_move_nothing():
  x = jnp.full((4, *SHAPE), 0.4).at[1, 0, 0, 0].set(0.9).at[2, -1, -1, 0].set(0.9)
  adv = _run(_troubled, x, np.zeros(4, int), "l1.5", num_steps=6)
  np.testing.assert_array_equal(adv.x[1:3], x[1:3])
  np.testing.assert_array_equal(adv.info.nonfinite, [0, 7, 0, 0])
  np.testing.assert_array_equal(adv.info.zero_gradient, [0, 0, 7, 0])
  np.testing.assert_array_equal(adv.info.success, [True, False, False, True])


@pytest.mark.slow
def test_a_cell_in_l3_holds_the_distances_and_its_curve(tmp_path):
  """The toy's boundaries are planes: between class means, at equal distances."""
  eps = (0.05, 0.1, 0.2, 0.5)
  spec = AttackSpec("deepfool", "deepfool", "l3", eps, "margin", 1, {})
  cells = run(tmp_path, None, protocol(clean=()), [spec])
  cell = next(cell for cell in cells if cell.header["label"] == "deepfool")
  dataset = toy_images()
  x = np.asarray(dataset.images / (LEVELS - 1), float).reshape(30, -1)
  means = np.asarray(toy_subject().params["mean"], float).reshape(CLASSES, -1)
  weights, bias = means.T / SCALE**2, -0.5 * np.sum(means**2, axis=1) / SCALE**2
  right = np.argmax(x @ weights + bias, axis=1) == dataset.labels
  expected = _distances(Partial(LINEAR.func, weights, bias), x, dataset.labels, 3)
  found = cell.arrays["norm"]
  assert np.all(cell.arrays["correct"] == 0) and not cell.arrays["outside"].any()
  np.testing.assert_array_equal(found[~right], 0)
  # The box never brings a boundary nearer; without walls on the way it is met at once.
  assert np.all(found[right] > expected[right])
  ratio = found[right] / (1.02 * (expected[right] + 1e-4))
  assert np.mean(np.abs(ratio - 1) < 1e-4) > 0.3 and np.median(ratio) < 1.01, ratio
  rows = {row["eps"]: row for row in summarise(cells)["rows"] if row["label"] == "deepfool"}
  means = [rows[e]["accuracy"]["mean"] for e in eps]
  np.testing.assert_allclose(means, [np.mean(right & (found > e)) for e in eps])
  assert means[0] > means[-1]
