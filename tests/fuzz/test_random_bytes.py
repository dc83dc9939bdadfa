"""Random damage to every kind of file: what is read is what was written, or the documented error.

Text without a checksum cannot tell one digit from another: of config.json, plans and metrics is
asked that they are read, or refused by name, and nothing else.
"""

import contextlib
import os

import bad_data
import bad_results
import jax
import numpy as np
import pytest
from finished import NAME
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gencls import locks, owners, runs
from gencls.evaluation import stored
from gencls.evaluation.results import read_result
from gencls.logs import read_metrics
from gencls.workdir import read_config

# The same damage at every run; every example puts back what it has damaged.
QUICK = settings(
  max_examples=60,
  deadline=None,
  derandomize=True,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def damages(draw):
  """A function from bytes to other bytes: flips, a cut, an insertion, or anything at all."""
  kind = draw(st.sampled_from(["flip", "flip", "cut", "insert", "drop", "other"]))
  place, junk = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=9))
  bit = draw(st.integers(0, 7))

  def damage(content):
    at = int(place * len(content))
    if kind == "flip" and content:
      return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
    if kind == "cut":
      return content[:at]
    if kind == "insert":
      return content[:at] + junk + content[at:]
    if kind == "drop":
      return content[:at] + content[at + len(junk) :]
    return junk

  return damage


def same(a, b):
  return a.header == b.header and all(
    np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays.keys() | b.arrays.keys()
  )


@contextlib.contextmanager
def damaged(path, damage):
  """Inside, the file is damaged: an error has to name it. Afterwards it is whole again."""
  content = path.read_bytes()
  path.write_bytes(damage(content))
  try:
    yield
  except ValueError as error:
    assert str(path) in str(error)
  finally:
    path.write_bytes(content)


@QUICK
@given(damage=damages())
def test_a_cell_is_what_was_written_or_refused(damage, scene):
  path = bad_results.cell(scene)
  whole = read_result(path)
  with damaged(path, damage):
    assert same(read_result(path), whole)


@QUICK
@given(damage=damages())
def test_images_of_a_report_are_what_was_written_or_refused(damage, scene):
  folder = bad_results.results(scene)
  path, source = folder / "images.npz", stored.read(scene.run, NAME).statement["data"]
  whole = stored.clean_images(folder, source)
  with damaged(path, damage):
    np.testing.assert_array_equal(stored.clean_images(folder, source), whole)


@QUICK
@given(damage=damages(), which=st.sampled_from(["t10k-labels-idx1", "t10k-images-idx3"]))
def test_data_is_what_was_written_or_refused(damage, which, scene):
  bad_data.write_whole(scene.empty)
  whole = bad_data.load(scene)
  path = scene.empty / f"{which}-ubyte.gz"
  path.write_bytes(damage(path.read_bytes()))
  try:
    found = bad_data.load(scene)
    np.testing.assert_array_equal(found.images, whole.images)
    np.testing.assert_array_equal(found.labels, whole.labels)
  except ValueError as error:
    assert str(scene.empty) in str(error)


@QUICK
@given(damage=damages())
@pytest.mark.parametrize("name", ["plan.json", "table.json"])
def test_a_plan_is_read_or_refused_by_name(name, damage, scene):
  path = bad_results.results(scene) / name
  if name == "table.json":
    (path.parent / "plan.json").unlink(missing_ok=True)
  with damaged(path, damage):
    stored.read(scene.run, NAME)


@QUICK
@given(damage=damages())
def test_config_json_is_read_or_refused_by_name(damage, scene):
  path = scene.run / "config.json"
  with damaged(path, damage):
    assert "config" in read_config(scene.run)


@QUICK
@given(damage=damages())
def test_metrics_are_read_or_refused_by_name(damage, scene):
  path = scene.run / "metrics.jsonl"
  with damaged(path, damage):
    assert all(isinstance(row["step"], int) for row in read_metrics(scene.run))


@QUICK
@given(damage=damages())
def test_a_damaged_lock_is_somebodys_or_nobodys(damage, tmp_path):
  """A living owner is believed; whatever is no owner goes by its age, from past and future."""
  path = tmp_path / "cell.lock"
  path.write_bytes(damage(owners.to_text(owners.this_process()).encode()))
  found = locks.owner(path)
  for age in (100, -100):
    with locks.attempt(path, stale_after=60) as held:
      assert held is None or found is not None  # dead
    if found is None:
      now = path.stat().st_mtime
      os.utime(path, (now - age, now - age))
      with locks.attempt(path, stale_after=60) as held:
        assert held is not None
      path.write_bytes(b"\xff")
  for left in tmp_path.iterdir():
    left.unlink()


@pytest.mark.slow
@QUICK
@given(damage=damages(), data=st.data())
@pytest.mark.filterwarnings("ignore:checkpoint")
def test_a_checkpoint_is_what_was_saved_or_an_older_one(damage, data, scene):
  """One file of one checkpoint is damaged; the other one stays."""
  files = [p for p in sorted((scene.run / "checkpoints" / "4").rglob("*")) if p.is_file()]
  path = data.draw(st.sampled_from(files))
  content = path.read_bytes()
  path.write_bytes(damage(content))
  try:
    found = runs.load(scene.run, step="latest")
    assert found.step in (2, 4)
    expected = bytes_of(scene.loaded) if found.step == scene.loaded.step else None
    assert expected in (None, bytes_of(found))
  except ValueError as error:
    assert str(scene.run) in str(error)
  finally:
    path.write_bytes(content)


def bytes_of(run):
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(run.params)]
