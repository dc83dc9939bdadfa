"""Real preparations by TFDS, in a process with TensorFlow; reading in processes without it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gencls import data
from gencls.data import tfds_source
from gencls.data.tfrecord import read_tfrecord

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
real_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data: no folder {SHARED}")

# Small sets that TFDS itself prepares: without a test split, of several shapes, of no classes.
PREPARE = """
import os
import numpy as np
import tensorflow_datasets as tfds

def features(shape, label):
  return tfds.features.FeaturesDict({"image": tfds.features.Image(shape=shape), "label": label})

FEATURES = {
  "train_only": features((4, 6, 3), tfds.features.ClassLabel(num_classes=3)),
  "many_shapes": features((None, None, 1), tfds.features.ClassLabel(num_classes=3)),
  "no_classes": features((4, 6, 3), np.int64),
}

def image(name, i):
  shape = (4 + i % 2, 6, 1) if name == "many_shapes" else (4, 6, 3)
  return np.full(shape, 10 * i, np.uint8)

class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version("1.0.0")
  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self, features=FEATURES[self.name], supervised_keys=("image", "label"))
  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}
  def _generate_examples(self):
    for i in range(12):
      yield i, {"image": image(self.name, i), "label": i % 3}

for name in FEATURES:
  Tiny.name = name
  for file_format in ("array_record", "tfrecord"):
    folder = os.path.join(os.environ["TFDS_DATA_DIR"], file_format)
    Tiny(data_dir=folder, file_format=file_format).download_and_prepare()
"""

# Hides TensorFlow from every import and from every question whether it is there.
WITHOUT_TENSORFLOW = """
import importlib.machinery, sys
find_spec = importlib.machinery.PathFinder.find_spec
def without(name, *args, **kwargs):
  return None if name.split(".")[0] == "tensorflow" else find_spec(name, *args, **kwargs)
importlib.machinery.PathFinder.find_spec = without
"""

SAVE = """
import sys
from gencls import data
for split in sys.argv[2].split(","):
  part = data.load(sys.argv[1], split, data_dir=sys.argv[4] or None, validation_size=0)
  numbers = [part.num_classes, part.num_levels]
  import numpy as np
  np.savez(sys.argv[3] + split, *part[3:6], numbers=numbers, source=part.source)
"""


# TFDS reads as many of the training images as it believes there are; the test images stay whole.
FEWER_TRAINING_IMAGES = """
from tensorflow_datasets.image_classification import mnist
mnist._TRAIN_EXAMPLES = 600
"""


def run(code, *arguments, folder, check=True):
  environment = os.environ | {"TFDS_DATA_DIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
  environment.pop("GENCLS_DATA_DIR", None)
  command = [sys.executable, "-c", code, *map(str, arguments)]
  done = subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
  )
  if check:
    assert done.returncode == 0, done.stderr[-3000:]
  return done


def read(name, split, folder, out, code=WITHOUT_TENSORFLOW + SAVE, data_dir=""):
  run(code, name, split, f"{out}/", data_dir, folder=folder)
  return [np.load(f"{out}/{s}.npz") for s in split.split(",")]


def assert_equals_idx(part, name, split):
  expected = data.load(name, split, data_dir=SHARED, validation_size=0)
  for stored, wanted in zip(("arr_0", "arr_1", "arr_2"), expected[3:6], strict=True):
    np.testing.assert_array_equal(part[stored], wanted)
    assert part[stored].dtype == wanted.dtype
  assert str(part["source"]).startswith("tfds ")


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
  """MNIST as TFDS prepares it from the original files, without a network."""
  folder, out = tmp_path_factory.mktemp("tfds"), tmp_path_factory.mktemp("prepared")
  code = FEWER_TRAINING_IMAGES + SAVE
  first = read("tfds:mnist", "test", folder, out, code=code, data_dir=SHARED / "mnist")
  return folder, first[0]


@real_data
def test_preparation_from_the_original_files_gives_the_arrays_of_the_idx_files(mnist):
  assert_equals_idx(mnist[1], "mnist", "test")


@real_data
def test_prepared_mnist_is_read_without_tensorflow_bit_for_bit(mnist, tmp_path):
  assert_equals_idx(read("tfds:mnist", "test", mnist[0], tmp_path)[0], "mnist", "test")


@real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_whole_set_is_prepared_and_read_bit_for_bit(name, tmp_path):
  folder, splits = SHARED / name, ("train", "test")
  prepared = read(f"tfds:{name}", "train,test", tmp_path, tmp_path, SAVE, data_dir=folder)
  again = read(f"tfds:{name}", "train,test", tmp_path, tmp_path)
  for part, split in zip(prepared + again, splits * 2, strict=True):
    assert_equals_idx(part, name, split)


@real_data
def test_labels_in_another_order_than_the_original_are_refused():
  test = data.load("mnist", "test", data_dir=SHARED)
  with pytest.raises(ValueError, match="not in a known order"):
    tfds_source._original_order("mnist", "test", test.images, test.labels)


@pytest.fixture(scope="module")
def tiny_sets(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tiny")
  run(PREPARE, folder=folder)
  return folder


@pytest.fixture(params=[pytest.param("array_record", marks=pytest.mark.slow), "tfrecord"])
def tiny(tiny_sets, request):
  folder = tiny_sets / request.param
  assert list(folder.rglob(f"*.{request.param}*"))
  return folder


@pytest.mark.slow
def test_a_set_without_a_test_split_gets_its_last_fifth_as_one(tiny, tmp_path):
  train, test = read("train_only", "train,test", tiny, tmp_path)
  assert train["numbers"].tolist() == [3, 256]
  np.testing.assert_array_equal(train["arr_2"], np.arange(10))
  np.testing.assert_array_equal(test["arr_2"], [10, 11])
  images = np.concatenate([train["arr_0"], test["arr_0"]])
  assert images.shape == (12, 4, 6, 3) and images.dtype == np.uint8
  levels, labels = images[:, 0, 0, 0], np.concatenate([train["arr_1"], test["arr_1"]])
  np.testing.assert_array_equal(np.sort(levels), 10 * np.arange(12))
  np.testing.assert_array_equal(labels, levels // 10 % 3)
  np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("many_shapes", "images must share one shape, 'many_shapes' has"),
    ("no_classes", "must be one of image classification"),
    ("train_onyl", "did you mean 'train_only'"),
  ],
)
def test_sets_that_cannot_be_used_are_refused(tiny, monkeypatch, name, message):
  monkeypatch.setenv(tfds_source.DATA_DIR_ENV, str(tiny))
  with pytest.raises(ValueError, match=message):
    data.load(name, "train")


@pytest.mark.parametrize(
  ("name", "near"), [("mnits", "mnist"), ("cifr10", "cifar10"), ("tfds:cifar1", "cifar10")]
)
def test_an_unknown_name_gets_the_nearest_ones(name, near):
  with pytest.raises(ValueError, match=f"unknown dataset '{name}'; did you mean .*'{near}'"):
    data.load(name)


def test_missing_data_names_the_places_and_the_ways(tmp_path):
  empty = tmp_path / "empty"
  empty.mkdir()
  done = run(WITHOUT_TENSORFLOW + SAVE, "mnist", "test", "x", empty, folder=tmp_path, check=False)
  assert done.returncode == 1
  for words in (
    "FileNotFoundError: no data for 'mnist'",
    f"{empty}/mnist",
    f"not prepared by TFDS in {empty} or {tmp_path}",
    "pip install 'gencls[tfds]'",
    "GENCLS_DATA_DIR",
    "TFDS_DATA_DIR",
  ):
    assert words in done.stderr


def test_a_download_that_fails_is_missing_data_with_the_cause(tmp_path, monkeypatch):
  class Unreachable:
    data_path = tmp_path

    def is_prepared(self):
      return False

    def download_and_prepare(self, **_):
      raise ConnectionError("no route to host")

  monkeypatch.setenv(tfds_source.DATA_DIR_ENV, str(tmp_path))
  monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: Unreachable())
  with pytest.raises(FileNotFoundError, match=r"preparing it failed: no route to host[\s\S]*Ways"):
    data.load("mnist", data_dir=tmp_path)


def test_a_truncated_tfrecord_is_refused(tmp_path):
  path = tmp_path / "records"
  record = (5).to_bytes(8, "little") + b"crc1" + b"hello" + b"crc2"
  path.write_bytes(record * 2)
  assert list(read_tfrecord(path)) == [b"hello"] * 2
  for size in (len(record) + 7, 2 * len(record) - 1, 2 * len(record) - 5):
    path.write_bytes((record * 2)[:size])
    with pytest.raises(ValueError, match="truncated"):
      list(read_tfrecord(path))
