"""The margin over a plane, against a linear model where it is in closed form; and its picture."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from PIL import Image
from toy_evaluation import (
  IDENTITY,
  full_summary,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from gencls.evaluate import evaluate
from gencls.evaluation.probes import Probes
from gencls.evaluation.surface_cell import Surface, margins, orthogonal
from gencls.report import figures, html, pages
from gencls.report.reading import Entry
from gencls.summary.summarise import summarise

W = np.random.default_rng(0).normal(size=16).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 5)
LABELS = jnp.zeros(5, jnp.int32)
EPS, POINTS = 0.1, 5


@jax.tree_util.Partial
def linear(keys, x):
  return jnp.stack([0 * x[:, 0, 0, 0], x.reshape(len(x), -1) @ W], axis=1)


def images(value=0.5):
  near = np.random.default_rng(1).uniform(-0.3, 0.3, (5, 4, 4, 1))
  return jnp.asarray(value + near, jnp.float32)


def test_a_linear_model_has_a_tilted_plane():
  """margin(x + α t + β r) = w·x + α ‖w‖₁ + β w·r, t the signs of w and r orthogonal to t."""
  found = np.asarray(margins(linear, KEYS, images(), LABELS, jnp.float32(EPS), POINTS))
  steps, middle = np.linspace(-EPS, EPS, POINTS), POINTS // 2
  at_x = np.asarray(images()).reshape(5, -1) @ W
  along = at_x[:, None] + steps * np.abs(W).sum()
  np.testing.assert_allclose(found[:, :, middle], along, rtol=1e-4, atol=1e-4)
  slope = np.diff(found, axis=2)
  np.testing.assert_allclose(slope, np.broadcast_to(slope[:, :1, :1], slope.shape), atol=1e-4)
  assert np.all(np.abs(slope) < np.diff(along, axis=1)[:, 0].min())  # t is the steepest
  assert len(np.unique(np.round(slope[:, 0, 0], 4))) == 5  # every image has its own r


def test_the_second_direction_is_random_and_orthogonal():
  toward = jnp.sign(jnp.asarray(np.random.default_rng(2).normal(size=(5, 4, 4, 3)), jnp.float32))
  across = np.asarray(orthogonal(KEYS, toward))
  np.testing.assert_allclose(np.sum(across * toward, axis=(1, 2, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(np.abs(across).max(axis=(1, 2, 3)), 1, rtol=1e-6)
  flat = np.asarray(orthogonal(KEYS, jnp.zeros_like(toward)))
  assert set(np.unique(flat)) == {-1.0, 1.0}


def test_the_plane_stays_in_the_box():
  found = np.asarray(
    margins(linear, KEYS, jnp.float32(jnp.asarray(W > 0)).reshape(1, 4, 4, 1).repeat(5, 0),
            LABELS, jnp.float32(EPS), POINTS)
  )  # fmt: skip
  middle = POINTS // 2
  np.testing.assert_allclose(found[:, middle:, middle], W[W > 0].sum(), rtol=1e-5)
  assert np.all(found[:, 0, middle] < W[W > 0].sum() - 0.1)


def test_a_model_without_gradient_is_flat_along_it():
  flat = Partial(lambda keys, x: jnp.round(linear(keys, x)))
  found = np.asarray(margins(flat, KEYS, images(), LABELS, jnp.float32(EPS), POINTS))
  np.testing.assert_array_equal(found, found[:, :1, :].repeat(POINTS, axis=1))


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"num_images": 0}, "num_images must be >= 1"),
    ({"eps": 0.0}, "eps must be a finite number > 0"),
    ({"points": 4}, "odd and >= 3.* got 4"),
  ],
)
def test_bad_settings_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    looked_at(tmp_path, Surface()._replace(**change))
  assert not list(tmp_path.glob("*.npz"))


def looked_at(folder, surface, subject=None):
  return evaluate(
    subject or toy_subject(),
    toy_images(12),
    protocol(clean=("accuracy",)),
    specs((0.1,))[:1],
    folder=folder,
    identity=IDENTITY,
    record=record(),
    progress=False,
    probes=Probes(surface=surface),
  )


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
  return looked_at(tmp_path_factory.mktemp("cells"), Surface(3, 0.2, 5))


def test_the_first_images_are_looked_at(cells):
  cell = next(c for c in cells if c.header["label"] == "surface")
  assert cell.arrays["margin"].shape == (3, 5, 5)
  assert cell.header["num_images"] == 3
  middle = -cells[1].arrays["select_margin"][:3]
  np.testing.assert_allclose(cell.arrays["margin"][:, 2, 2], middle, rtol=1e-4, atol=1e-3)


RISES = "the loss surface rises along the gradient"


def _check(cells):
  return next(c for c in summarise(cells)["checks"] if c["name"] == RISES)


def test_a_surface_that_is_flat_fails_its_check(cells, tmp_path):
  assert _check(cells)["status"] == "pass"
  assert _check([c for c in cells if c.header["label"] != "surface"])["status"] == "not run"
  plain = toy_subject()

  def rounded(params, keys, x):
    return plain.classifier.logits(params, keys, jnp.round(4 * x) / 4)

  fn = Partial(rounded, plain.params)
  flat = looked_at(tmp_path, Surface(3, 0.2, 5), plain._replace(attack_logits_fn=fn))
  assert _check(flat)["status"] == "fail"


def test_a_plane_is_in_memory_for_few_images_at_once(tmp_path):
  """The whole plane of an image is one call, so that images come one by one where it is large."""
  rows, plain = [], toy_subject()

  def counted(params, keys, x):
    rows.append(len(x))  # while tracing
    return plain.classifier.logits(params, keys, x)

  fn = Partial(counted, plain.params)
  looked_at(tmp_path, Surface(3, 0.2, 5), plain._replace(logits_fn=fn, attack_logits_fn=fn))
  assert max(rows) == 5 * 5


def test_the_picture_is_in_the_folder_and_in_the_page(cells, tmp_path):
  summary = full_summary(summarise(cells), protocol())
  x = np.zeros((0, 4, 4, 1), np.float32)
  paths = pages.write(summary, cells, x, results=tmp_path, figure_folder=tmp_path / "figures")
  assert tmp_path / "figures" / "toy_surface.png" in paths
  axes = pages.surface_figure(summary, cells).axes
  assert [a.get_title() for a in axes[:3]] == [
    f"image {i}, class {y}" for i, y in enumerate(toy_images(12).labels[:3])
  ]
  picture = axes[0].images[0].get_array()
  margin = next(c for c in cells if c.header["label"] == "surface").arrays["margin"]
  np.testing.assert_array_equal(np.asarray(picture), margin[0].T)  # columns along the gradient
  (shown,) = html.surfaces([Entry("TOY", tmp_path, "toy", summary, [], cells, [])])
  assert shown["src"].startswith("data:image/png;base64,")
  assert html.surfaces([Entry("TOY", tmp_path, "toy", summary, [], cells[:3], [])]) == []


def test_infinite_margins_are_left_white():
  values = np.full((1, 3, 3), np.nan)
  figure = figures.surfaces(values, ["a"], 0.1, "t", "n")
  assert Image.open(io.BytesIO(figures.png(figure, 50))).size[0] > 10
