"""The annulus counter-example: its densities, and everything that the paper says it shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from gencls import classify
from gencls.data import annulus
from gencls.data.annulus import RADIUS, Ring, Spec
from gencls.keys import example_keys
from gencls.models.annulus import FLOOR, log_density, near_optimal, optimal

SPEC = Spec()
JACOBIAN = SPEC.dims * np.log(2 * RADIUS)


def log_joint(classifier, images):
  """[N, 2] log p(v, y) of points, without the Jacobian of the images."""
  keys = example_keys(0, jnp.arange(len(images)))
  logits = jax.jit(classifier.logits)({}, keys, jnp.asarray(images))
  return np.asarray(logits, np.float64) - JACOBIAN


@pytest.fixture(scope="module")
def drawn():
  found = annulus.sample(annulus.data_density(SPEC), SPEC.dims, seed=0, num=20_000)
  return found, np.linalg.norm(annulus.to_points(found.images), axis=1)


@pytest.mark.parametrize("spec", [Spec(2, 0.5, 0.2, 0.1), Spec(9, 0.3, 0.05, 0.01), SPEC])
@pytest.mark.parametrize("density", [annulus.data_density, annulus.model_density])
def test_class_densities_integrate_to_one(spec, density):
  d = spec.dims
  log_area = np.log(2) + 0.5 * d * np.log(np.pi) - special.gammaln(0.5 * d)  # of the unit sphere
  for rings in density(spec):

    def at(r, rings=rings):
      log_p = np.asarray(log_density(rings, d, jnp.asarray(r, jnp.float32)), np.float64)
      return np.exp(log_p + log_area + (d - 1) * np.log(r))

    parts = [(0, 1), (1, 1 + spec.delta), (1 + spec.delta, 2), (2, 3)]
    # Fixed points inside each ring: the ends are excluded, where float32 may round across.
    total = sum(integrate.fixed_quad(at, *part, n=80)[0] for part in parts)
    assert total == pytest.approx(1, abs=2e-4)


def test_points_are_uniform_in_the_volume_of_their_ring(drawn):
  dataset, radius = drawn
  for low, high, label in ((1, 1.1, 0), (2, 3, 1)):
    own = radius[(radius >= low) & (radius < high)]
    assert np.all(dataset.labels[(radius >= low) & (radius < high)] == label)
    share = (low / high) ** SPEC.dims
    uniform = ((own / high) ** SPEC.dims - share) / (1 - share)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
  points = annulus.to_points(dataset.images)
  assert np.max(np.abs(np.mean(points / radius[:, None], axis=0))) < 5 / np.sqrt(128 * 20_000)


def test_shares_of_the_rings(drawn):
  dataset, radius = drawn
  for label, weight in ((0, SPEC.lambda1), (1, SPEC.lambda2)):
    own = radius[dataset.labels == label]
    error = np.sqrt(weight / len(own))
    assert np.mean(own < 1) == pytest.approx(weight, abs=5 * error)
  assert np.mean(dataset.labels) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(20_000))


def test_no_drawn_point_lies_outside_its_density(drawn):
  dataset, _ = drawn
  own = log_joint(optimal(SPEC), dataset.images)[np.arange(20_000), dataset.labels]
  assert np.min(own) > -20


def test_the_numbers_of_the_instance():
  """At one point of each region; computed from the paper's formulas, independently of this code."""
  radii = np.array([0.9, 1.05, 2.5])
  direction = np.ones((1, 128)) / np.sqrt(128)
  images = annulus.to_images(radii[:, None] * direction)
  p, q = log_joint(optimal(SPEC), images), log_joint(near_optimal(SPEC), images)
  log_q = special.logsumexp(q, axis=1)
  np.testing.assert_allclose(log_q, [123.40080, 119.01264, -9.41043], atol=1e-4)
  assert special.softmax(p[0])[0] == pytest.approx(0.9090909, abs=1e-5)
  assert special.softmax(q[0])[0] == pytest.approx(0.0124236, abs=1e-5)
  assert np.array_equal(np.argmax(q, axis=1), [1, 0, 1])
  assert np.array_equal(np.argmax(p, axis=1), [0, 0, 1])


def test_divergences_are_those_of_the_formula_and_of_the_densities():
  assert annulus.divergences(SPEC) == pytest.approx((0.00198468, 0.01136300), rel=1e-5)
  spec = Spec(6, 0.5, 0.3, 0.1)
  p, q = annulus.data_density(spec)[0], annulus.model_density(spec)[0]
  inside, outside = jnp.array([0.5]), jnp.array([1.2])
  logs = {
    name: [float(log_density(rings, 6, at)[0]) for at in (inside, outside)]
    for name, rings in (("p", p), ("q", q))
  }
  masses = {"p": [0.3, 0.7], "q": [1.5**-6, 1 - 1.5**-6]}
  expected = [
    0.5 * sum(m * (a - b) for m, a, b in zip(masses[one], logs[one], logs[other], strict=True))
    for one, other in (("q", "p"), ("p", "q"))
  ]
  assert annulus.divergences(spec) == pytest.approx(expected, rel=1e-5)


def test_half_of_the_data_can_be_attacked_and_no_density_of_the_model_tells(drawn):
  dataset, radius = drawn
  moved = annulus.pulled_inside(dataset.images)
  before, after = (log_joint(near_optimal(SPEC), x) for x in (dataset.images, moved))
  truth = [log_joint(optimal(SPEC), x) for x in (dataset.images, moved)]
  label = dataset.labels
  right = np.argmax(before, axis=1) == label
  assert np.mean(right) == pytest.approx(0.998, abs=0.002)
  assert np.mean(np.argmax(truth[0], axis=1) == label) > 0.999
  distance = np.linalg.norm(
    annulus.to_points(moved) - annulus.to_points(dataset.images), axis=1
  )  # fmt: skip
  attacked = right & (np.argmax(after, axis=1) != label) & (distance <= SPEC.delta)
  assert np.mean(attacked) == pytest.approx(0.498, abs=5 * 0.5 / np.sqrt(20_000))
  assert np.array_equal(attacked, right & (label == 0) & (radius >= 1))
  assert np.mean(distance[attacked]) == pytest.approx(0.0915, abs=0.001)
  # The model is as confident of its mistake as the Bayes classifier of the truth.
  assert np.all(special.softmax(after[attacked], axis=1)[:, 1] > 0.98)
  assert np.all(special.softmax(truth[1][attacked], axis=1)[:, 0] > 0.9)
  rise = special.logsumexp(after[attacked], axis=1) - special.logsumexp(before[attacked], axis=1)
  np.testing.assert_allclose(rise, 4.388158, atol=1e-3)
  median = np.median(special.logsumexp(before, axis=1))
  assert np.all(special.logsumexp(after[attacked], axis=1) >= median)


def test_logits_are_log_densities_of_images_and_finite_everywhere():
  classifier = near_optimal(SPEC)
  nowhere = annulus.to_images(np.full((1, 128), 1.5 / np.sqrt(128)))
  z = log_joint(classifier, nowhere)
  assert z[0, 0] == pytest.approx(FLOOR - np.log(2), abs=0.01) and np.all(np.isfinite(z))
  assert classifier.score == "exact"
  marginal = classify.log_marginal(jnp.array([[1.0, 2.0]]), classifier.score)
  assert float(marginal[0]) == pytest.approx(np.logaddexp(1, 2))
  y = jnp.array([0])
  loss = classifier.loss({}, example_keys(0, y), jnp.asarray(nowhere), y, jnp.int32(0))
  assert float(loss.total[0]) == pytest.approx(-(z[0, 0] + JACOBIAN), rel=1e-6)


@pytest.mark.parametrize(
  "spec", [Spec(dims=0), Spec(delta=0.0), Spec(delta=1.5), Spec(lambda1=0.0), Spec(lambda2=1.0)]
)
def test_numbers_that_make_no_counter_example_are_refused(spec):
  with pytest.raises(ValueError, match="got"):
    annulus.data_density(spec)


def test_a_ring_outside_the_ball_has_only_its_own_volume():
  assert float(log_density((Ring(1.0, 1.0, 2.0),), 2, jnp.array([1.5]))[0]) == pytest.approx(
    -np.log(3 * np.pi)
  )
