"""Noise and paths: attacks that try numbered images until one fools the model."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys, linear_logits, predictions
from jax.tree_util import Partial
from scipy.ndimage import gaussian_filter

from gencls import attacks
from gencls.attacks.blur import blur
from gencls.keys import fold
from gencls.types import Goal

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  import eagerpy as ep
  import foolbox

NUM, SHAPE = 24, (6, 6, 1)
KEYS = keys(NUM)


def _logits(weights, bias, poison, keys, x):
  """A linear classifier; with `poison` it is NaN for every other key."""
  odd = jax.random.key_data(keys)[:, 1] % 2 == 1
  bad = jnp.where(odd & poison, jnp.nan, 1.0)
  return linear_logits(weights, bias, keys, x) * bad[:, None]


def _model(poison=False, seed=0):
  """One that decides at the grey image, so that contrast reduction crosses before it.

  All tests share its compiled programs: its parameters are leaves, the sizes are the same.
  """
  rng = np.random.default_rng(seed)
  weights = jnp.asarray(rng.normal(size=(36, 3)), jnp.float32)
  return Partial(_logits, weights, -0.4 * jnp.sum(weights, axis=0), jnp.bool_(poison))


MODEL = _model()
X = images(NUM, shape=SHAPE, low=0.0, high=1.0)
CLEAN = predictions(MODEL, X)
Y = np.where(np.arange(NUM) % 6 == 5, (CLEAN + 1) % 3, CLEAN)  # some are wrong already


def _run(name, logits_fn=MODEL, *, x=X, y=Y, k=KEYS, target=None, **options):
  attack = attacks.build(name, logits_fn, **options)
  return attacks.run(attack, k, x, y, target=target, compact=False)


def _foolbox(attack, logits_fn=MODEL, x=X, y=Y, target=None):
  model = foolbox.JAXModel(jax.jit(lambda x: logits_fn(keys(len(x)), x)), bounds=(0, 1))
  if target is None:
    criterion = foolbox.criteria.Misclassification(ep.astensor(jnp.asarray(y)))
  else:
    criterion = foolbox.criteria.TargetedMisclassification(ep.astensor(jnp.asarray(target)))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return np.asarray(attack.run(model, ep.astensor(x), criterion).raw)


def _fooled(x_adv, y=Y, logits_fn=MODEL):
  return predictions(logits_fn, jnp.asarray(x_adv)) != y


def _grey_margins(y):
  """The margins at x and at the grey image, between which contrast reduction interpolates."""
  both = [np.asarray(MODEL(KEYS, v), np.float64) for v in (X, jnp.full_like(X, 0.5))]
  rows = np.arange(NUM)
  return [z - z[rows, y][:, None] for z in both]


def test_linear_contrast_stops_at_the_first_grid_point_behind_the_crossing():
  adv = _run("linear_search_contrast", num_steps=200)
  start, end = _grey_margins(Y)
  t = np.arange(201)[None, :, None] / 200
  wins = np.any((1 - t) * start[:, None] + t * end[:, None] > 0, axis=2)
  found = wins.any(1)
  share = np.where(found, wins.argmax(1), 0) / 200
  assert 0 < found.sum() < NUM and np.any((share > 0) & found)
  np.testing.assert_array_equal(adv.info.success, found)
  expected = np.asarray(X) + share[:, None, None, None] * (0.5 - np.asarray(X))
  np.testing.assert_allclose(adv.x, expected, atol=1e-6)
  np.testing.assert_array_equal(adv.x[share == 0], X[share == 0])
  # One evaluation for each grid point up to the first success, all where there is none.
  np.testing.assert_array_equal(adv.info.forward, np.where(found, np.round(share * 200), 200) + 1)
  assert not np.asarray(adv.info.backward).any()


def test_binary_contrast_halves_the_interval():
  adv = _run("binary_search_contrast", binary_search_steps=15)
  start, end = _grey_margins(Y)
  with np.errstate(divide="ignore", invalid="ignore"):
    cross = np.where((start < 0) & (end > 0), start / (start - end), np.inf).min(1)
  wrong = np.any(start > 0, axis=1)
  cross = np.where(wrong, 0.0, cross)
  found = np.isfinite(cross)
  np.testing.assert_array_equal(adv.info.success, found)
  reach = np.abs(0.5 - np.asarray(X)).max((1, 2, 3))
  distance = np.abs(np.asarray(adv.x - X)).max((1, 2, 3)) / reach
  assert np.all(distance[found] >= cross[found] - 1e-6)
  assert np.all(distance[found] <= cross[found] + 2.0**-14 + 1e-6)
  np.testing.assert_array_equal(adv.x[~found], X[~found])
  np.testing.assert_array_equal(adv.info.num_steps, np.where(wrong, 1, np.where(found, 15, 16)))


def test_only_the_grey_image_itself_fools_the_model():
  def exactly_grey(keys, x):
    grey = jnp.all(x == 0.5, axis=(1, 2, 3)).astype(x.dtype)
    return jnp.stack([1 - grey, grey, 0 * grey], axis=1)

  for name in ("linear_search_contrast", "binary_search_contrast"):
    steps = {"num_steps": 10} if name.startswith("linear") else {}
    adv = _run(name, exactly_grey, y=np.zeros(NUM, int), **steps)
    assert np.all(np.asarray(adv.x) == 0.5) and adv.info.success.all()


@pytest.mark.parametrize("targeted", [False, True])
def test_contrast_finds_what_foolbox_finds(targeted):
  target = (Y + 1) % 3 if targeted else None
  cases = [
    ("linear_search_contrast", {"num_steps": 100},
     foolbox.attacks.LinearSearchContrastReductionAttack(distance=foolbox.distances.linf,
                                                         steps=100)),
    ("binary_search_contrast", {},
     foolbox.attacks.BinarySearchContrastReductionAttack(distance=foolbox.distances.linf)),
  ]  # fmt: skip
  for name, options, peer in cases:
    mine, theirs = _run(name, target=target, **options), _foolbox(peer, target=target)
    found = np.asarray(mine.info.success)
    assert 0 < found.sum() < NUM
    np.testing.assert_allclose(mine.x[found], theirs[found], atol=1e-6)
    np.testing.assert_array_equal(mine.x[~found], X[~found])
    wanted = predictions(MODEL, jnp.asarray(theirs))
    np.testing.assert_array_equal(wanted == target if targeted else wanted != Y, found)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 10, 3)])
def test_blur_is_scipys(shape):
  x = images(3, shape=shape, low=0.0, high=1.0)
  # 4 σ + ½ is never an integer here, where the kernel's length would hang on a rounding.
  sigma = np.asarray([[0.1, 0.33, 1.7], [0.01, 2.6, 5.9], [0.7, 3.3, max(shape)]])
  mine = np.asarray(jax.jit(blur)(x, jnp.asarray(sigma, jnp.float32)))
  for row, image in enumerate(np.asarray(x, np.float64)):
    for column, width in enumerate(sigma[row]):
      expected = gaussian_filter(image, (width, width, 0))
      np.testing.assert_allclose(mine[row, column], expected, atol=3e-6)


def test_blur_finds_what_foolbox_finds():
  rng = np.random.default_rng(3)
  weights = jnp.asarray(rng.normal(size=(80, 3)), jnp.float32)
  model = Partial(linear_logits, weights, -0.5 * jnp.sum(weights, axis=0))
  x = images(NUM, shape=(8, 10, 1), low=0.0, high=1.0)
  y = predictions(model, x)
  y = np.where(np.arange(NUM) % 6 == 5, (y + 1) % 3, y)
  mine = _run("gaussian_blur", model, x=x, y=y, num_steps=50, block_size=4)
  peer = foolbox.attacks.GaussianBlurAttack(
    distance=foolbox.distances.linf, steps=50, channel_axis=3
  )
  theirs = _foolbox(peer, model, x, y)
  found = np.asarray(mine.info.success)
  assert 4 < found.sum() < NUM and np.unique(mine.info.forward).size > 4
  np.testing.assert_allclose(mine.x, theirs, atol=3e-6)  # where nothing is found, x
  np.testing.assert_array_equal(_fooled(mine.x, y, model), found)
  np.testing.assert_array_equal(mine.x[5::6], x[5::6])  # wrong already: x bit for bit


def _draws(kind, rescale, eps, norm, count, by_largest=False):
  """The noise of draw number `count`, written from the docstring, [NUM, H, W, D]."""
  drawn = fold(KEYS, "noise", count)
  if kind == "gaussian_noise":
    noise = np.asarray(jax.vmap(lambda key: jax.random.normal(key, SHAPE))(drawn))
  else:
    uniform = jax.vmap(lambda key: jax.random.uniform(key, SHAPE, minval=-1.0, maxval=1.0))
    noise = np.asarray(uniform(drawn))
  if by_largest:
    largest = noise.reshape(NUM, -1).max(1)[:, None, None, None]
    return np.clip(np.asarray(X) + np.clip(eps * noise / largest, -eps, eps), 0, 1)
  if rescale:
    flat = np.abs(noise).reshape(NUM, -1)
    size = flat.max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    noise = noise / size[:, None, None, None]
  return np.clip(np.asarray(X) + eps * noise, 0, 1)


@pytest.mark.parametrize(
  ("name", "norm", "eps", "options", "rescale"),
  [
    ("uniform_noise", "linf", 0.08, {}, False),
    ("uniform_noise", "linf", 0.08, {"rescale": True, "check_clean": False}, True),
    ("uniform_noise", "linf", 0.08, {"rescale": True, "by_largest": True}, True),
    ("gaussian_noise", "l2", 0.4, {}, True),
  ],
)
def test_noise_is_the_first_draw_that_succeeds_or_that_of_the_largest_loss(
  name, norm, eps, options, rescale
):
  repeats = 11
  by_largest = options.get("by_largest", False)
  images = [_draws(name, rescale, eps, norm, each, by_largest) for each in range(1, repeats + 1)]
  if options.get("check_clean", True):
    images = [np.asarray(X), *images]
  logits = np.stack([np.asarray(MODEL(KEYS, jnp.asarray(v))) for v in images])
  own = np.take_along_axis(logits, Y[None, :, None], 2)[..., 0]
  rival = np.where(np.arange(3)[None, None, :] == Y[None, :, None], -np.inf, logits).max(2)
  margin = rival - own
  wins = margin > 0
  found = wins.any(0)
  pick = np.where(found, wins.argmax(0), margin.argmax(0))
  assert 0 < found.sum() < NUM and np.unique(pick).size > 4
  expected = np.stack(images)[pick, np.arange(NUM)]
  for block_size in (1, 5) if name == "gaussian_noise" else (1,):
    adv = _run(name, norm=norm, eps=eps, num_repeats=repeats, block_size=block_size, **options)
    np.testing.assert_array_equal(adv.info.success, found)
    np.testing.assert_allclose(adv.x, expected, atol=1e-6)
    calls = np.where(found, pick // block_size + 1, -(-len(images) // block_size))
    np.testing.assert_array_equal(adv.info.forward, calls * block_size)


def test_noise_has_the_size_that_was_asked_for():
  x = images(NUM, shape=SHAPE, low=0.4, high=0.6)

  def noise(name, norm, eps, **options):
    options = {"num_repeats": 1, "check_clean": False, **options}
    adv = _run(name, x=x, norm=norm, eps=eps, **options)
    return np.asarray(adv.x, np.float64).reshape(NUM, -1) - np.asarray(x).reshape(NUM, -1)

  inside = noise("uniform_noise", "linf", 0.2)
  assert np.abs(inside).max() <= 0.2 + 1e-6
  # 864 draws, four standard errors.
  assert np.mean(np.abs(inside)) == pytest.approx(0.1, abs=4 * 0.2 / np.sqrt(12 * 864))
  assert np.mean(inside) == pytest.approx(0.0, abs=4 * 0.4 / np.sqrt(12 * 864))
  onto = noise("uniform_noise", "linf", 0.2, rescale=True)
  np.testing.assert_allclose(np.abs(onto).max(1), 0.2, rtol=1e-5)
  largest = noise("uniform_noise", "linf", 0.2, rescale=True, by_largest=True)
  np.testing.assert_allclose(largest.max(1), 0.2, rtol=1e-5)  # upwards, in every image
  assert largest.min() >= -0.2 - 1e-6 and (onto.max(1) < 0.2 - 1e-4).any()
  with pytest.raises(ValueError, match="needs rescale=True and norm='linf', got rescale=False"):
    noise("uniform_noise", "linf", 0.2, by_largest=True)
  gauss = noise("gaussian_noise", "l2", 0.3)
  np.testing.assert_allclose(np.linalg.norm(gauss, axis=1), 0.3, rtol=1e-4)


FIXED = [("uniform_noise", {"num_repeats": 3}), ("gaussian_noise", {"num_repeats": 3})]
PATHS = [
  ("linear_search_contrast", {"num_steps": 20}),
  ("binary_search_contrast", {}),
  ("gaussian_blur", {"num_steps": 20}),
]


@pytest.mark.parametrize(("name", "options"), FIXED)
def test_eps_zero_gives_the_image_bit_for_bit(name, options):
  np.testing.assert_array_equal(_run(name, eps=0.0, **options).x, X)


@pytest.mark.parametrize(("name", "options"), [(n, {"eps": 0.2, **o}) for n, o in FIXED] + PATHS)
def test_examples_do_not_touch_each_other_and_stay_in_the_box(name, options):
  attack = attacks.build(name, MODEL, **options)
  whole = attacks.run(attack, KEYS, X, Y, compact=False)
  assert whole.x.dtype == jnp.float32 and whole.x.min() >= 0 and whole.x.max() <= 1
  np.testing.assert_array_equal(_fooled(whole.x), whole.info.success)
  order = np.random.default_rng(0).permutation(NUM)
  permuted = attacks.run(attack, KEYS[order], X[order], Y[order], compact=False)
  np.testing.assert_array_equal(permuted.x, whole.x[order])
  if not name.endswith("noise"):  # fewer programs
    split = attacks.run(attack, KEYS, X, Y, batch_size=16, compact=False)
    np.testing.assert_allclose(split.x, whole.x, atol=1e-6)
    np.testing.assert_array_equal(split.info.forward, whole.info.forward)


@pytest.mark.parametrize(("name", "options"), [(n, {"eps": 0.2, **o}) for n, o in FIXED] + PATHS)
def test_nan_logits_are_counted_and_are_no_success(name, options):
  odd = np.asarray(jax.random.key_data(KEYS)[:, 1] % 2 == 1)
  adv = _run(name, _model(poison=True), y=CLEAN, **options)
  info, whole = adv.info, _run(name, y=CLEAN, **options)
  np.testing.assert_array_equal(np.asarray(info.nonfinite) > 0, odd)
  np.testing.assert_array_equal(info.nonfinite[odd], info.num_steps[odd])
  assert not np.asarray(info.success)[odd].any() and np.all(np.isfinite(adv.x))
  np.testing.assert_array_equal(adv.x[odd], X[odd])
  np.testing.assert_array_equal(adv.x[~odd], whole.x[~odd])
  assert np.asarray(whole.info.success)[odd].any()


def test_targeted_noise_reaches_its_target():
  target = np.where(np.arange(NUM) % 2 == 0, -1, (Y + 1) % 3)
  adv = _run("uniform_noise", eps=0.3, num_repeats=20, target=target)
  found = predictions(MODEL, adv.x)
  reached = np.where(target < 0, found != Y, found == target)
  np.testing.assert_array_equal(adv.info.success, reached)
  assert 0 < reached[target >= 0].sum() < np.sum(target >= 0)


@pytest.mark.slow
def test_jit_equals_eager():
  goal = Goal(jnp.asarray(Y[:4], "int32"), jnp.full(4, -1))
  attack = attacks.build("linear_search_contrast", MODEL, num_steps=3, block_size=2)
  state = attack.init(KEYS[:4], X[:4], goal)
  eager, jitted = attack.step(KEYS[:4], state), jax.jit(attack.step)(KEYS[:4], state)
  for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("uniform_noise", {"eps": -1.0}, "eps must be"),
    ("gaussian_noise", {"eps": 1.0, "num_repeats": 0}, "num_repeats must be >= 1"),
    ("gaussian_noise", {"eps": 1.0, "block_size": 0}, "block_size must be >= 1"),
    ("uniform_noise", {"eps": 1.0, "norm": "l3"}, "unknown norm"),
    ("linear_search_contrast", {"num_steps": 0}, "num_steps must be >= 1"),
    ("linear_search_contrast", {"level": 1.5}, "level must be a grey level"),
    ("binary_search_contrast", {"binary_search_steps": 0}, "binary_search_steps must be >= 1"),
    ("gaussian_blur", {"num_steps": 0}, "num_steps must be >= 1"),
    ("gaussian_blur", {"rel_max_sigma": 1.5}, r"rel_max_sigma must be in \(0, 1\]"),
  ],
)
def test_wrong_hyperparameters_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    attacks.build(name, MODEL, **options)
