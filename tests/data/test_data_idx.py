import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from gencls import data
from gencls.data import idx

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
real_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data: no folder {SHARED}")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 28, 28), np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def idx_bytes(array, code=0x08):
  header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
  return header + array.tobytes()


def write(path, content):
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_set(folder, images=IMAGES, labels=LABELS, dash="-", end=".gz", part="t10k"):
  folder.mkdir(exist_ok=True)
  write(folder / f"{part}-images{dash}idx3-ubyte{end}", idx_bytes(images))
  write(folder / f"{part}-labels{dash}idx1-ubyte{end}", idx_bytes(labels))
  return folder


@pytest.fixture(autouse=True)
def no_configured_folder(monkeypatch):
  monkeypatch.delenv(idx.ENV, raising=False)


@pytest.mark.parametrize("dash", ["-", "."])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_written_files_are_read_back(tmp_path, dash, end):
  write_set(tmp_path, dash=dash, end=end)
  loaded = data.load("mnist", data_dir=tmp_path)
  np.testing.assert_array_equal(loaded.images[..., 0], IMAGES)
  np.testing.assert_array_equal(loaded.labels, LABELS)
  np.testing.assert_array_equal(loaded.indices, np.arange(20))
  assert loaded.source == f"idx {tmp_path}"


def test_the_last_training_examples_are_the_validation_split(tmp_path):
  write_set(tmp_path, part="train")
  train = data.load("mnist", "train", data_dir=tmp_path, validation_size=6)
  held_out = data.load("mnist", "validation", data_dir=tmp_path, validation_size=6)
  np.testing.assert_array_equal(train.indices, np.arange(14))
  np.testing.assert_array_equal(held_out.indices, np.arange(14, 20))
  np.testing.assert_array_equal(held_out.images[..., 0], IMAGES[14:])
  with pytest.raises(ValueError, match=r"0 .. 19 \(20 training examples\), got 5000"):
    data.load("mnist", "train", data_dir=tmp_path)


def test_subfolder_counts_before_the_folder_and_argument_before_environment(tmp_path, monkeypatch):
  outer = write_set(tmp_path / "outer", labels=LABELS[::-1])
  other = write_set(tmp_path / "other")
  monkeypatch.setenv(idx.ENV, str(other))
  assert data.load("mnist").source == f"idx {other}"
  assert data.load("mnist", data_dir=outer).source == f"idx {outer}"
  inner = write_set(outer / "mnist")
  assert data.load("mnist", data_dir=outer).source == f"idx {inner}"


def test_a_configured_folder_must_exist(tmp_path, monkeypatch):
  with pytest.raises(FileNotFoundError, match=r"data_dir must name an existing folder.*nowhere"):
    data.load("mnist", data_dir=tmp_path / "nowhere")
  monkeypatch.setenv(idx.ENV, str(tmp_path / "gone"))
  with pytest.raises(FileNotFoundError, match=r"GENCLS_DATA_DIR must name.*gone"):
    data.load("mnist")


def test_a_missing_file_is_named(tmp_path):
  write_set(tmp_path)
  with pytest.raises(FileNotFoundError, match="train images: one of train-images-idx3-ubyte"):
    data.load("mnist", "train", data_dir=tmp_path)


LABEL_BYTES = idx_bytes(LABELS)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (LABEL_BYTES[:-1], "truncated.*20 values, 19 follow"),
    (LABEL_BYTES + b"x", "too long.*20 values, 21 follow"),
    (LABEL_BYTES[:6], "header of 8 bytes"),
    (b"", "not an IDX file.*missing"),
    (b"<html>not found", "not an IDX file"),
    (idx_bytes(IMAGES), "must have 1 axes.*2049.*got 3 axes .magic number 2051"),
    (idx_bytes(LABELS.astype(">f4"), 0x0D), "must hold uint8, .* holds float32"),
    (idx_bytes(LABELS[:19]), "20 images and labels of shape"),
    (idx_bytes(LABELS + 1), "labels must lie in 0 .. 9, got 1 .. 10"),
  ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_damaged_label_files_are_refused(tmp_path, content, message, end):
  write_set(tmp_path, end=end)
  write(tmp_path / f"t10k-labels-idx1-ubyte{end}", content)
  with pytest.raises(ValueError, match=message) as error:
    data.load("mnist", data_dir=tmp_path)
  assert str(tmp_path) in str(error.value)


def test_images_of_another_size_are_refused(tmp_path):
  write_set(tmp_path, images=IMAGES[:, :27])
  with pytest.raises(ValueError, match=r"shape \(28, 28, 1\), got \(27, 28, 1\)"):
    data.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "scrambled", "no gzip"])
def test_a_corrupt_gzip_is_refused(tmp_path, damage):
  path = write_set(tmp_path) / "t10k-images-idx3-ubyte.gz"
  packed = path.read_bytes()
  flipped = packed[:5000] + bytes([packed[5000] ^ 0xFF]) + packed[5001:]
  scrambled = packed[:10] + b"\xff" * 100 + packed[110:]
  damaged = {"cut": packed[:5000], "flipped": flipped, "scrambled": scrambled, "no gzip": b"hello"}
  path.write_bytes(damaged[damage])
  with pytest.raises(ValueError, match="corrupt gzip"):
    data.load("mnist", data_dir=tmp_path)


# sha256 of the original files' contents after the header.
ORIGINAL = {
  ("mnist", "train"): "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
  ("mnist", "test"): "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
  ("fashion_mnist", "train"): "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
  ("fashion_mnist", "test"): "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}


@real_data
@pytest.mark.parametrize(("name", "split"), ORIGINAL)
def test_the_original_files_are_read_bit_for_bit(name, split):
  whole = data.load(name, split, data_dir=SHARED, validation_size=0)
  content = struct.pack(">4I", 2051, len(whole.images), 28, 28) + whole.images.tobytes()
  assert hashlib.sha256(content).hexdigest() == ORIGINAL[name, split]
  assert len(whole.images) == {"train": 60_000, "test": 10_000}[split]
  first = {"mnist": {"train": [5, 0, 4], "test": [7, 2, 1]}}
  first["fashion_mnist"] = {"train": [9, 0, 0], "test": [9, 2, 1]}
  assert whole.labels[:3].tolist() == first[name][split]


@real_data
def test_a_checkout_finds_the_sibling_folder_when_nothing_is_configured():
  own = ROOT / "data" / "mnist"
  expected = own if own.exists() else SHARED / "mnist"
  held_out = data.load("mnist", "validation")
  assert held_out.source == f"idx {expected}"
  np.testing.assert_array_equal(held_out.indices, np.arange(55_000, 60_000))


@real_data
def test_mnist_is_not_taken_for_fashion_mnist():
  with pytest.raises(
    ValueError, match="must hold fashion_mnist, but its labels are those of mnist"
  ):
    data.load("fashion_mnist", data_dir=SHARED / "mnist")
