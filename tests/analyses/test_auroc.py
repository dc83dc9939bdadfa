"""AUROC, its interval, and the rate of false positives at 95%, against scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from gencls.analyses.auroc import accepted_at, auroc


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
