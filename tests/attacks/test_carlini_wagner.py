"""What Carlini and Wagner's attack gives where it finds nothing."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import images, keys, linear

from gencls import attacks

NUM, SHAPE = 12, (4, 4, 1)
FEW = {"binary_search_steps": 1, "num_steps": 10, "initial_const": 0.05, "step_size": 0.02}


def _problem():
  model = linear(size=16)
  x = images(NUM, shape=SHAPE)
  y = np.asarray(jnp.argmax(model(keys(NUM), x), axis=1))
  y = np.where(np.arange(NUM) % 4 == 3, (y + 1) % 3, y)  # some are wrong already
  return model, x, y


def test_a_failed_search_may_give_a_black_image_as_foolbox_does():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # foolbox imports deprecated modules
    foolbox = pytest.importorskip("foolbox")
    ep = pytest.importorskip("eagerpy")
  model, x, y = _problem()

  def run(**options):
    attack = attacks.build("carlini_wagner", model, **FEW, **options)
    return attacks.run(attack, keys(NUM), x, y)

  clean, black = run(), run(failed="black")
  found = np.asarray(clean.info.success)
  assert 3 < found.sum() < NUM  # some by the search, not only the wrong ones
  np.testing.assert_array_equal(found, black.info.success)
  np.testing.assert_array_equal(clean.x[found], black.x[found])
  np.testing.assert_array_equal(clean.x[~found], x[~found])
  assert not np.any(black.x[~found])
  peer = foolbox.attacks.L2CarliniWagnerAttack(
    binary_search_steps=1, steps=10, stepsize=0.02, initial_const=0.05
  )
  theirs = peer.run(
    foolbox.JAXModel(jax.jit(lambda x: model(None, x)), bounds=(0, 1)),
    ep.astensor(x),
    foolbox.criteria.Misclassification(ep.astensor(jnp.asarray(y))),
  )
  failed = ~np.any(np.asarray(theirs.raw).reshape(NUM, -1), axis=1)
  np.testing.assert_array_equal(failed, ~found)


def test_another_word_for_it_is_refused():
  with pytest.raises(ValueError, match="did you mean 'black'"):
    attacks.build("carlini_wagner", _problem()[0], failed="blank")
