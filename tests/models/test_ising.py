"""The Ising classifier against enumeration of a 3×3 lattice, in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_problems import digits
from lattice_enumeration import boltzmann, conditionals, energies, states

from gencls import models, runs
from gencls.keys import example_keys
from gencls.models import ising_fit, lattice
from gencls.models.ising import BACKWARDS, LINEAR_IN_SPINS, ising
from gencls.types import FitData

CLASSES, SHAPE = 2, (3, 3, 1)
S = states(3, 3)
BINARY = jnp.asarray((S[..., None] + 1) / 2, jnp.float32)
KEYS = example_keys(0, jnp.arange(len(S)))
PRIOR = (0.7, 0.3)


def build(shape=SHAPE, **changes):
  return models.build("ising", image_shape=shape, num_classes=CLASSES, class_prior=PRIOR, **changes)


@functools.cache
def theta(seed=0, scale=0.7, height=3, width=3):
  rng = np.random.default_rng(seed)
  edges = {"right": (height, width - 1), "down": (height - 1, width)}
  sizes = {"unary": (height, width), **edges, "bias": ()}
  return {k: (scale * rng.normal(size=(CLASSES, *v))).astype("f4") for k, v in sizes.items()}


def fields(y):
  return [theta()[name][y] for name in ("unary", "right", "down")]


def test_energy_and_log_z_against_loops():
  for y in range(CLASSES):
    unary, right, down = fields(y)
    got = lattice.energy(lattice.Couplings(right[None], down[None]), unary[None], S)
    expected = energies(S, unary, right, down)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(jax.nn.logsumexp(-got), boltzmann(expected)[1], rtol=1e-6)


def test_pseudo_likelihood_is_the_sum_of_the_conditionals():
  params = {k: v for k, v in theta().items() if k != "bias"}
  classifier = build()
  logits = jax.jit(classifier.logits)(params, KEYS, BINARY)
  for y in range(CLASSES):
    probability, _ = boltzmann(energies(S, *fields(y)))
    expected = np.log(conditionals(probability, S)).sum((1, 2)) + np.log(PRIOR[y])
    np.testing.assert_allclose(logits[:, y], expected, rtol=1e-5, atol=1e-5)
  assert classifier.score == "unnormalised"
  y = jnp.arange(len(S)) % CLASSES
  loss = classifier.loss(params, KEYS, BINARY, y, jnp.int32(0))
  np.testing.assert_allclose(loss.total, -logits[jnp.arange(len(S)), y], rtol=1e-5)


def test_discriminative_logits_are_the_energies_and_a_bias():
  """With b_y = log p(y) − log Z_y they are log p(x, y): the class posterior is the exact one."""
  classifier = build(training="discriminative")
  exact = [boltzmann(energies(S, *fields(y))) for y in range(CLASSES)]
  bias = np.asarray([np.log(PRIOR[y]) - exact[y][1] for y in range(CLASSES)], "f4")
  logits = classifier.logits(theta() | {"bias": bias}, KEYS, BINARY)
  expected = np.stack([np.log(exact[y][0]) + np.log(PRIOR[y]) for y in range(CLASSES)], 1)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
  assert classifier.score == "posterior" and classifier.sample is None


def flipped(scores):
  """½ [f(s_i = +1) − f(s_i = −1)] for every state, [2^(H W)], and pixel of a 4×4 lattice."""
  state = np.arange(len(scores))[:, None]
  bit = 1 << np.arange(16)[::-1]  # the first pixel is the highest bit of `states`
  return 0.5 * (scores[state | bit] - scores[state & ~bit]).reshape(-1, 4, 4)


@functools.cache
def four_by_four(scale):
  """θ of two classes, and in float64 the −E and the log pseudo-likelihood of all 65,536 states."""
  params = theta(1, scale, height=4, width=4)
  s = states(4, 4)
  minus_e, log_pl = np.zeros((2, CLASSES, len(s)))
  for y in range(CLASSES):
    each = [params[name][y].astype(float) for name in ("unary", "right", "down")]
    minus_e[y] = -energies(s, *each)
    # −E(s) + E(s with s_i flipped) is the log odds of s_i.
    log_odds = 2 * s * flipped(minus_e[y])
    log_pl[y] = -np.logaddexp(0, -log_odds).sum((1, 2))
  return params, jnp.asarray((s[..., None] + 1) / 2, jnp.float32), minus_e, log_pl


def slopes(classifier, params, x):
  """Gradients of all classes in the spins, [C, B, H, W]; a spin is 2 x − 1."""
  of = lambda y: jax.grad(lambda x: classifier.logits(params, None, x)[:, y].sum())  # noqa: E731
  return np.stack([np.asarray(jax.jit(of(y))(x))[..., 0] / 2 for y in range(CLASSES)])


@pytest.mark.parametrize(
  "scale",  # 2: most sigmoids are saturated
  [0.7, pytest.param(2.0, marks=pytest.mark.slow)],
)
def test_the_flip_gradient_is_what_flips_do(scale):
  params, x, _, log_pl = four_by_four(scale)
  params = {k: v for k, v in params.items() if k != "bias"}
  flip, through = (build(shape=(4, 4, 1), backward=name) for name in BACKWARDS)
  assert (flip.gradient, through.gradient, build().gradient) == ("flip", "straight_through", "flip")
  logits = [np.asarray(jax.jit(model.logits)(params, None, x)) for model in (through, flip)]
  np.testing.assert_array_equal(*logits)  # bit for bit
  np.testing.assert_allclose(logits[0], log_pl.T + np.log(PRIOR), rtol=1e-5, atol=1e-4)
  expected = np.stack([flipped(each) for each in log_pl])
  tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(expected).mean()}
  np.testing.assert_allclose(slopes(flip, params, x), expected, **tolerance)
  assert np.corrcoef(slopes(through, params, x).ravel(), expected.ravel())[0, 1] < 0.9
  in_params = [
    jax.jit(jax.grad(lambda p, model=model: jnp.mean(model.logits(p, None, x)[:, 0])))(params)
    for model in (through, flip)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *in_params)


def test_a_run_of_before_loads_with_a_choice_that_was_none():
  data = {"image_shape": SHAPE, "num_classes": CLASSES}
  for training in LINEAR_IN_SPINS:
    model = {"name": "ising", "training": training, "backward": "flip"}
    record = {"data": data, "class_prior": PRIOR, "config": {"model": model}}
    assert runs.build_model(record).gradient == "flip"
  record["config"] = {"model": {"name": "ising"}}  # of before there was a choice
  assert runs.build_model(record).gradient == "straight_through"


def test_of_scores_linear_in_each_spin_the_gradient_is_what_flips_do():
  params, x, minus_e, _ = four_by_four(0.7)
  model = build(shape=(4, 4, 1), training="discriminative")
  assert model.gradient == "flip"
  expected = np.stack([flipped(each) for each in minus_e])
  tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(expected).mean()}
  np.testing.assert_allclose(slopes(model, params, x), expected, **tolerance)


@pytest.mark.slow
def test_the_flip_gradient_foresees_the_margins_of_digits():
  """Real single flips of a fitted model's images; the straight-through gradient says little."""
  (params, _), (x, y) = fitted_on_digits("pseudo_likelihood"), digits()[2]
  logits = jax.jit(digits_model("pseudo_likelihood").logits)
  right = np.flatnonzero(np.argmax(logits(params, None, x), 1) == y)[:100]
  x, y, num = (x[right] >= 0.5).astype("f4"), y[right], len(right)
  rival = np.argsort(logits(params, None, x), 1)[:, -2]
  every = np.abs(x[:, None] - np.eye(64, dtype="f4").reshape(64, 8, 8, 1)).reshape(-1, 8, 8, 1)
  after = np.asarray(logits(params, None, every)).reshape(num, 64, 10)

  def margin(logits):
    return logits[np.arange(num), ..., y] - logits[np.arange(num), ..., rival]

  change = margin(after) - margin(logits(params, None, x))[:, None]
  correlation, left = {}, {}
  for backward in BACKWARDS:
    model = digits_model("pseudo_likelihood", backward=backward)
    slope = jax.jit(jax.grad(lambda x, m=model: margin(m.logits(params, None, x)).sum()))(x)
    foreseen = np.asarray(slope * (1 - 2 * x)).reshape(num, 64)
    correlation[backward] = np.corrcoef(foreseen.ravel(), change.ravel())[0, 1]
    chosen = after[np.arange(num), foreseen.argmin(1)]  # one pixel: the most promising one
    left[backward] = np.mean(chosen.argmax(1) == y)
  assert correlation["flip"] > 0.99 and correlation["straight_through"] < 0.9
  assert left["flip"] < left["straight_through"]


@pytest.mark.parametrize("shape", [(1, 3), (3, 2)])
def test_the_neighbour_field_is_the_slope_of_the_energy(shape):
  rng = np.random.default_rng(0)
  height, width = shape
  draw = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)  # noqa: E731
  s = draw(3, height, width)
  full = lattice.Couplings(draw(1, height, width - 1), draw(1, height - 1, width))
  for couplings in (full, lattice.uniform(0.3, 3)):
    slope = jax.jit(jax.grad(lambda s, c=couplings: lattice.energy(c, 0 * s, s).sum()))(s)
    np.testing.assert_allclose(lattice.neighbour_field(couplings, s), -slope, atol=1e-6)


def test_gibbs_samples_have_the_marginals_of_the_distribution():
  params = {k: v for k, v in theta().items() if k != "bias"}
  num, sample = 2000, build(num_sweeps=30).sample
  keys = example_keys(3, jnp.arange(num))
  images = {y: np.asarray(jax.jit(sample)(params, keys, jnp.full(num, y)))[..., 0] for y in (0, 1)}
  for y, x in images.items():
    probability, _ = boltzmann(energies(S, *fields(y)))
    on = (S > 0).astype(float)
    mean = np.einsum("n,nij->ij", probability, on)
    error = np.sqrt(mean * (1 - mean) / num)
    assert (np.abs(x.mean(0) - mean) < 4.5 * error).all()
    pair = np.sum(probability * on[:, 1, 1] * on[:, 1, 2])  # not only single pixels
    assert abs((x[:, 1, 1] * x[:, 1, 2]).mean() - pair) < 4.5 * np.sqrt(pair * (1 - pair) / num)
  assert set(np.unique(images[0])) == {0.0, 1.0}
  few = sample(params, keys[:5], jnp.zeros(5, jnp.int32))[::-1, ..., 0]
  np.testing.assert_array_equal(few, images[0][:5][::-1])  # a key, not a batch


def test_the_patterns_are_sufficient_statistics():
  """The objective from counts is the mean loss over the images and the penalty."""
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.random((4100, *SHAPE)), jnp.float32)  # three pieces
  y = jnp.asarray(rng.integers(0, CLASSES, 4100), jnp.int32)
  params = {k: v for k, v in theta().items() if k != "bias"}
  counts = ising_fit.pattern_counts(lambda x: 2.0 * (x[..., 0] >= 0.5) - 1, x, y, CLASSES)
  loss = build().loss(params, None, x, y, jnp.int32(0))
  penalties = jnp.asarray([0.3, 0.7])
  squares = {k: 0.5 * np.sum(v**2) for k, v in params.items()}
  expected = -jnp.mean(loss.terms["log_pseudo_likelihood"])
  expected += 0.3 * squares["unary"] + 0.7 * (squares["right"] + squares["down"])
  got = ising_fit.pseudo_likelihood_objective(params, counts, penalties)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("training", ["pseudo_likelihood", "discriminative"])
def test_pixels_that_never_change_have_finite_parameters(training):
  """A dark corner, and a bright one in one class: without a penalty their θ grow without end."""
  rng = np.random.default_rng(0)
  y = jnp.asarray(np.arange(60) % CLASSES, jnp.int32)
  x = rng.integers(0, 2, (60, *SHAPE)).astype("f4")
  x[:, 0, 0], x[:, 2, 2] = 0.0, np.asarray(y, "f4")[:, None]
  x = jnp.asarray(x)
  fitted = build(training=training, l2=1.0).fit(jax.random.key(0), FitData(x, y, x, y))
  assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(fitted.params)) < 10
  assert fitted.metrics["converged"]


@pytest.mark.slow
def test_fitting_finds_the_parameters_of_gibbs_samples():
  params = {k: v for k, v in theta(scale=0.4).items() if k != "bias"}
  num = 6000
  y = jnp.arange(num) % CLASSES
  x = jax.jit(build(num_sweeps=30).sample)(params, example_keys(0, jnp.arange(num)), y)
  fitted = build(l2=(1.0,)).fit(jax.random.key(0), FitData(x, y, x[:1], y[:1]))
  for name, value in params.items():
    np.testing.assert_allclose(fitted.params[name], value, atol=0.12)
  assert fitted.metrics["l2"] == 1.0 and "validation_accuracy/l2=1" not in fitted.metrics


def test_a_large_penalty_of_couplings_leaves_bernoulli_naive_bayes():
  """Of couplings 0 is left θ_i = ½ log p_i / (1 − p_i), p_i the share of bright pixels."""
  rng, num = np.random.default_rng(0), 400
  y = np.arange(num) % CLASSES
  on = rng.random((num, 3, 3)) < rng.uniform(0.2, 0.8, (CLASSES, 3, 3))[y]
  on[..., 1] = np.where(rng.random((num, 3)) < 0.6, on[..., 0], on[..., 1])  # coupled
  x = jnp.asarray(on[..., None], jnp.float32)
  data = FitData(x, jnp.asarray(y, jnp.int32), x[:1], jnp.asarray(y[:1], jnp.int32))
  share = np.stack([on[y == c].mean(0) for c in range(CLASSES)])
  expected = 0.5 * np.log(share / (1 - share))
  off, couplings = {}, {}
  for l2 in (1.0, 1e4, 1e6):
    params = build(l2=(l2,), unary_l2=1e-3).fit(jax.random.key(0), data).params
    off[l2] = np.abs(params["unary"] - expected).max()
    couplings[l2] = np.abs(params["right"]).max()
  assert off[1e6] < 0.01 < off[1e4] < off[1.0]
  assert couplings[1e6] < 1e-3 < couplings[1.0]


def digits_model(training, **changes):
  limits = {"l2": (1.0, 10.0), "max_iterations": 60}
  return ising(image_shape=(8, 8, 1), num_classes=10, training=training, **limits, **changes)


@functools.cache
def fitted_on_digits(training):
  (x, y), (vx, vy), _ = digits()
  return digits_model(training).fit(jax.random.key(0), FitData(x, y, vx, vy))


@pytest.mark.parametrize(
  ("training", "least"),
  [("pseudo_likelihood", 0.84), pytest.param("discriminative", 0.93, marks=pytest.mark.slow)],
)
def test_fitted_on_digits(training, least):
  (x, y), _, (tx, ty) = digits()
  classifier, fitted = digits_model(training), fitted_on_digits(training)
  wanted = jax.eval_shape(classifier.init, jax.random.key(0), x, y)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), fitted.params) == jax.tree.map(
    lambda a: (a.shape, a.dtype), wanted
  )
  accuracy = np.mean(jax.jit(classifier.logits)(fitted.params, None, tx).argmax(1) == ty)
  assert accuracy >= least
  candidates = {n: fitted.metrics[f"validation_accuracy/l2={n:g}"] for n in (1.0, 10.0)}
  assert candidates[fitted.metrics["l2"]] == max(candidates.values())
  assert all(isinstance(value, float) for value in fitted.metrics.values())
  gradient = jax.grad(lambda x: classifier.logits(fitted.params, None, x)[:, 0].sum())(tx[:2])
  assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"training": "discriminatve"}, "did you mean 'discriminative'"),
    ({"backward": "flop"}, "did you mean 'flip'"),
    ({"backward": "flip", "training": "discriminative"}, "their gradient is what flips change"),
    (
      {"backward": "straight_through", "training": "linear_batch_normalised"},
      "their gradient is what flips change",
    ),
    ({"l2": ()}, "l2 must hold positive numbers"),
    ({"l2": (0.0,)}, "l2 must hold positive numbers"),
    ({"unary_l2": 0.0}, "unary_l2 must be > 0"),
    ({"num_sweeps": 0}, "num_sweeps must be >= 1"),
    ({"at": 1.5}, r"at must be in \(0, 1\]"),
  ],
)
def test_bad_hyperparameters(changes, message):
  with pytest.raises(ValueError, match=message):
    build(**changes)


def test_bad_data():
  with pytest.raises(ValueError, match=r"ising has one spin .* got \(3, 3, 3\)"):
    models.build("ising", image_shape=(3, 3, 3), num_classes=2)
  data = FitData(BINARY, jnp.zeros(len(S), jnp.int32), BINARY, jnp.zeros(len(S), jnp.int32))
  for training in ("pseudo_likelihood", "discriminative", "linear_batch_normalised"):
    with pytest.raises(ValueError, match=r"needs examples to be fitted to, got none of \[1\]"):
      build(training=training).fit(jax.random.key(0), data)
