"""Means of two images, and wrong labels."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import roc_auc_score
from toy_analyses import gaussian
from toy_evaluation import CLASSES

from gencls.analyses import ambiguous
from gencls.analyses.inputs import floats


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
