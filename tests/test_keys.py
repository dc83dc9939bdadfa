"""Streams of randomness: per example, apart between purposes, independent of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls.keys import PURPOSES, example_keys, fold, purpose_key


def bits(keys):
  return np.asarray(jax.random.key_data(keys))


def test_a_key_belongs_to_its_example_and_not_to_its_batch():
  whole = bits(example_keys(3, jnp.arange(10)))
  np.testing.assert_array_equal(bits(example_keys(3, jnp.asarray([7, 2]))), whole[[7, 2]])
  assert len(np.unique(whole, axis=0)) == 10


def test_purposes_seeds_and_folds_never_meet():
  indices = jnp.arange(50)
  streams = [bits(example_keys(seed, indices, name)) for name in PURPOSES for seed in (0, 1)]
  keys = example_keys(0, indices)
  streams += [bits(fold(keys, tag)) for tag in ("attack", "start", "q", 0, 1, 2)]
  streams.append(bits(fold(keys, "attack", indices, 3)))
  everything = np.concatenate(streams)
  assert len(np.unique(everything, axis=0)) == len(everything)


def test_fold_takes_one_number_per_example():
  keys = example_keys(0, jnp.asarray([4, 4]))
  a, b = bits(fold(keys, jnp.asarray([1, 2])))
  assert (a != b).any()
  np.testing.assert_array_equal(bits(fold(keys, 1))[0], a)


def test_keys_are_typed_threefry():
  assert jax.random.key_impl(purpose_key(0, "grade")) == "threefry2x32"


def test_unknown_purpose():
  with pytest.raises(ValueError, match="did you mean 'grade'"):
    example_keys(0, jnp.arange(2), "grades")
