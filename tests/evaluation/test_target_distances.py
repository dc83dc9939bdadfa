"""Targeted attacks of minimum norm: distances to the target class, and where walks start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import full_summary, protocol, run, toy_images, toy_subject
from toy_minimum import LINE, by_hand, cells_of, clean, predicted

from gencls.evaluation import minimum_norm
from gencls.evaluation.attack_grades import grade_results
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.batch_loop import Work, batches
from gencls.evaluation.clean import Subject
from gencls.evaluation.grading import perturbation_norm
from gencls.evaluation.model_options import Pool, start_images, walking_options
from gencls.evaluation.results import Cell
from gencls.keys import example_keys
from gencls.report import table
from gencls.summary.summarise import summarise

PROTOCOL = protocol(clean=())
pytestmark = pytest.mark.usefixtures("registered_line")


@pytest.fixture(scope="module")
def nearest(tmp_path_factory):
  """Towards grey, whose class is the only one that can be reached."""
  target = int(predicted(np.full((1, 4, 4, 1), 0.5, np.float32))[0])
  spec = LINE._replace(target=target)
  return target, run(
    tmp_path_factory.mktemp("b"), None, PROTOCOL, [LINE._replace(label="any"), spec]
  )


def test_distances_are_those_of_the_target_class(nearest):
  target, cells = nearest
  x, labels = clean()
  asked = labels != target
  best, found = by_hand(x, lambda at: predicted(at) == target)
  best[~asked], found[~asked] = x[~asked], False
  size = perturbation_norm(best, x, "linf")
  cell = cells_of(cells, "line")[None]
  np.testing.assert_array_equal(cell.arrays["select_in_target"] >= 0.5, found)
  np.testing.assert_allclose(cell.arrays["norm"], size, atol=1e-3)
  sizes = minimum_norm.distances(cell)
  np.testing.assert_array_equal(np.isfinite(sizes), found)
  anywhere = minimum_norm.distances(cells_of(cells, "any")[None])
  assert np.any(np.isfinite(sizes) & (anywhere < sizes))  # another wrong class was nearer
  row = next(row for row in summarise(cells)["minimum"] if row["label"] == "line")
  assert row["found"]["mean"] == pytest.approx(found[asked].mean())
  assert row["found"]["n"] == asked.sum() == row["targeted"]["num_images"]
  assert row["median_norm"] == pytest.approx(np.median(size[found]), abs=1e-3)
  assert row["median_norm_all"] == pytest.approx(np.median(sizes[asked]), abs=1e-6)
  assert row["disagree"] == 0
  for eps in LINE.eps:
    own = next(r for r in summarise(cells)["rows"] if (r["label"], r["eps"]) == ("line", eps))
    reached = found & (sizes <= eps + 1e-6)
    assert own["targeted"]["success_rate"]["mean"] == pytest.approx(reached[asked].mean())
    wrong = reached | (predicted(x) != labels)
    assert own["accuracy"]["mean"] == pytest.approx(1 - wrong.mean())


def test_a_wrong_class_is_no_success_and_a_missing_target_no_failure():
  arrays = {
    "norm": np.array([0.1, 0.2, 0.4, 0.0], np.float32),
    "relative_l2_norm": np.array([0.1, 0.2, 0.4, 0.0], np.float32),
    "select_correct": np.array([0.0, 0.0, 0.4, 1.0], np.float32),
    "select_in_target": np.array([0.4, 0.6, 0.5, 0.0], np.float32),
    "target": np.array([1, 1, 2, -1]),
  }
  cell = Cell({"norm": "linf"}, arrays)
  np.testing.assert_allclose(minimum_norm.distances(cell), [np.inf, 0.2, 0.4, np.inf])
  found = minimum_norm.statistics(cell)
  assert found["median_norm_all"] == pytest.approx(0.4)  # of 0.2, 0.4 and ∞
  assert found["mean_relative_norm_of_successes"] == pytest.approx(0.3)


def test_clipped_as_published(nearest, tmp_path):
  target, _ = nearest
  cells = run(tmp_path, None, PROTOCOL, [LINE._replace(target=target, grade_as="clip")])
  x, labels = clean()
  best, found = by_hand(x, lambda at: predicted(at) == target)
  best = np.where((found & (labels != target))[:, None, None, None], best, x)
  for row in [row for row in summarise(cells)["rows"] if row["label"] == "line"]:
    clipped = np.clip(best, x - row["eps"], x + row["eps"]).astype(np.float32)
    share = np.mean(predicted(clipped)[labels != target] == target)
    assert row["targeted"]["success_rate"]["mean"] == pytest.approx(share)


def ramp(scale, keys, x):
  """Class 0 below 0.5, class 1 to 0.75, class 2 beyond."""
  del keys
  value = scale * jnp.mean(x, axis=(1, 2, 3))
  return jnp.stack([0.0 * value, value - 0.5, 2.0 * value - 1.25], axis=1)


def test_a_result_is_lengthened_until_it_is_in_the_target():
  fn = jax.tree_util.Partial(ramp, jnp.float32(1))
  subject = Subject(toy_subject().classifier, (), fn, fn, 0)
  dataset = toy_images(4)._replace(labels=np.zeros(4, np.int32))
  (batch,) = batches(dataset, 4)
  batch = batch._replace(x=np.zeros_like(batch.x))
  work = Work(subject, dataset, PROTOCOL, bar=None)  # pyright: ignore[reportArgumentType]
  sent = np.reshape(np.array([0.7, 0.749, 0.76, 0.7], np.float32), (4, 1, 1, 1))
  x_adv = np.broadcast_to(sent, batch.x.shape).copy()
  aim = np.array([2, 2, 2, 1], np.int32)
  arrays = grade_results(work, LINE, None, x_adv, batch, aim)
  # 0.7 and 0.749 are wrong already; 1.1 · 0.7 and 1.02 · 0.749 are the first beyond 0.75.
  np.testing.assert_allclose(arrays["norm"], [0.77, 0.749 * 1.02, 0.76, 0.7], rtol=1e-5)
  np.testing.assert_array_equal(arrays["in_target"], 1)
  plain = grade_results(work, LINE, None, x_adv, batch)
  np.testing.assert_allclose(plain["norm"], [0.7, 0.749, 0.76, 0.7], rtol=1e-5)
  assert "target" not in plain


def test_against_a_detector_it_is_lengthened_until_it_is_accepted_too():
  fn = jax.tree_util.Partial(ramp, jnp.float32(1))
  bright = jax.tree_util.Partial(lambda keys, x, logits: jnp.mean(x, axis=(1, 2, 3)) - 0.8)
  subject = Subject(toy_subject().classifier, (), fn, fn, 0)
  dataset = toy_images(4)._replace(labels=np.zeros(4, np.int32))
  (batch,) = batches(dataset, 4)
  batch = batch._replace(x=np.zeros_like(batch.x))
  work = Work(subject, dataset, PROTOCOL, bar=None, accept=bright)  # pyright: ignore[reportArgumentType]
  sent = np.reshape(np.array([0.7, 0.76, 0.82, 0.7], np.float32), (4, 1, 1, 1))
  x_adv = np.broadcast_to(sent, batch.x.shape).copy()
  aim, seeing = np.array([2, 2, 2, 1], np.int32), LINE._replace(against="detector")
  arrays = grade_results(work, seeing, None, x_adv, batch, aim)
  # 1.2 · 0.7 and 1.1 · 0.76 are the first beyond 0.8; no image of class 1 is.
  np.testing.assert_allclose(arrays["norm"], [0.84, 0.836, 0.82, 0.7], rtol=1e-5)
  np.testing.assert_array_equal(arrays["in_target"], [1, 1, 1, 0])
  np.testing.assert_array_equal(arrays["select_in_target"], [1, 1, 1, 0])
  within = grade_results(work, seeing, 1.0, x_adv, batch, aim)
  np.testing.assert_array_equal(within["in_target"], [0, 0, 1, 0])
  blind = grade_results(work, LINE, 1.0, x_adv, batch, aim)
  np.testing.assert_array_equal(blind["in_target"], [0, 1, 1, 1])


@pytest.mark.slow
def test_attacks_that_walk_start_in_the_target_class(tmp_path):
  walk = {"num_steps": 5, "directions": 2, "blend_steps": 5}
  spec = AttackSpec("walk", "boundary", "l2", (1.0,), "margin", 1, walk, target="next")
  cell = cells_of(run(tmp_path, None, PROTOCOL, [spec]), "walk")[None]
  assert np.all(cell.arrays["select_in_target"] == 1)
  # Batches with fewer and fewer images that have a target; their starts stay beside them.
  cell = cells_of(run(tmp_path, None, PROTOCOL, [spec._replace(target=1)]), "walk")[None]
  np.testing.assert_array_equal(cell.arrays["select_in_target"] == 1, clean()[1] != 1)


def _undecided():
  fn = jax.tree_util.Partial(lambda keys, x: jnp.zeros((len(x), 3)))
  return toy_subject()._replace(attack_logits_fn=fn)


def test_starts_are_of_the_target_class_or_the_image_itself():
  assert walking_options("boundary", {})["start"] == "nearest_wrong"
  assert walking_options("boundary", {"start": None})["start"] is None
  assert walking_options("pgd", {}) == {}
  images = np.reshape(np.linspace(0, 1, 4), (4, 1, 1, 1)) * np.ones((4, 4, 4, 1))
  pool = Pool(jnp.asarray(images, jnp.float32), jnp.asarray([0, 1, 1, 0]))
  x, y = jnp.full((3, 4, 4, 1), 0.9), jnp.asarray([1, 0, 0])
  found = start_images(
    _undecided(), {"start": "nearest_wrong"}, example_keys(0, np.arange(3)), x, y, pool,
    jnp.asarray([0, 1, 2]),
  )  # fmt: skip
  np.testing.assert_allclose(np.asarray(found)[:, 0, 0, 0], [1.0, 2 / 3, 0.9], rtol=1e-6)


def test_the_table_shows_distances_to_the_target(nearest):
  target, cells = nearest
  found = table.markdown(full_summary(summarise(cells), PROTOCOL))
  assert "minimum norm, into the target class" in found
  assert f"class {target}" in found
