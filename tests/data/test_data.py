import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from gencls import data
from gencls.data.dataset import checked
from gencls.data.splits import stratified, training_positions

ROOT = Path(__file__).resolve().parents[2]


def test_digits_are_the_embedded_images_split_three_ways():
  pixels, labels = load_digits(return_X_y=True)
  parts = [data.load("digits", split) for split in ("train", "validation", "test")]
  assert [len(p.images) for p in parts] == [1293, 144, 360]
  indices = np.concatenate([p.indices for p in parts])
  np.testing.assert_array_equal(np.sort(indices), np.arange(1797))
  for part in parts:
    np.testing.assert_array_equal(part.images.reshape(-1, 64), pixels[part.indices])
    np.testing.assert_array_equal(part.labels, labels[part.indices])
    assert part.images.dtype == np.uint8 and part.images.shape[1:] == (8, 8, 1)
    assert part.labels.dtype == np.int32 and part.indices.dtype == np.int32
    assert (part.num_classes, part.num_levels) == (10, 17)


def test_digits_splits_are_stratified_and_fixed():
  frequencies = np.bincount(data.load("digits", "train", validation_size=0).labels) / 1437
  for split, size in (("validation", 144), ("test", 360)):
    part = data.load("digits", split)
    assert np.abs(np.bincount(part.labels) - size * frequencies).max() < 1.5
  test = data.load("digits", "test")
  assert test.indices[:6].tolist() == [20, 21, 22, 23, 24, 25]  # the split must never change


def test_validation_size_moves_examples_between_train_and_validation():
  train = data.load("digits", "train", validation_size=37)
  held_out = data.load("digits", "validation", validation_size=37)
  everything = data.load("digits", "train", validation_size=0)
  assert len(held_out.images) == 37
  both = np.sort(np.concatenate([train.indices, held_out.indices]))
  np.testing.assert_array_equal(both, everything.indices)


@pytest.mark.parametrize("size", [-1, 1437, 0.5, True])
def test_validation_size_out_of_range_is_refused(size):
  with pytest.raises(ValueError, match="validation_size must be"):
    data.load("digits", "train", validation_size=size)


def test_an_empty_validation_split_is_refused():
  with pytest.raises(ValueError, match="must be >= 1 to load the validation split"):
    data.load("digits", "validation", validation_size=0)


def test_unknown_split_names_the_valid_ones():
  with pytest.raises(ValueError, match="did you mean 'validation'"):
    data.load("digits", "valid")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_stratified_chooses_the_size_and_each_class_share(labels, draw):
  labels = np.array(labels)
  size = draw.draw(st.integers(0, len(labels)))
  chosen = stratified(labels, size)
  assert len(chosen) == size and len(np.unique(chosen)) == size
  for c in range(5):
    assert abs((labels[chosen] == c).sum() - (labels == c).sum() * size / len(labels)) < 1
  rest = training_positions(labels, "train", size, stratify=True) if size < len(labels) else []
  assert set(rest) == set(range(len(labels))) - set(chosen)


@pytest.mark.parametrize("name", ["digits", "mnist", "tfds:cifar10"])
@pytest.mark.parametrize("size", [None, 7])
def test_the_description_of_a_split_is_json_and_states_the_size(name, size):
  described = data.describe_split(name, size)
  assert json.loads(json.dumps(described)) == described
  assert described["dataset"] == name.removeprefix("tfds:")
  expected = size or {"digits": 144, "mnist": 5000, "tfds:cifar10": None}[name]
  assert described["validation_size"] == expected
  assert str(expected or "tenth") in described["validation"]


@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_to_float_maps_levels_onto_the_unit_interval(array):
  for num_levels in (2, 17, 256):
    levels = array(np.arange(num_levels, dtype=np.uint8))
    floats = data.to_float(levels, num_levels)
    assert floats.dtype == np.float32 and isinstance(floats, type(levels))
    np.testing.assert_allclose(floats, np.linspace(0, 1, num_levels), rtol=1.2e-7)
    np.testing.assert_array_equal(floats[jnp.array([0, -1])], [0, 1])
    np.testing.assert_array_equal(data.to_float(floats, num_levels), floats)


@pytest.mark.parametrize("num_levels", [17, 256])
def test_to_float_gives_the_same_bits_in_numpy_and_under_jit(num_levels):
  levels = np.arange(num_levels, dtype=np.uint8)
  jitted = jax.jit(data.to_float, static_argnums=1)(levels, num_levels)
  np.testing.assert_array_equal(jitted, data.to_float(levels, num_levels))


@pytest.mark.parametrize("array", [np.array, jnp.array])
@pytest.mark.parametrize(
  ("values", "num_levels", "message"),
  [
    (np.array([0.5, 1.01], np.float32), 256, "float images must lie in"),
    (np.array([-0.01, 0.5], np.float32), 256, "float images must lie in"),
    (np.array([0.5, np.nan], np.float32), 256, "float images must lie in"),
    (np.array([0, 17], np.uint8), 17, "integer images must be levels in"),
    (np.array([-1, 5], np.int32), 256, "integer images must be levels in"),
    (np.array([256, 5], np.int32), 256, "integer images must be levels in"),
    (np.array([True]), 256, "integer levels or floats"),
    (np.array([0], np.uint8), 1, "num_levels must be >= 2"),
  ],
)
def test_to_float_refuses_values_out_of_range(array, values, num_levels, message):
  with pytest.raises(ValueError, match=message):
    data.to_float(array(values), num_levels)


IMAGES, LABELS = np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 2])


@pytest.mark.parametrize(
  ("images", "labels", "message"),
  [
    (IMAGES.astype(np.float32), LABELS, "images must be uint8, got float32 from here"),
    (IMAGES[..., 0], LABELS, r"must be \[N, H, W, D\]"),
    (IMAGES[:, :1], LABELS, r"must have shape \(2, 2, 1\), got \(1, 2, 1\)"),
    (IMAGES[:2], LABELS, "2 images and labels of shape"),
    (IMAGES[:0], LABELS[:0], "at least one example"),
    (IMAGES, LABELS.astype(np.float32), "labels must be integers"),
    (IMAGES, LABELS + 1, r"labels must lie in 0 .. 2, got 1 .. 3 .*position \[2\]"),
    (IMAGES, LABELS - 1, "labels must lie in 0 .. 2"),
    (IMAGES + 5, LABELS, "image levels must lie in 0 .. 4"),
  ],
)
def test_arrays_that_break_a_rule_are_refused(images, labels, message):
  with pytest.raises(ValueError, match=message):
    checked("here", images, labels, image_shape=(2, 2, 1), num_classes=3, num_levels=5)


def test_class_frequencies_count_absent_classes_too():
  whole = data.load("digits", "test")
  part = whole._replace(labels=np.array([0, 0, 3, 9], np.int32))
  assert data.class_frequencies(part) == (0.5, 0, 0, 0.25, 0, 0, 0, 0, 0, 0.25)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30), st.integers(0, 80))
def test_batches_resume_at_any_step_with_the_tail_of_the_stream(seed, n, batch_size, start):
  batch_size = min(batch_size, n)
  whole = list(islice(data.batches(seed, n, batch_size), start + 5))
  tail = list(islice(data.batches(seed, n, batch_size, start_step=start), 5))
  np.testing.assert_array_equal(whole[start:], tail)
  assert all(b.shape == (batch_size,) and b.dtype == np.int32 for b in tail)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30))
def test_an_epoch_of_batches_is_a_permutation_cut_to_whole_batches(seed, n, batch_size):
  batch_size = min(batch_size, n)
  steps = n // batch_size
  stream = data.batches(seed, n, batch_size)
  for epoch in range(3):
    visited = np.concatenate(list(islice(stream, steps)))
    order = np.random.default_rng([seed, epoch]).permutation(n)
    np.testing.assert_array_equal(visited, order[: steps * batch_size])


@pytest.mark.parametrize("arguments", [(-1, 5, 2), (0, 5, 0), (0, 5, 6), (0, 5, 2, -1)])
def test_batches_refuse_impossible_arguments_at_once(arguments):
  with pytest.raises(ValueError, match="must be"):
    data.batches(*arguments)


def test_the_import_needs_none_of_the_heavy_packages():
  heavy = "{'tensorflow', 'tensorflow_datasets', 'matplotlib', 'sklearn'}"
  code = f"import sys, gencls.data; print({heavy} & set(sys.modules))"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "set()"
