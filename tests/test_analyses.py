"""Each analysis against the Gaussian whose densities are known, NumPy loops and scikit-learn."""

import json

import numpy as np
import pytest
import toy_analyses
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import roc_auc_score, roc_curve
from toy_analyses import PRIOR
from toy_evaluation import CLASSES, SCALE, SHAPE, toy_subject

from gencls.analyses import REGISTRY, ambiguous, class_gap, interpolation, paths, robustness
from gencls.analyses import out_of_distribution as ood
from gencls.analyses.auroc import accepted_at, auroc
from gencls.analyses.inputs import Caption, floats, judged, log_lik
from gencls.evaluation import minimum_norm
from gencls.evaluation.results import Cell
from gencls.likelihood import bits_per_dimension

CAPTION = Caption("TOY", "made")
DEFAULTS = {
  "interpolation": {"num_pairs": 12, "num_steps": 5},
  "class_gap": {},
  "ambiguous": {"num_pairs": 20},
  "out_of_distribution": {"sets": ("mnist", "constant", "uniform_noise")},
}


def gaussian(x):
  """[N, C] log p(x | y) of the toy, by SciPy."""
  means = np.asarray(toy_subject().params["mean"], np.float64).reshape(CLASSES, -1)
  flat = np.asarray(x, np.float64).reshape(len(x), 1, -1)
  return np.sum(stats.norm.logpdf(flat, means[None], SCALE), axis=2)


@pytest.fixture(scope="module")
def inputs():
  return toy_analyses.inputs()


@pytest.fixture(scope="module")
def walked(inputs):
  return interpolation.analyse(inputs, DEFAULTS["interpolation"])


# AUROC


@pytest.mark.parametrize("n", [1, 7, 40])
def test_auroc_is_that_of_scikit_learn(n):
  rng = np.random.default_rng(n)
  one, two = np.round(rng.normal(0.7, 1, n), 1), np.round(rng.normal(0, 1, 30), 1)
  found = auroc(one, two)
  expected = roc_auc_score(np.repeat([1, 0], [n, 30]), np.concatenate([one, two]))
  assert found["mean"] == pytest.approx(expected) and found["n"] == min(n, 30)
  assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_the_interval_of_an_auroc_covers_the_truth(shift, paired):
  rng, truth = np.random.default_rng(5), stats.norm.cdf(shift / np.sqrt(2))
  inside, widths, unpaired = [], [], []
  for _ in range(250):
    shared = rng.normal(0, 1, 60)
    noise = [rng.normal(0, 1, 60) for _ in range(2)]
    one, two = [np.sqrt(0.7) * shared + np.sqrt(0.3) * each for each in noise] if paired else noise
    found = auroc(one + shift, two, paired=paired)
    inside.append(found["low"] <= truth <= found["high"])
    widths.append(found["high"] - found["low"])
    apart = auroc(one + shift, two)
    unpaired.append(apart["high"] - apart["low"])
  assert 0.92 <= np.mean(inside) <= 0.985
  if paired:  # what is the same on both sides does not make the interval wide
    assert np.mean(widths) < (0.8 if shift == 0 else 0.95) * np.mean(unpaired)


def test_an_auroc_without_variation_still_has_an_interval():
  found = auroc(np.arange(20) + 100.0, np.arange(30.0))
  assert found["mean"] == found["high"] == 1 and 0.8 < found["low"] < 0.9
  with pytest.raises(ValueError, match="values on both sides"):
    auroc(np.zeros(0), np.ones(3))
  with pytest.raises(ValueError, match="as many on each"):
    auroc(np.zeros(2), np.ones(3), paired=True)


def test_the_false_positive_rate_at_95_percent_is_that_of_scikit_learn():
  rng = np.random.default_rng(2)
  own, other = rng.normal(1, 1, 137), rng.normal(0, 1.5, 90)
  fpr, tpr, _ = roc_curve(
    np.repeat([1, 0], [137, 90]), np.concatenate([own, other]), drop_intermediate=False
  )
  assert accepted_at(own, other) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
  assert accepted_at(own, np.array([np.nan, np.inf, -np.inf])) == 0


# Paths between two classes


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 5))
def test_pairs_are_eligible_and_of_two_classes(seed, n, classes):
  rng = np.random.default_rng(seed)
  labels, eligible = rng.integers(0, classes, n), rng.random(n) < 0.8
  if len(np.unique(labels[eligible])) < 2:
    with pytest.raises(ValueError, match="at least two classes"):
      paths.draw_pairs(labels, eligible, 10, 0)
    return
  pairs = paths.draw_pairs(labels, eligible, 200, seed)
  assert np.all(eligible[pairs]) and np.all(labels[pairs[:, 0]] != labels[pairs[:, 1]])
  assert len(np.unique(pairs)) == 2 * len(pairs)  # independent: no image is in two of them
  left = np.setdiff1d(np.flatnonzero(eligible), pairs)
  assert len(np.unique(labels[left])) <= 1  # as many as the images last for
  np.testing.assert_array_equal(paths.draw_pairs(labels, eligible, 1, seed), pairs[:1])


def test_pairs_are_uniform():
  labels, draws = np.array([0, 1, 0, 2, 1, 0]), 12_000
  counts = np.zeros((6, 6))
  for seed in range(draws):
    counts[tuple(paths.draw_pairs(labels, np.ones(6, bool), 1, seed)[0])] += 1
  others = np.sum(labels[:, None] != labels[None], axis=1)
  expected = np.where(labels[:, None] != labels[None], draws / 6 / others[:, None], 0)
  allowed = expected > 0
  assert np.all(counts[~allowed] == 0)
  chi = np.sum((counts[allowed] - expected[allowed]) ** 2 / expected[allowed])
  assert chi < stats.chi2.ppf(0.9999, np.sum(allowed) - 1)


def test_paths_start_and_end_at_the_images(inputs, walked):
  arrays, _ = walked
  first, second = (floats(inputs.examined.dataset, arrays["pair"][:, end]) for end in (0, 1))
  for alpha, image in ((0, first), (1, second)):
    found = paths.between(first, second, np.full(len(first), alpha))
    np.testing.assert_array_equal(found, image)
  for end, step in ((0, 0), (1, -1)):
    own = inputs.logits[arrays["pair"][:, end]]
    np.testing.assert_allclose(arrays["logits"][:, step], own, rtol=1e-5, atol=1e-4)
  assert np.all(arrays["accepted"][:, [0, -1]])
  assert np.all(np.argmax(arrays["logits"][:, 0], 1) == arrays["label"][:, 0])


def test_the_likelihoods_along_a_path_are_the_gaussians(inputs, walked):
  arrays, numbers = walked
  values = paths.profile(arrays["logits"], arrays["label"], PRIOR)
  dataset, rows = inputs.examined.dataset, np.arange(12)
  for step, alpha in enumerate(np.linspace(0, 1, 5)):
    ends = (floats(dataset, arrays["pair"][:, end]).astype(np.float64) for end in (0, 1))
    first, second = ends
    density = gaussian((1 - alpha) * first + alpha * second)
    for name, end in (("first", 0), ("second", 1)):
      own = density[rows, arrays["label"][:, end]]
      np.testing.assert_allclose(values[f"log_lik_{name}"][:, step], own, atol=1e-3)
      posterior = np.exp(own - special.logsumexp(density, axis=1))
      np.testing.assert_allclose(values[f"posterior_{name}"][:, step], posterior, atol=1e-4)
    marginal = special.logsumexp(density - np.log(CLASSES), axis=1)
    np.testing.assert_allclose(values["log_marginal"][:, step], marginal, atol=1e-3)
  density = values["log_marginal"]
  drop = np.mean(density[:, 2] - (density[:, 0] + density[:, 4]) / 2)
  assert numbers["middle_minus_ends_nats"]["mean"] == pytest.approx(drop)
  assert drop > 0  # the mean of two draws is nearer to both means: a Gaussian is fooled


def test_pairs_count_only_if_both_ends_hold_under_the_key_of_the_path():
  noisy = toy_analyses.inputs(subject=toy_subject(noise=12.0))
  arrays, numbers = interpolation.analyse(noisy, {"num_pairs": 60, "num_steps": 3})
  assert 0 < numbers["num_pairs"] < numbers["num_drawn"] <= 15
  assert np.all(arrays["accepted"][:, [0, -1]])
  assert np.array_equal(np.argmax(arrays["logits"][:, [0, -1]], axis=2), arrays["label"])
  own = noisy.logits[arrays["pair"][:, 1]]
  assert not np.allclose(arrays["logits"][:, -1], own)  # another key


def test_a_model_that_knows_one_class_has_no_paths():
  inputs = toy_analyses.inputs()
  blind = inputs._replace(logits=inputs.logits * 0 + np.array([1.0, 0, 0], np.float32))
  arrays, numbers = interpolation.analyse(blind, DEFAULTS["interpolation"])
  assert arrays == {} and "one class" in numbers["reason"]
  made = Cell({"numbers": numbers}, arrays)
  assert interpolation.figures(made, CAPTION) == {} and "one class" in interpolation.markdown(made)


def test_shares_of_paths_by_hand():
  labels = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
  predicted = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 1, 1], [0, 0, 0, 1]])
  logits = np.eye(3)[predicted]
  accepted = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]], bool)
  found = interpolation.summarise(logits, labels, accepted)
  means = {name: each["mean"] for name, each in found.items()}
  expected = {"third_class": 0.25, "never_rejected": 0.25, "flip_accepted": 0.75}
  assert means == {**expected, "middle_accepted": 0.75}
  assert set(interpolation.summarise(logits, labels, None)) == {"third_class"}


# The gap between classes


def test_true_and_best_wrong_likelihoods(inputs):
  logits = np.log(np.array([[0.2, 0.5, 0.3], [0.6, 0.15, 0.25]]))
  prior = np.array([0.5, 0.25, 0.25])
  true, wrong = class_gap.true_and_wrong(logits, np.array([0, 0]), prior)
  np.testing.assert_allclose(np.exp(true), [0.4, 1.2])
  np.testing.assert_allclose(np.exp(wrong), [2.0, 1.0])
  arrays, numbers = class_gap.analyse(inputs, {})
  labels = inputs.examined.dataset.labels
  density = gaussian(floats(inputs.examined.dataset, np.arange(30)))
  np.testing.assert_allclose(arrays["log_lik_true"], density[np.arange(30), labels], atol=1e-3)
  both = np.concatenate([arrays["log_lik_true"], arrays["log_lik_wrong"]])
  expected = roc_auc_score(np.repeat([1, 0], 30), both)
  assert numbers["auroc"]["mean"] == pytest.approx(expected)
  dims = int(np.prod(SHAPE))
  bits = np.mean(bits_per_dimension(arrays["log_lik_true"], dims, 17))
  assert numbers["per_dim"]["true"]["bits"] == pytest.approx(bits)
  assert numbers["per_dim"]["true"]["nll_nats"] == pytest.approx(-np.mean(both[:30]) / dims)


def test_the_gap_that_makes_a_class_certain():
  gap = class_gap.certain_gap(10, 1e-5)
  assert gap == pytest.approx(13.71, abs=0.005)
  assert special.softmax([gap, *[0.0] * 9])[0] == pytest.approx(1 - 1e-5, abs=1e-12)


# Ambiguous and mislabelled inputs


def test_wrong_labels_are_wrong_and_uniform():
  labels = np.arange(40_000) % 4
  given_labels = ambiguous.wrong_labels(labels, 4, 0)
  assert not np.any(given_labels == labels)
  counts = np.bincount(labels * 4 + given_labels, minlength=16).reshape(4, 4)
  assert stats.chisquare(counts[~np.eye(4, dtype=bool)]).pvalue > 1e-4


def test_ambiguous_inputs_are_the_means_of_two_images(inputs):
  arrays, numbers = ambiguous.analyse(inputs, {"num_pairs": 20})
  first, second = (floats(inputs.examined.dataset, arrays["pair"][:, end]) for end in (0, 1))
  np.testing.assert_allclose(arrays["x_mixed"], (first + second)[:8] / 2, atol=1e-6)
  density = gaussian((first + second) / 2)
  marginal = special.logsumexp(density - np.log(CLASSES), axis=1)
  np.testing.assert_allclose(arrays["mixed_marginal"], marginal, atol=1e-3)
  both = np.concatenate([arrays["real_marginal"], arrays["mixed_marginal"]])
  mixed = len(arrays["pair"])
  assert mixed >= 5 and len(arrays["real_marginal"]) == 30 - 2 * mixed
  assert not set(arrays["pair"].ravel()) & set(arrays["other"])
  own = gaussian(floats(inputs.examined.dataset, arrays["other"]))
  own = special.logsumexp(own - np.log(CLASSES), axis=1)
  np.testing.assert_allclose(arrays["real_marginal"], own, atol=1e-3)
  expected = roc_auc_score(np.repeat([1, 0], [30 - 2 * mixed, mixed]), both)
  assert numbers["detectors"]["marginal"]["auroc"]["mean"] == pytest.approx(expected)
  assert arrays["mixed_marginal"].mean() > arrays["real_marginal"].mean()
  labels, wrong = inputs.examined.dataset.labels, arrays["wrong_label"]
  density = gaussian(floats(inputs.examined.dataset, np.arange(30)))
  np.testing.assert_allclose(arrays["wrong_log_lik"], density[np.arange(30), wrong], atol=1e-3)
  posterior = special.log_softmax(density, axis=1)[np.arange(30), labels]
  np.testing.assert_allclose(arrays["right_log_posterior"], posterior, atol=1e-3)
  assert numbers["labels"]["log_posterior"]["auroc"]["mean"] > 0.95


# Out of distribution


def test_sets_that_are_made(inputs):
  own = inputs.examined.dataset
  flat = ood.constant(own)
  assert np.all(flat == flat[:, :1, :1]) and (flat.min(), flat.max()) == (0, 16)
  assert np.all(np.diff(flat[:, 0, 0, 0].astype(int)) >= 0)
  noise = ood.uniform_noise(own, 0)
  counts = np.bincount(noise.ravel(), minlength=17)
  assert len(counts) == 17 and stats.chisquare(counts).pvalue > 1e-4


def test_out_of_distribution_by_the_known_density(inputs):
  settings_ = {"sets": ("mnist", "constant", "uniform_noise")}
  arrays, numbers = ood.analyse(inputs, settings_)
  assert numbers["left_out"] == {"mnist": "it is not on this machine"}
  x = ood.uniform_noise(inputs.examined.dataset, 0) / 16
  marginal = special.logsumexp(gaussian(x) - np.log(CLASSES), axis=1)
  np.testing.assert_allclose(arrays["uniform_noise_marginal"], marginal, atol=1e-3)
  found = numbers["sets"]["uniform_noise"]["marginal"]
  both = np.concatenate([arrays["own_marginal"], marginal])
  assert found["auroc"]["mean"] == pytest.approx(roc_auc_score(np.repeat([1, 0], 30), both))
  assert found["fpr_at_95"] == accepted_at(arrays["own_marginal"], marginal)
  with pytest.raises(ValueError, match="did you mean 'constant'"):
    ood.analyse(inputs, {"sets": ("constnat",)})


def test_sets_of_the_own_data_or_another_shape_are_left_out():
  def load(name):
    return toy_analyses.examined().dataset._replace(images=np.zeros((30, 5, 4, 1), np.uint8))

  other = toy_analyses.examined(load=load, there=lambda name: True)
  assert "not (4, 4, 1)" in (ood.other_set(other, "mnist")[1] or "")
  mnist = other._replace(dataset=other.dataset._replace(name="mnist"))
  assert ood.other_set(mnist, "mnist")[1] == "the model's own data"


def test_a_shorter_set_is_taken_whole():
  def load(name):
    found = toy_analyses.examined().dataset
    return found._replace(images=found.images[:7], labels=found.labels[:7])

  found, reason = ood.other_set(toy_analyses.examined(load=load, there=lambda name: True), "mnist")
  assert found is not None and reason is None and len(found.labels) == 7


# Robustness


def cell(label, eps, norms, right, attack=None, graded=None):
  settings_ = {"attack": {"target": None, **(attack or {})}}
  header = {"label": label, "norm": "l2", "eps": eps, "settings": settings_}
  arrays = {"norm": np.array(norms, float), "select_correct": np.array(right, float)}
  arrays["select_margin"] = arrays["select_correct"] - 0.5
  arrays["correct"] = np.array(right if graded is None else graded, float)
  return Cell(header, arrays)


def test_the_nearest_wrong_image_by_hand():
  untouched = cell("untouched", 0.0, [0, 0, 0, 0], [0, 1, 1, 1])
  one = cell("pgd", 1.0, [1, 0.8, 1, 1], [0, 0, 1, 1])
  two = cell("pgd", 2.0, [2, 2, 1.5, 2], [0, 0, 0, 1])
  found = robustness.nearest([two, one], untouched)
  np.testing.assert_array_equal(found.distance, [0, 0.8, 1.5, np.inf])
  np.testing.assert_array_equal(found.l2_norm, found.distance)
  at, share = robustness.curve(found.distance)
  assert at.tolist() == [0, 0.8, 1.5] and share.tolist() == [0.25, 0.5, 0.75]


def test_the_select_draws_choose_and_the_grade_draws_count():
  clean = cell("untouched", 0.0, [0, 0, 0], [1, 1, 1])
  near = cell("pgd", 1.0, [1, 1, 1], [0.4, 0.4, 0.2], graded=[0.8, 0.8, 0.7])
  far = cell("pgd", 2.0, [2, 2, 2], [0.2, 0.6, 0.4], graded=[0.1, 0.6, 0.4])
  found = robustness.nearest([near, far], clean).distance
  np.testing.assert_array_equal(found, [2, np.inf, np.inf])


def test_images_that_are_mostly_right_are_not_broken_by_the_best_of_many_draws():
  rng, n = np.random.default_rng(0), 2000

  def made(eps, share):
    select, graded = (rng.binomial(d, share, n) / d for d in (5, 20))
    return cell("pgd", eps, np.full(n, eps), select, graded=graded)

  clean = cell("untouched", 0.0, np.zeros(n), np.ones(n))
  robust = [made(eps, 0.8) for eps in range(1, 13)]
  assert np.mean(np.isfinite(robustness.nearest(robust, clean).distance)) < 0.01
  # Hidden behind a lucky draw nearby are 0.092 · 0.078 + 0.004 · 0.51: 0.9%.
  broken = robustness.nearest([*robust, made(13, 0.02)], clean).distance
  assert np.mean(broken == 13) > 0.98


def test_average_robustness_by_hand():
  x = np.zeros((4, 2, 2, 1), np.float32)
  x[:, 0] = [[[0.3], [0.4]]] * 4  # of length 0.5

  def row_of(norm, distances, l2_norm):
    wrong = robustness.Nearest(np.array(distances), np.array(l2_norm))
    return robustness._row("a", "pgd", norm, wrong, x, 0)

  row = row_of("l2", [0, 0.25, 1.0, np.inf], [0, 0.25, 1.0, np.inf])
  assert row["mean_relative_norm"] is None  # a failure makes it infinite
  assert row["mean_relative_norm_of_successes"] == pytest.approx((0 + 0.5 + 2) / 3)
  assert row["median_relative_norm_all"] == pytest.approx(1.25)
  assert row["median_norm_all"] == pytest.approx(0.625) and row["broken"]["mean"] == 0.75
  row = row_of("linf", [0, 0.1, 0.2, 0.2], [0, 0.25, 1.0, 0.5])
  assert row["mean_relative_norm"] == pytest.approx((0 + 0.5 + 2 + 1) / 4)
  assert row["median_norm_all"] == pytest.approx(0.15)


def test_rho_is_of_the_l2_norms_or_not_stored():
  """Two attacks of linf; the second breaks what the first does not."""
  untouched = cell("untouched", 0.0, [0, 0, 0], [0, 1, 1])
  one = cell("pgd", 0.1, [0.1, 0.1, 0.1], [0, 0, 1])
  two = cell("pgd", 0.2, [0.2, 0.2, 0.2], [0, 0, 0])
  for each, sizes in ((one, [0.3, 0.4, 0.5]), (two, [0.6, 0.7, 0.8])):
    each.header["norm"] = "linf"
    each.arrays["l2_norm"] = np.array(sizes)
  found = robustness.nearest([one, two], untouched)
  np.testing.assert_allclose(found.distance, [0, 0.1, 0.2])
  np.testing.assert_allclose(found.l2_norm, [0, 0.4, 0.8])
  del two.arrays["l2_norm"]
  found = robustness.nearest([one, two], untouched)
  np.testing.assert_array_equal(np.isnan(found.l2_norm), [False, False, True])
  row = robustness._row("a", "pgd", "linf", found, np.ones((3, 2, 2, 1), np.float32), 0)
  assert row["median_norm_all"] == pytest.approx(0.1) and row["rho_norm"] is None
  numbers = {"rows": [{**row, "missing": False}], "left_out": {}, "missing": {}}
  assert robustness.markdown(Cell({"numbers": numbers}, {})).count("not stored") == 3


def test_distances_of_a_minimum_norm_attack_are_its_own():
  untouched = cell("untouched", 0.0, [0, 0, 0], [0, 1, 1])
  minimum = cell("fab", None, [0, 0.7, 0.0], [0, 0, 1])
  found = robustness.nearest([minimum], untouched).distance
  np.testing.assert_array_equal(found, minimum_norm.distances(minimum))


# All of them


@pytest.fixture(scope="module", params=["exact", "unnormalised", "posterior"])
def of_score(request):
  return request.param, toy_analyses.inputs(subject=toy_subject(score=request.param))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DEFAULTS))
def test_every_analysis_serves_every_score(name, of_score):
  score, given_ = of_score
  arrays, numbers = REGISTRY[name].analyse(given_, DEFAULTS[name])
  header = json.loads(json.dumps({"numbers": numbers}, allow_nan=False))
  made = Cell(header, arrays)
  assert REGISTRY[name].markdown(made)
  if score != "unnormalised":  # drawn as the exact ones
    drawn = REGISTRY[name].figures(made, CAPTION)
    assert drawn or (name, score) == ("class_gap", "posterior")
  if score == "posterior":
    assert "log p(x) " not in REGISTRY[name].markdown(made)
    assert list(given_.fitted) == ["kl"] and "marginal" in given_.left_out


def test_a_result_does_not_depend_on_the_batch():
  noisy = toy_subject(noise=1.0)
  for name, settings_ in DEFAULTS.items():
    found = [
      REGISTRY[name].analyse(toy_analyses.inputs(subject=noisy, batch_size=size), settings_)[0]
      for size in (7, 30)
    ]
    for key, values in found[0].items():
      np.testing.assert_allclose(values, found[1][key], rtol=1e-4, atol=1e-3, err_msg=key)


def test_logits_that_are_not_finite_are_refused():
  def broken(keys, x):
    return toy_subject().logits_fn(keys, x).at[:, 0].set(np.nan)

  import jax

  with pytest.raises(ValueError, match="finite logits, got 30 of 30"):
    toy_analyses.inputs(logits_fn=jax.tree_util.Partial(broken))


def test_detectors_judge_as_evaluations_do(inputs):
  import jax.numpy as jnp

  from gencls import detect

  for name, fitted in inputs.fitted.items():
    score = detect.detector(name, fitted)(None, None, jnp.asarray(inputs.logits))
    np.testing.assert_array_equal(judged(inputs, name, inputs.logits)[1], np.asarray(score) >= 0)


def test_the_class_prior_is_taken_off():
  found = log_lik(np.array([[-1.0, -2.0]]), np.array([1]), np.array([0.75, 0.25]))
  assert found[0] == pytest.approx(-2 - np.log(0.25))
