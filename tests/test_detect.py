"""Statistics, thresholds and fitted detectors, against SciPy, brute force and a chi-square law."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cityblock
from scipy.special import logsumexp, softmax

from gencls import attacks, detect, thresholds
from gencls.bits import bits_per_dimension
from gencls.thresholds import Rule

NUM, CLASSES = 400, 4
NAMES = tuple(detect.STATISTICS)
SIZES = {"dims": 16, "num_levels": 17}


def _logits(seed=0, num=NUM, scale=3.0):
  """Logits in nats, far from 0, of classes of several sizes."""
  rng = np.random.default_rng(seed)
  own = np.eye(CLASSES)[rng.choice(CLASSES, num, p=[0.5, 0.2, 0.2, 0.1])]
  return (-400 + scale * (rng.normal(size=(num, CLASSES)) + 2 * own)).astype(np.float32)


def _fit(name, rule, *, per_class=False, logits=None, classes=None, score="estimate"):
  logits = _logits() if logits is None else logits
  classes = logits.argmax(1) if classes is None else classes
  return detect.fit(name, logits, classes, rule, per_class=per_class, score=score, **SIZES)


def _score(name, fitted, logits):
  keys, x = jax.random.split(jax.random.key(0), len(logits)), jnp.zeros((len(logits), 2, 2, 1))
  return np.asarray(jax.jit(detect.detector(name, fitted))(keys, x, jnp.asarray(logits)))


def _expected(name, logits, classes, per_class=False):
  """Each statistic by SciPy in float64, one image at a time."""
  z = np.asarray(logits, np.float64)
  posterior, marginal = softmax(z, axis=1), logsumexp(z, axis=1)
  found = []
  for i, c in enumerate(classes):
    mean = posterior[classes == c].mean(0)
    centre = marginal[classes == c].mean() if per_class else marginal.mean()
    found.append(
      {
        "marginal": marginal[i],
        "joint": z[i, c],
        "kl": -stats.entropy(mean, posterior[i]),
        "tv": -cityblock(mean, posterior[i]) / 2,
        "typicality": -abs(marginal[i] - centre),
      }[name]
    )
  return np.array(found)


# Thresholds.


def test_the_quantile_is_the_largest_value_that_rejects_no_more_than_asked():
  rng = np.random.default_rng(0)
  for _ in range(400):
    n = int(rng.integers(1, 60))
    values = rng.normal(size=n).astype(np.float32)
    if rng.random() < 0.5:
      values = np.round(values, 1 if rng.random() < 0.5 else 0)  # ties
    rate = float(rng.choice([0.0, 0.01, 0.05, 0.1, 0.29, 0.5, 0.9, 0.999]))
    found = thresholds.threshold(Rule("quantile", rate), values, dims=1, num_levels=2)
    most = Fraction(str(rate)) * n
    fitting = [v for v in values.tolist() if sum(w < v for w in values.tolist()) <= most]
    assert found == max(fitting)


def test_a_rate_is_what_is_written_and_not_its_rounding():
  assert math.floor(0.29 * 100) == 28
  found = thresholds.threshold(Rule("quantile", 0.29), np.arange(100.0), dims=1, num_levels=2)
  assert found == 29


def test_mean_and_standard_deviation_and_bits():
  values = np.random.default_rng(1).normal(-400, 30, 50)
  found = thresholds.threshold(Rule("mean_std", alpha=1.5), values, dims=1, num_levels=2)
  assert found == pytest.approx(sum(values) / 50 - 1.5 * math.sqrt(np.var(values)), rel=1e-12)
  rule = Rule("fixed", bits_per_dim=1.4)
  limit = thresholds.threshold(rule, values, dims=784, num_levels=256)
  np.testing.assert_allclose(bits_per_dimension(np.array([limit]), 784, 256), 1.4, rtol=1e-12)


# Statistics and fits.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_class", [False, True])
def test_scores_are_the_statistic_less_its_threshold(name, per_class):
  logits, rule = _logits(), Rule("mean_std", alpha=1.0)
  classes = logits.argmax(1)
  expected = _expected(name, logits, classes, per_class)
  limits = np.array(
    [
      (mine := expected[classes == c] if per_class else expected).mean() - mine.std()
      for c in range(CLASSES)
    ]
  )
  fitted = _fit(name, rule, per_class=per_class)
  np.testing.assert_allclose(fitted.threshold, limits, rtol=1e-4, atol=1e-5)
  assert (len(set(np.asarray(fitted.threshold).tolist())) > 1) == per_class
  found = _score(name, fitted, logits)
  np.testing.assert_allclose(found, expected - limits[classes], rtol=1e-4, atol=3e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_class", [False, True])
def test_a_detector_rejects_no_more_of_its_own_images_than_asked(name, per_class):
  """Through the detector itself: the image on the threshold is not lost to rounding."""
  for seed, num in ((0, 100), (1, 237), (2, NUM)):
    logits = _logits(seed, num, scale=1.0 + seed)
    classes = logits.argmax(1)
    rejected = _score(name, _fit(name, Rule("quantile", 0.05), per_class=per_class, logits=logits),
                      logits) < 0  # fmt: skip
    groups = [classes == c for c in range(CLASSES)] if per_class else [classes >= 0]
    for mine in groups:
      assert np.sum(rejected[mine]) == math.floor(Fraction("0.05") * int(np.sum(mine)))


def test_by_labels_an_image_stands_for_its_true_class():
  """The published fit of Li et al.: log p(x, y) of the label, misclassified images included."""
  logits = _logits()
  labels = np.random.default_rng(5).integers(0, CLASSES, NUM)
  fitted = _fit("joint", Rule("quantile", 0.1), per_class=True, classes=labels)
  for c in range(CLASSES):
    own = np.sort(logits[labels == c, c])
    assert fitted.threshold[c] == own[len(own) // 10]


def _gaussian(rng, num, dims, spread=0.3):
  """Draws of a Gaussian in `dims` dimensions, and two equal classes' log p(x, y)."""
  z = rng.standard_normal((num, dims))
  density = -0.5 * np.sum(z**2, axis=1) - dims * (0.5 * np.log(2 * np.pi) + np.log(spread))
  return np.repeat((density - np.log(2))[:, None], 2, axis=1).astype(np.float32)


def test_the_true_false_positive_rate_of_a_gaussian_follows_its_law():
  """log p(x) = const − χ²/2, so the rate of a threshold is known; of a quantile it is Beta."""
  rng, dims, num, rate = np.random.default_rng(0), 12, 100, 0.05
  constant = -dims * (0.5 * np.log(2 * np.pi) + np.log(0.3))

  def true_rate(rule, logits):
    fitted = detect.fit("marginal", logits, np.arange(len(logits)) % 2, rule, per_class=False,
                        score="exact", **SIZES)  # fmt: skip
    return stats.chi2.sf(2 * (constant - float(fitted.threshold[0])), dims)

  rates = [true_rate(Rule("quantile", rate), _gaussian(rng, num, dims)) for _ in range(150)]
  assert stats.kstest(rates, stats.beta(6, 95).cdf).pvalue > 0.01  # the sixth smallest of 100
  assert stats.kstest(rates, stats.beta(5, 96).cdf).pvalue < 1e-3  # the negative control
  many = _gaussian(rng, 200_000, dims)
  alpha = 1.5
  expected = stats.chi2.sf(dims + alpha * math.sqrt(2 * dims), dims)
  assert true_rate(Rule("mean_std", alpha=alpha), many) == pytest.approx(expected, abs=2e-3)
  bits = float(bits_per_dimension(np.array([constant - 0.5 * 20.0]), SIZES["dims"], 17)[0])
  fixed = true_rate(Rule("fixed", bits_per_dim=bits), many)
  assert fixed == pytest.approx(stats.chi2.sf(20.0, dims), rel=1e-4)
  score = many[:, 0] + np.log(2) - (constant - 10.0)
  assert np.mean(score < 0) == pytest.approx(fixed, abs=5 * math.sqrt(fixed / len(many)))


def test_gradients_are_finite_at_extreme_logits():
  logits = jnp.asarray([[0.0, 1000.0, -1000.0, 5.0], [-100.0, -100.0, -100.0, -100.0]])
  keys, x = jax.random.split(jax.random.key(0), 2), jnp.zeros((2, 2, 2, 1))
  for name in NAMES:
    accept = detect.detector(name, _fit(name, Rule("quantile")))
    gradient = jax.grad(lambda z, accept=accept: jnp.sum(accept(keys, x, z)))(logits)
    assert np.all(np.isfinite(gradient)), name


def test_another_threshold_compiles_nothing_anew():
  traces = []

  def logits_fn(keys, x):
    traces.append(1)
    return jnp.concatenate([x[:, 0, :, 0], -x[:, 0, :, 0]], axis=1)

  model = jax.tree_util.Partial(logits_fn)
  keys, x = jax.random.split(jax.random.key(0), 3), jnp.full((3, 2, 2, 1), 0.4)
  for rule in (Rule("quantile", 0.05), Rule("quantile", 0.3)):
    accept = detect.detector("kl", _fit("kl", rule))
    attack = attacks.build("pgd", model, eps=0.3, num_steps=2, accept=accept)
    attacks.run(attack, keys, x, np.zeros(3, int), compact=False)
    if rule.false_positive_rate == 0.05:
      first = len(traces)
  assert len(traces) == first > 0


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"name": "marginl"}, "did you mean 'marginal'"),
    ({"rule": Rule("quantil")}, "did you mean 'quantile'"),
    ({"rule": Rule("quantile", 5.0)}, "false_positive_rate must be >= 0 and < 1"),
    ({"rule": Rule("mean_std", alpha=math.nan)}, "needs a finite alpha, got nan"),
    ({"rule": Rule("fixed")}, "needs a finite bits_per_dim, got None"),
    ({"score": "posterior"}, "has no log p.x.. Use 'kl' or 'tv'"),
    ({"name": "joint", "rule": Rule("fixed", bits_per_dim=1.0)}, "needs the detector 'marginal'"),
    (
      {"score": "unnormalised", "rule": Rule("fixed", bits_per_dim=1.0)},
      "bits per dimension: it needs",
    ),
    ({"classes": np.arange(NUM) % 3, "per_class": True}, "class 3 has none of the 400"),
    ({"classes": np.arange(NUM) % 3, "name": "kl"}, "class 3 has none of the 400"),
    ({"logits": np.full((NUM, CLASSES), np.nan)}, "finite logits, got 400 of 400"),
  ],
)
def test_what_does_not_fit_is_refused(change, match):
  given = {"name": "marginal", "rule": Rule("quantile"), **change}
  with pytest.raises(ValueError, match=match):
    _fit(given.pop("name"), given.pop("rule"), **given)


def test_posteriors_are_enough_for_divergences_and_energies_for_quantiles():
  for name in ("kl", "tv"):
    _fit(name, Rule("quantile"), score="posterior")
  shifted = _fit("marginal", Rule("quantile"), logits=_logits() + 50, score="unnormalised")
  plain = _fit("marginal", Rule("quantile"))
  np.testing.assert_allclose(shifted.threshold, plain.threshold + 50, rtol=1e-6)
