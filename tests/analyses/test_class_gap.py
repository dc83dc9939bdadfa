"""The likelihood of the true class against that of the best wrong one."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score
from toy_analyses import gaussian
from toy_evaluation import SHAPE

from gencls.analyses import class_gap
from gencls.analyses.inputs import floats
from gencls.bits import bits_per_dimension


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
