"""What holds for every analysis."""

import json

import numpy as np
import pytest
import toy_analyses
from toy_analyses import CAPTION, DEFAULTS
from toy_evaluation import toy_subject

from gencls.analyses import REGISTRY
from gencls.analyses.inputs import judged, log_lik
from gencls.evaluation.results import Cell


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
