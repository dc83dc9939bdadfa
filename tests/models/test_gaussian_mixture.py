"""Mixtures against scikit-learn, SciPy and float64, and what EM must hold to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from fit_problems import as_data, images, same_structure
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gencls import models
from gencls.keys import example_keys
from gencls.models import covariance_names, fitting, mixture_em
from gencls.models.gaussian_mixture import ABSENT, _padded
from gencls.models.kmeans import lloyd, plus_plus

SHAPE, CLASSES, PIXELS = (3, 2, 1), 2, 6
EM = {"tol": 1e-3, "max_iterations": 20}
THEIRS = {"spherical": "spherical", "diagonal": "diag", "full": "full"}


def slow(*values):
  """Parameters that wait for `make test-all`."""
  return pytest.param(*values, marks=pytest.mark.slow)


def cluster_data(number=400, seed=0, spread=0.15):
  """[N, D] float32, centred, of four overlapping clusters."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(4, PIXELS))
  x = centres[rng.integers(0, 4, number)] + spread * rng.normal(size=(number, PIXELS)) * 4
  return (x - x.mean(axis=0)).astype(np.float32)


def prepared(x, name, num_components, latent_size=2, block=None):
  """The covariance, the blocks of x, and the start that k-means gives."""
  covariance = covariance_names.build(name, latent_size)
  weights = jnp.ones(len(x))
  data = mixture_em.in_blocks(x, weights, covariance=covariance, block=block or len(x))
  start = mixture_em.start(
    jax.random.key(0),
    jnp.asarray(x),
    weights,
    data,
    1e-6,
    covariance=covariance,
    num_components=num_components,
    kmeans_iterations=2,
  )
  return covariance, data, start


def covariances(params, name):
  """[M, D, D] float64 of the components."""
  size = params["mean"].shape[1]
  full = covariance_names.widened(
    params, name, "full", params.get("loadings", np.zeros(2)).shape[-1]
  )
  factor = np.asarray(full["precision_cholesky"], np.float64)
  return np.linalg.inv(factor @ np.swapaxes(factor, 1, 2)).reshape(-1, size, size)


def log_density(params, name, x):
  """log p(x) of a mixture by SciPy, in float64."""
  weights = scipy.special.log_softmax(np.asarray(params["log_weights"], np.float64))
  parts = [
    w + scipy.stats.multivariate_normal(np.asarray(mean, np.float64), c).logpdf(np.float64(x))
    for w, mean, c in zip(weights, params["mean"], covariances(params, name), strict=True)
  ]
  return scipy.special.logsumexp(parts, axis=0)


@functools.partial(jax.jit, static_argnums=1)
def ours(params, covariance, x):
  terms = mixture_em.log_joint(covariance, params, covariance.features(jnp.asarray(x)))
  return jax.nn.logsumexp(terms, axis=1)


@pytest.mark.parametrize("name", THEIRS)
def test_em_is_that_of_scikit_learn(name):
  x, iterations = cluster_data(), 7
  covariance, data, params = prepared(x, name, 5)
  precisions = np.linalg.inv(covariances(params, name))
  diagonal = np.diagonal(precisions, axis1=1, axis2=2)
  reference = GaussianMixture(
    5,
    covariance_type=THEIRS[name],
    tol=0.0,
    max_iter=iterations,
    reg_covar=1e-6,
    means_init=np.float64(params["mean"]),
    weights_init=scipy.special.softmax(np.float64(params["log_weights"])),
    precisions_init={"spherical": diagonal[:, 0], "diagonal": diagonal, "full": precisions}[name],
  )
  with pytest.warns(ConvergenceWarning):
    reference.fit(np.float64(x))
  before = ours(params, covariance, x)
  for _ in range(iterations):
    params, log_lik = mixture_em.em_step(params, data, 1e-6, covariance=covariance)
  got = ours(params, covariance, x)
  np.testing.assert_allclose(got, reference.score_samples(np.float64(x)), rtol=1e-4)
  np.testing.assert_allclose(log_lik, reference.lower_bound_, rtol=1e-4)
  assert np.abs(got - before).max() > 0.1  # the iterations did change something


@pytest.mark.parametrize("name", covariance_names.NAMES)
def test_densities_are_those_of_scipy(name):
  x = cluster_data(100)
  covariance, data, params = prepared(x, name, 3)
  for _ in range(3):
    params, _ = mixture_em.em_step(params, data, 1e-4, covariance=covariance)
  np.testing.assert_allclose(ours(params, covariance, x), log_density(params, name, x), rtol=1e-4)


@pytest.mark.parametrize("name", ["diagonal", slow("spherical"), "factor_analyser", slow("full")])
def test_the_likelihood_never_falls(name):
  covariance, data, params = prepared(cluster_data(300, seed=1), name, 4)
  values = []
  for _ in range(25):
    params, value = mixture_em.em_step(params, data, 1e-6, covariance=covariance)
    values.append(float(value))
  assert np.diff(values).min() > -2e-5 and values[-1] > values[0] + 0.01


@pytest.mark.slow
def test_factors_find_a_low_rank_covariance():
  """One component and enough factors: Λ Λᵀ + Ψ reaches the likelihood of the truth."""
  rng = np.random.default_rng(0)
  loadings = rng.normal(size=(PIXELS, 2))
  x = rng.normal(size=(2000, 2)) @ loadings.T + 0.3 * rng.normal(size=(2000, PIXELS))
  x = np.float32(x - x.mean(axis=0))
  covariance, data, params = prepared(x, "factor_analyser", 1)
  for _ in range(200):
    params, log_lik = mixture_em.em_step(params, data, 1e-6, covariance=covariance)
  truth = loadings @ loadings.T + 0.09 * np.eye(PIXELS)
  best = scipy.stats.multivariate_normal(np.zeros(PIXELS), truth).logpdf(x).mean()
  assert log_lik >= best
  np.testing.assert_allclose(covariances(params, "factor_analyser")[0], truth, atol=0.35)


@pytest.mark.parametrize("name", ["full", slow("spherical"), slow("factor_analyser")])
def test_blocks_and_filling_change_nothing(name):
  x = cluster_data(60)
  covariance, data, params = prepared(x, name, 3)
  whole, log_lik = mixture_em.em_step(params, data, 1e-6, covariance=covariance)
  filled = jnp.pad(x, ((0, 15), (0, 0)), constant_values=9.0)
  weights = (jnp.arange(75) < 60).astype(jnp.float32)
  blocks = mixture_em.in_blocks(filled, weights, covariance=covariance, block=25)
  parts, other = mixture_em.em_step(params, blocks, 1e-6, covariance=covariance)
  np.testing.assert_allclose(other, log_lik, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), parts, whole)


@pytest.mark.parametrize("name", ["spherical", slow("diagonal"), slow("factor_analyser")])
def test_more_general_covariances_hold_the_same_density(name):
  x = cluster_data(50)
  _, _, params = prepared(x, name, 3)
  for target in covariance_names.NAMES[covariance_names.NAMES.index(name) :]:
    wide = covariance_names.widened(params, name, target, 2)
    got = ours(wide, covariance_names.build(target, 2), x)
    np.testing.assert_allclose(got, log_density(params, name, x), rtol=1e-4)


def fit(data, shape=SHAPE, classes=CLASSES, **hyperparameters):
  classifier = models.build(
    "gaussian_mixture", image_shape=shape, num_classes=classes, **(EM | hyperparameters)
  )
  return classifier, classifier.fit(jax.random.key(0), data)


def test_a_grid_is_decided_by_validation_and_keeps_one_shape():
  """Two crossing lines: neither spherical components nor a single diagonal tell them apart."""
  rng = np.random.default_rng(0)
  along, y = rng.uniform(-0.4, 0.4, 400), np.arange(400) % 2
  x = 0.5 + 0.02 * rng.normal(size=(400, PIXELS))
  x[:, 0] += along
  x[:, 1] += np.where(y == 1, along, -along)
  data = as_data(x[:200], y[:200], x[200:], y[200:], SHAPE)
  classifier, best = fit(
    data,
    num_components=(2, 1),
    covariance=("diagonal", "factor_analyser"),
    latent_size=1,
    reg_covar=1e-6,
  )
  assert same_structure(classifier, best, data)
  accuracies = {
    f"{kind}_{k}": best.metrics[
      f"validation_accuracy/covariance={kind} num_components={k} reg_covar=1e-06"
    ]
    for kind in ("diagonal", "factor_analyser")
    for k in (2, 1)
  }
  assert accuracies["diagonal_1"] < 0.7 and accuracies["factor_analyser_1"] > 0.9
  for name in ("diagonal_1", "factor_analyser_1"):
    kind, number = name.rsplit("_", 1)
    alone, one = fit(
      data, num_components=int(number), covariance=kind, latent_size=1, reg_covar=1e-6
    )
    logits = alone.logits(one.params, None, data.validation_x)
    assert np.mean(np.argmax(logits, axis=1) == data.validation_y) == pytest.approx(
      accuracies[name]
    )
    assert one.metrics[f"covariance_{kind}"] == 1.0
  assert best.metrics["validation_accuracy"] == max(accuracies.values())


def test_the_floor_under_the_covariances_is_a_choice_too(caplog):
  """A pixel of tiny variance that tells the class in the training images alone."""
  rng = np.random.default_rng(0)
  y = np.arange(200) % CLASSES
  x = rng.uniform(0.4, 0.6, (200, PIXELS))
  x[:, :3] += 0.1 * y[:, None]
  shown, noise = x.copy(), rng.uniform(-1e-3, 1e-3, 200)
  shown[:, 5], x[:, 5] = 0.5 + 0.1 * y + noise, 0.5 + 0.1 * rng.permutation(y) + noise
  data, floors = as_data(shown, y, x, y, SHAPE), (1e-6, 1e-4, 1e-2)
  _, best = fit(data, num_components=1, covariance="diagonal", reg_covar=floors)
  words = "validation_accuracy/covariance=diagonal num_components=1 reg_covar="
  names = [f"{words}{floor:g}" for floor in floors]
  low, _, high = (best.metrics[name] for name in names)
  assert high > low + 0.2 and best.metrics["validation_accuracy"] == high
  assert best.metrics["reg_covar"] == floors[2]
  assert np.exp(2 * best.params["log_scale"]).min() >= floors[2] * (1 - 1e-5)
  assert "reg_covar=0.01 of the best validation accuracy is the largest of the 3" in caplog.text
  assert "num_components" not in caplog.text  # one value is no grid
  for covariance, floor in (("spherical", 1e-6), ("diagonal", 1e-3)):
    assert fit(data, num_components=1, covariance=covariance)[1].metrics["reg_covar"] == floor


def test_em_tells_where_it_ends_at_its_limit(caplog):
  data = images(SHAPE, CLASSES, 60)
  metrics = fit(data, num_components=2, tol=0.0, max_iterations=2)[1].metrics
  assert metrics["converged"] == 0.0 and metrics["iterations"] == 2.0
  assert "max_iterations=2 for the classes [0, 1]" in caplog.text
  caplog.clear()
  assert fit(data, num_components=2, tol=10.0)[1].metrics["converged"] == 1.0 and not caplog.text


def test_absent_components_have_no_density_and_no_gradient():
  data = images(SHAPE, CLASSES, 20)
  wide, narrow = (
    models.build("gaussian_mixture", image_shape=SHAPE, num_classes=CLASSES, num_components=number)
    for number in (3, 2)
  )
  params = wide.init(jax.random.key(0), data.x, data.y)
  params = params | {"log_weights": params["log_weights"].at[:, 2].set(ABSENT)}
  kept = jax.tree.map(lambda leaf: leaf[:, :2], params)
  expected = jax.jit(narrow.logits)(kept, None, data.x)
  np.testing.assert_allclose(jax.jit(wide.logits)(params, None, data.x), expected, rtol=1e-5)
  keys = example_keys(0, jnp.arange(len(data.x)))
  slope = jax.jit(jax.grad(lambda p: wide.loss(p, keys, data.x, data.y, 0).total.mean()))(params)
  for leaf in jax.tree.leaves(slope):
    assert jnp.isfinite(leaf).all() and (leaf[:, 2:] == 0).all() and (leaf[:, :2] != 0).any()


def test_fewer_components_are_filled_up_with_absent_ones():
  params = {"log_weights": jnp.log(jnp.array([0.3, 0.7])), "mean": jnp.arange(4.0).reshape(2, 2)}
  filled = _padded(params, 5)
  np.testing.assert_allclose(jax.nn.softmax(filled["log_weights"]), [0.3, 0.7, 0, 0, 0], rtol=1e-6)
  np.testing.assert_array_equal(filled["mean"][:2], params["mean"])
  assert filled["mean"].shape == (5, 2) and jnp.isfinite(filled["log_weights"]).all()


def joint_and_slope(params, flat):
  """log p(x, y) [B, C] of a fair prior and its slopes [B, C, D], term by term in float64."""
  params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
  values, slopes = [], []
  for c, log_weights in enumerate(params["log_weights"]):
    terms, parts = [], []
    for k, log_weight in enumerate(scipy.special.log_softmax(log_weights)):
      own = np.exp(2 * params["log_scale"][c, k]) * np.ones(flat.shape[1])
      away, log_det = flat - params["mean"][c, k], np.sum(np.log(2 * np.pi * own))
      parts.append(-away / own)
      if "loadings" in params:
        sigma = np.diag(own) + params["loadings"][c, k] @ params["loadings"][c, k].T
        log_det = np.linalg.slogdet(2 * np.pi * sigma)[1]
        parts[-1] = -np.linalg.solve(sigma, away.T).T
      terms.append(log_weight + 0.5 * (np.sum(away * parts[-1], axis=1) - log_det))
    values.append(scipy.special.logsumexp(terms, axis=0))
    slopes.append(np.einsum("kb,kbd->bd", np.exp(terms - values[-1]), parts))
  return np.stack(values, axis=1) - np.log(CLASSES), np.stack(slopes, axis=1)


@pytest.mark.parametrize(
  ("name", "floor"),
  [
    slow("diagonal", None),
    ("diagonal", 1e-6),
    slow("spherical", None),
    slow("factor_analyser", None),
  ],
)
def test_float32_is_enough_at_the_size_of_mnist(name, floor):
  """Pixels constant in one class, at another value in the other, beside informative ones."""
  rng = np.random.default_rng(0)
  shape, n = (28, 28, 1), 80
  x, y = np.clip(rng.normal(0.5, 0.5, (n, 784)), 0, 1), np.arange(n) % 2
  for c, constant in ((0, slice(0, 400)), (1, slice(300, 600))):
    x[y == c, constant] = rng.uniform(size=784)[constant]
  data = as_data(x, y, x, y, shape)
  classifier, best = fit(
    data, shape, num_components=3, covariance=name, latent_size=2, reg_covar=floor
  )
  expected, slopes = joint_and_slope(best.params, np.float64(data.x).reshape(n, -1))
  own = np.arange(n), np.asarray(data.y)
  logits = lambda x: classifier.logits(best.params, None, x)[own]  # noqa: E731
  got, pull = jax.jit(jax.vjp, static_argnums=0)(logits, data.x)
  np.testing.assert_allclose(got, expected[own], atol=0.05, rtol=0)
  (slope,) = pull(jnp.ones(n))
  error = np.linalg.norm(slope.reshape(n, -1) - slopes[own], axis=1)
  assert (error < 1e-3 * np.linalg.norm(slopes[own], axis=1)).all()
  if floor is None:
    every = classifier.logits(best.params, None, data.x)
    np.testing.assert_allclose(every, expected, atol=0.05, rtol=1e-6)


@pytest.mark.parametrize(
  "name", ["diagonal", slow("full"), slow("spherical"), slow("factor_analyser")]
)
def test_samples_have_the_moments_of_their_class(name):
  data = images(SHAPE, CLASSES, 200)
  data = data._replace(x=0.4 + 0.2 * data.x)  # nothing to clip
  classifier, best = fit(data, num_components=2, covariance=name, reg_covar=1e-5)
  n = 4000
  draws = classifier.sample(best.params, example_keys(0, jnp.arange(n)), jnp.ones(n, jnp.int32))
  draws, shown = (np.asarray(a).reshape(-1, PIXELS) for a in (draws, data.x[data.y == 1]))
  off = np.abs(draws.mean(axis=0) - shown.mean(axis=0))
  assert (off < 5 * draws.std(axis=0) / np.sqrt(n)).all()
  own = jax.tree.map(lambda leaf: np.asarray(leaf[1], np.float64), best.params)
  weights = scipy.special.softmax(own["log_weights"])
  away = own["mean"] - weights @ own["mean"]
  expected = np.einsum("k,kij->ij", weights, covariances(own, name)) + (weights * away.T) @ away
  np.testing.assert_allclose(np.cov(draws.T), expected, atol=3e-4)
  assert np.diag(expected).min() > 1e-3  # of which the tolerance is a part
  if name == "full":
    np.testing.assert_allclose(expected, np.cov(shown.T), atol=2e-4)


def test_seeding_takes_far_examples_and_survives_copies():
  x = np.repeat(np.eye(4, PIXELS, dtype=np.float32) * 5, 10, axis=0)
  for seed in range(3):
    centres = plus_plus(jax.random.key(seed), x, jnp.ones(len(x)), 4)
    assert len(np.unique(np.asarray(centres), axis=0)) == 4
  many = plus_plus(jax.random.key(0), x, jnp.ones(len(x)), 7)  # more centres than examples
  assigned, moved = lloyd(x, jnp.ones(len(x)), many)
  assert jnp.isfinite(moved).all() and (assigned.sum(axis=1) == 1).all()
  weights = (jnp.arange(len(x)) < 10).astype(jnp.float32)
  filled = plus_plus(jax.random.key(0), x, weights, 3)
  np.testing.assert_array_equal(filled, np.repeat(x[:1], 3, axis=0))  # filling is never a centre


@pytest.mark.parametrize("name", ["spherical", "full", "factor_analyser", "diagonal"])
def test_copies_of_one_image_and_constant_pixels_stay_finite(name):
  data = images(SHAPE, CLASSES, 40)
  x = jnp.where((data.y == 1)[:, None, None, None], 0.25, data.x).at[:, 0].set(1.0)
  classifier, best = fit(data._replace(x=x), num_components=3, covariance=name, reg_covar=1e-3)
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(best.params))
  assert jnp.isfinite(classifier.logits(best.params, None, jnp.concatenate([x, 1 - x]))).all()


def test_bad_values():
  data = images(SHAPE, CLASSES, 40)
  for message, changes in (
    ("num_components must be at most the examples.*got 21 for 20", {"num_components": 21}),
    ("num_components must be >= 1", {"num_components": (3, 0)}),
    ("num_components must be >= 1", {"covariance": ()}),
    ("did you mean 'spherical'", {"covariance": "sperical"}),
    ("reg_covar must be > 0", {"reg_covar": 0.0}),
    ("reg_covar must be > 0", {"reg_covar": ()}),
    ("latent_size must be >= 1", {"latent_size": 0}),
    ("max_iterations must be >= 1", {"max_iterations": 0}),
  ):
    with pytest.raises(ValueError, match=message):
      fit(data, **({"num_components": 2} | changes))
  with pytest.raises(ValueError, match=r"none of \[1\]"):
    fit(data._replace(y=0 * data.y))
  with pytest.raises(ValueError, match='"factor_analyser"'):
    models.build("gaussian_mixture", image_shape=(28, 28, 1), num_classes=10, covariance="full")
  with pytest.raises(FloatingPointError, match="raise reg_covar"):
    fit(data._replace(x=0 * data.x), num_components=2, reg_covar=1e-46)  # 0 in float32


def test_blocks_are_even():
  for number in (1, 5, fitting.BLOCK, fitting.BLOCK + 1, 3 * fitting.BLOCK - 1, 55_000):
    size = fitting.even_block(number)
    count = -(-number // size)
    assert size <= fitting.BLOCK and count * size - number < count
    assert fitting.even_block(count * size) == size
