"""Other sets of images, against the density of a Gaussian."""

import numpy as np
import pytest
import toy_analyses
from scipy import special, stats
from sklearn.metrics import roc_auc_score
from toy_analyses import gaussian
from toy_evaluation import CLASSES

from gencls.analyses import out_of_distribution as ood
from gencls.analyses.auroc import accepted_at


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
