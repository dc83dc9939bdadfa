"""BG-MNIST: its construction against SciPy, what blurring keeps, and where it is read from."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_data_idx import write_set

from gencls import data
from gencls.data import bg_mnist, cifar10_jpeg, idx, tfds_source
from gencls.data.dataset import checked

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
DIGITS = RNG.integers(0, 256, (20, 28, 28, 1)).astype(np.uint8)
LABELS = np.arange(20) % 10


def grey_and_small(photos):
  """[N, 28, 28] float: every pixel as 7 × 7 small ones, of which 8 × 8 are one new pixel."""
  grey = photos @ np.array([0.299, 0.587, 0.114])
  fine = np.kron(grey, np.ones((1, 7, 7)))
  return fine.reshape(-1, 28, 8, 28, 8).mean((2, 4))


@pytest.mark.parametrize("bandwidth", [0, 1, 5])
def test_backgrounds_are_those_of_scipy(bandwidth):
  expected = grey_and_small(PHOTOS)
  if bandwidth:
    expected = ndimage.gaussian_filter(expected, (0, bandwidth, bandwidth), mode="reflect")
  found = bg_mnist.backgrounds(PHOTOS, bandwidth)
  assert found.shape == (12, 28, 28, 1) and found.dtype == np.uint8
  # Half a level of rounding, and the blur's weights in multiples of 2^-14.
  assert np.max(np.abs(found[..., 0] - expected)) < 0.75


def test_blurring_keeps_the_mean_brightness_and_takes_the_detail():
  found = [bg_mnist.backgrounds(PHOTOS, b).astype(np.float64) for b in (0, 1, 5)]
  means = [each.mean((1, 2, 3)) for each in found]
  np.testing.assert_allclose(means[1], means[0], atol=0.1)  # only the rounding differs
  np.testing.assert_allclose(means[2], means[0], atol=0.1)
  spread = [each.std((1, 2, 3)) for each in found]
  assert np.all(spread[0] > 2 * spread[1]) and np.all(spread[1] > 2 * spread[2])


@pytest.mark.parametrize("bandwidth", [0, 1, 5, 6])
def test_blur_weights_are_whole_numbers_that_add_up_alike(bandwidth):
  weights = bg_mnist.blur_weights(bandwidth)
  assert np.array_equal(weights, np.round(weights)) and np.array_equal(weights, weights.T)
  assert np.all(weights >= 0) and np.all(weights.sum(1) == 2**14)


def test_a_digit_covers_its_background():
  behind = bg_mnist.backgrounds(PHOTOS[:1], 0)
  black, white = (np.full((1, 28, 28, 1), level, np.uint8) for level in (0, 255))
  np.testing.assert_array_equal(bg_mnist.over(black, behind), behind)
  np.testing.assert_array_equal(bg_mnist.over(white, behind), white)
  found = bg_mnist.over(DIGITS, np.broadcast_to(behind, DIGITS.shape))
  d, b = DIGITS / 255, behind / 255
  np.testing.assert_allclose(found / 255, d + (1 - d) * b, atol=0.5 / 255 + 1e-12)


def raw(images, labels, classes=10):
  return checked("made", images, labels, image_shape=None, num_classes=classes)


def test_the_images_are_the_same_on_every_machine():
  """Of sources without randomness, so that only the construction is pinned."""
  ramp = np.arange(6 * 32 * 32 * 3).reshape(6, 32, 32, 3)
  photos, digits = ramp * 7919 % 256, np.arange(9 * 28 * 28).reshape(9, 28, 28, 1) * 613 % 256
  sources = raw(digits.astype(np.uint8), np.arange(9)), raw(photos.astype(np.uint8), np.arange(6))
  found = [zlib.crc32(bg_mnist.read("test", b, *sources).images.tobytes()) for b in (0, 1, 5)]
  assert found == CRC


CRC = [314545184, 4070619263, 1673593032]


def test_every_bandwidth_has_the_same_photographs_and_the_parts_have_others():
  train, test = (bg_mnist.choice(part, 1000, 50_000) for part in ("train", "test"))
  assert not np.array_equal(train, test)
  np.testing.assert_array_equal(bg_mnist.choice("train", 10, 50_000), train[:10])
  counts = np.bincount(bg_mnist.choice("train", 60_000, 100), minlength=100)
  assert np.sum((counts - 600) ** 2 / 600) < 160  # chi-square with 99 degrees: p = 1e-4
  sources = raw(DIGITS, LABELS), raw(PHOTOS, np.zeros(12, int))
  sharp = bg_mnist.read("test", 0, *sources)
  behind = bg_mnist.backgrounds(PHOTOS, 0)[bg_mnist.choice("test", 20, 12)]
  np.testing.assert_array_equal(sharp.images, bg_mnist.over(DIGITS, behind))
  np.testing.assert_array_equal(sharp.labels, LABELS)


def test_no_photograph_is_behind_training_and_validation_digits():
  which = bg_mnist.choice("train", 600, 500, 50)
  assert len(which) == 600 and not set(which[:550]) & set(which[550:])
  np.testing.assert_array_equal(which[:550], bg_mnist.choice("train", 550, 500))
  left = np.setdiff1d(np.arange(3), bg_mnist.choice("train", 2, 3))
  many = bg_mnist.choice("train", 40_002, 3, 40_000)[2:]
  assert set(many) == set(left) and abs(np.mean(many == left[0]) - 1 / len(left)) < 0.01
  with pytest.raises(
    ValueError, match="got 3 photographs, all of which are behind the 90 training"
  ):
    bg_mnist.choice("train", 95, 3, 5)


def test_other_sizes_and_bandwidths_are_refused():
  with pytest.raises(ValueError, match=r"shape \(32, 32, 3\), got uint8 of \(28, 28, 1\)"):
    bg_mnist.backgrounds(DIGITS, 0)
  with pytest.raises(ValueError, match="bandwidth must be >= 0 and < 7"):
    bg_mnist.blur_weights(7)


def write_jpegs(folder, part="test", images=PHOTOS):
  folder.mkdir(exist_ok=True)
  files = []
  for image in images:
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="jpeg", quality=95)
    files.append(np.frombuffer(content.getvalue(), np.uint8))
  offsets = np.cumsum([0, *map(len, files)])
  arrays = {"jpeg": np.concatenate(files), "offsets": offsets}
  np.savez(folder / f"{part}.npz", **arrays, labels=np.arange(len(images)).astype(np.uint8) % 10)
  return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.delenv(idx.ENV, raising=False)
  write_set(tmp_path / "mnist")
  return tmp_path


def test_a_data_set_like_the_others(folder):
  write_jpegs(folder / "cifar10_jpeg")
  found = data.load("bg_mnist_1", data_dir=folder)
  again = data.load("bg_mnist_1", data_dir=folder)
  digits = data.load("mnist", data_dir=folder)
  np.testing.assert_array_equal(found.images, again.images)
  np.testing.assert_array_equal(found.labels, digits.labels)
  np.testing.assert_array_equal(found.indices, digits.indices)
  assert np.all(found.images.astype(int) >= digits.images)
  assert (found.name, found.num_classes, found.num_levels) == ("bg_mnist_1", 10, 256)
  assert "JPEG" in found.source and "lossy" in found.source and "mnist" in found.source
  assert str(folder / "mnist") in (data.on_disk("bg_mnist_1", folder) or "")
  described = data.describe_split("bg_mnist_1")
  assert described["validation_size"] == 5000 and "5000" in described["train"]


def test_validation_digits_have_backgrounds_of_their_own(folder):
  write_set(folder / "mnist", part="train", images=np.zeros((20, 28, 28), np.uint8))
  write_jpegs(folder / "cifar10_jpeg", "train")

  def images(split, size):
    found = data.load("bg_mnist_0", split, data_dir=folder, validation_size=size)
    return [image.tobytes() for image in found.images]

  train, held_out, whole = images("train", 12), images("validation", 12), images("train", 0)
  assert len(held_out) == 12 and not set(train) & set(held_out)
  assert train == whole[:8]  # whatever is held out
  with pytest.raises(ValueError, match=r"validation_size must be in 0 \.\. 19"):
    images("train", 20)


def test_photographs_are_decoded_in_order(folder):
  write_jpegs(folder / "cifar10_jpeg")
  found = data.load("cifar10_jpeg", data_dir=folder)
  error = np.abs(found.images.astype(int) - PHOTOS).mean((1, 2, 3))
  others = np.abs(found.images.astype(int) - PHOTOS[::-1]).mean((1, 2, 3))
  assert np.all(error < 0.8 * others)
  assert found.labels.tolist() == [i % 10 for i in range(12)]


def test_a_folder_with_other_files_of_these_names_is_passed_over(tmp_path):
  other, own = tmp_path / "other", write_jpegs(tmp_path / "own")
  other.mkdir()
  for part in ("train", "test"):
    np.savez(other / f"{part}.npz", x=np.zeros(3))
    assert cifar10_jpeg.find_folder([other, own]) == own
    assert cifar10_jpeg.find_folder([other]) is None
  (other / "test.npz").write_bytes(b"no zip")
  assert cifar10_jpeg.find_folder([other, own]) == own
  (other / "train.npz").write_bytes(b"no zip")  # nothing says that they are something else
  assert cifar10_jpeg.find_folder([other, own]) == other


def test_missing_photographs_name_the_places(folder, monkeypatch):
  def absent(*_):
    raise FileNotFoundError("cifar10 is not prepared by TFDS")

  monkeypatch.setattr(tfds_source, "read_tfds", absent)
  monkeypatch.setattr(tfds_source, "known_names", lambda _: ["cifar10"])
  with pytest.raises(FileNotFoundError) as error:
    data.load("bg_mnist_0", data_dir=folder)
  for words in ("backgrounds from CIFAR-10", str(folder / "cifar10_jpeg"), "prepared by TFDS"):
    assert words in str(error.value)
  with pytest.raises(FileNotFoundError, match=r"train.npz and test.npz were looked for"):
    data.load("cifar10_jpeg", data_dir=folder)


def test_photographs_by_tfds_where_there_are_no_files(folder, monkeypatch):
  photos = raw(PHOTOS, np.zeros(12, int))._replace(source="tfds somewhere")
  monkeypatch.setattr(tfds_source, "read_tfds", lambda name, *_: photos)
  monkeypatch.setattr(tfds_source, "known_names", lambda _: ["cifar10"])
  monkeypatch.setattr(tfds_source, "prepared_folder", lambda *_: None)
  found = data.load("bg_mnist_0", data_dir=folder)
  assert "tfds somewhere" in found.source and "lossy" not in found.source


@pytest.mark.parametrize(
  ("spoil", "message"),
  [
    (lambda f: f.write_bytes(b"no zip"), "no packed CIFAR-10"),
    (lambda f: np.savez(f, jpeg=np.zeros(4, np.uint8)), "no packed CIFAR-10"),
    (
      lambda f: np.savez(f, jpeg=np.zeros(4, np.uint8), offsets=[0, 4], labels=[0, 1]),
      "offsets do not fit",
    ),
    (lambda f: np.savez(f, jpeg=np.zeros(4, np.uint8), offsets=[0, 9], labels=[0]), "offsets"),
    (
      lambda f: np.savez(f, jpeg=np.zeros(4, np.uint8), offsets=[0, 4], labels=[0]),
      "image 0 of .* is damaged",
    ),
  ],
)
def test_damaged_files_are_refused(folder, spoil, message):
  path = write_jpegs(folder / "cifar10_jpeg") / "test.npz"
  spoil(path)
  with pytest.raises(ValueError, match=message):
    cifar10_jpeg.load_jpeg("test", path.parent)
  with pytest.raises(FileNotFoundError, match=r"train\.npz is not there"):
    cifar10_jpeg.load_jpeg("train", path.parent)


@pytest.mark.slow
@pytest.mark.skipif(data.on_disk("mnist") is None, reason="no MNIST here")
def test_the_real_sets():
  if data.on_disk("cifar10_jpeg") is None:
    pytest.skip("no CIFAR-10 (JPEG) here")
  digits = data.load("mnist")
  sets = [data.load(bg_mnist.name(b)) for b in bg_mnist.BANDWIDTHS]
  black = digits.images == 0
  behind = [each.images[black].astype(np.float64) for each in sets]
  # Photographs are about half as bright as white, and blurring keeps that.
  assert all(100 < each.mean() < 140 for each in behind)
  assert abs(behind[0].mean() - behind[1].mean()) < 0.5
  detail = [np.abs(np.diff(each.images.astype(int), axis=2)).mean() for each in sets]
  assert detail[0] > detail[1] > detail[2] > 0
  for each in sets:
    np.testing.assert_array_equal(each.labels, digits.labels)
