"""The ROC curve, its area and the interval over images with several draws each."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics

from gencls.analyses.auroc import auroc
from gencls.summary import roc


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_roc_is_that_of_scikit_learn(decimals):
  rng = np.random.default_rng(decimals)
  clean = np.round(rng.normal(1, 1, 70), decimals)
  attacked = np.round(rng.normal(0, 2, 41), decimals)
  is_clean = np.repeat([1, 0], [70, 41])
  scores = np.concatenate([clean, attacked])
  assert roc.auc(clean, attacked) == pytest.approx(metrics.roc_auc_score(is_clean, scores))
  rejected, detected = roc.curve(clean, attacked)
  theirs = metrics.roc_curve(1 - is_clean, -scores, drop_intermediate=False)
  np.testing.assert_allclose(np.stack([rejected, detected]), theirs[:2])
  assert metrics.auc(rejected, detected) == pytest.approx(roc.auc(clean, attacked))
  assert roc.auc(clean, np.array([])) is None
  assert roc.auc(np.array([0.0, np.nan]), np.array([-1.0])) == 0.5


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_the_interval_of_an_area_covers_the_truth_where_images_have_several_draws(shift):
  """Eight draws of each of 60 images share most of what they vary by; some attacks succeed."""
  rng = np.random.default_rng(3)
  inside, naive = [], []
  truth = norm.cdf(shift / np.sqrt(2))
  for _ in range(250):
    own = np.sqrt(0.8) * rng.normal(size=(2, 60, 1))
    clean, attacked = own + np.sqrt(0.2) * rng.normal(size=(2, 60, 8))
    taken = rng.random((60, 8)) < 0.4
    taken[:10] = False
    found = roc.interval(clean + shift, attacked, taken)
    assert found.mean == pytest.approx(roc.auc(clean.ravel() + shift, attacked[taken]))
    inside.append(found.low <= truth <= found.high)
    alone = auroc(clean.ravel() + shift, attacked[taken])
    naive.append(alone["low"] <= truth <= alone["high"])
  assert 0.92 <= np.mean(inside) <= 0.985, np.mean(inside)
  assert np.mean(naive) < 0.7  # the negative control: every draw as if it were an image


def test_the_interval_of_an_area_is_delongs_where_images_have_one_draw():
  rng = np.random.default_rng(1)
  clean, attacked = rng.normal(1, 1, (50, 1)), rng.normal(0, 1, (50, 1))
  attacked += 0.5 * clean
  found = roc.interval(clean, attacked, np.ones((50, 1), bool))
  expected = auroc(clean[:, 0], attacked[:, 0], paired=True)
  for name in ("mean", "low", "high", "n"):
    assert getattr(found, name) == pytest.approx(expected[name])
  assert roc.interval(clean, attacked, np.zeros((50, 1), bool)) is None
  few = np.arange(50)[:, None] < roc.FEWEST
  assert roc.interval(clean + 99, attacked, few)[2] == 1.0  # nothing varies
  assert roc.interval(clean, attacked, few[::-1]) is not None
  few[0] = False
  assert roc.interval(clean, attacked, few) is None


def test_the_interval_covers_the_truth_with_the_fewest_images():
  rng, inside = np.random.default_rng(5), []
  taken = np.arange(200)[:, None] < roc.FEWEST
  for _ in range(400):
    found = roc.interval(rng.normal(1, 1, (200, 1)), rng.normal(size=(200, 1)), taken)
    inside.append(found.low <= norm.cdf(1 / np.sqrt(2)) <= found.high)
  assert np.mean(inside) > 0.85, np.mean(inside)
