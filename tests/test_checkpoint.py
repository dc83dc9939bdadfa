import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencls import checkpoint
from gencls.training.step import TrainState


def state(value):
  params = {"w": jnp.full((300, 7), value), "empty": {}, "b": jnp.float32(value)}
  return TrainState(jnp.int32(value), params, None, (params, jnp.int32(1)))


def abstract(tree=None):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), tree or state(0)
  )


def fill(folder, accuracies, keep=2):
  manager = checkpoint.open_manager(folder, keep=keep)
  for step, accuracy in accuracies.items():
    checkpoint.save(
      manager,
      step,
      state(step),
      config={"seed": 1},
      progress={"best_step": step},
      accuracy=accuracy,
    )
  return manager


def test_round_trip_of_namedtuples_config_and_progress(tmp_path):
  fill(tmp_path, {3: 0.5}).close()
  manager = checkpoint.open_manager(tmp_path)  # as another process sees it
  read = checkpoint.restore(manager, abstract())
  assert isinstance(read.state, TrainState)
  assert jax.tree.structure(read.state) == jax.tree.structure(state(3))
  for got, want in zip(jax.tree.leaves(read.state), jax.tree.leaves(state(3)), strict=True):
    np.testing.assert_array_equal(got, want)
  assert (read.step, read.config, read.progress) == (3, {"seed": 1}, {"best_step": 3})
  manager.close()


def test_latest_and_best_are_kept_across_processes(tmp_path):
  fill(tmp_path, {1: 0.5, 2: 0.9, 3: 0.9}).close()
  manager = fill(tmp_path, {4: 0.6, 5: None, 6: 0.7})
  assert sorted(manager.all_steps()) == [3, 5, 6]  # of equals the later
  assert checkpoint.restore(manager, abstract(), step="best").step == 3
  assert checkpoint.restore(manager, abstract()).step == 6
  assert checkpoint.restore(manager, abstract(), step=5).step == 5
  with pytest.raises(ValueError, match=r"no checkpoint of step 4 .*\[6, 5, 3\]"):
    checkpoint.restore(manager, abstract(), step=4)
  with pytest.raises(ValueError, match='"latest", "best" or a number'):
    checkpoint.restore(manager, abstract(), step="newest")
  manager.close()


def test_saving_a_saved_step_again_changes_nothing(tmp_path):
  manager = fill(tmp_path, {1: 0.5})
  checkpoint.save(manager, 1, state(9), config={}, progress={})
  assert int(checkpoint.restore(manager, abstract()).state.step) == 1
  manager.close()


def test_every_kind_of_damage_falls_back_with_a_warning(tmp_path):
  manager = fill(tmp_path, {1: 0.5, 2: 0.6})
  folder = tmp_path / "2"
  files = [p for p in folder.rglob("*") if p.is_file() and p.name != checkpoint.SEAL]
  assert len(files) > 5
  for path in files:
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for damaged in (b"", whole[:middle], flipped, None):
      path.unlink() if damaged is None else path.write_bytes(damaged)
      with pytest.warns(UserWarning, match="is damaged"):
        assert checkpoint.restore(manager, abstract()).step == 1
      path.write_bytes(whole)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert checkpoint.restore(manager, abstract()).step == 2
  manager.close()


def test_a_broken_checkpoint_can_be_saved_anew(tmp_path):
  fill(tmp_path, {1: 0.5, 2: 0.6}).close()
  (tmp_path / "2" / checkpoint.SEAL).write_text("{")
  manager = checkpoint.open_manager(tmp_path)
  with pytest.warns(UserWarning, match="not valid JSON"):
    assert checkpoint.restore(manager, abstract(), delete_broken=True).step == 1
  checkpoint.save(manager, 2, state(7), config={}, progress={}, accuracy=0.1)
  assert int(checkpoint.restore(manager, abstract()).state.step) == 7
  manager.close()


def test_an_unsealed_checkpoint_is_whole(tmp_path):
  manager = fill(tmp_path, {1: 0.5, 2: 0.6})
  (tmp_path / "2" / checkpoint.SEAL).unlink()
  assert checkpoint.restore(manager, abstract()).step == 2
  manager.close()


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
  fill(tmp_path, {1: 0.5}).close()
  (tmp_path / "9").mkdir()
  (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
  manager = checkpoint.open_manager(tmp_path)
  with pytest.warns(UserWarning, match="holds no state"):
    assert checkpoint.restore(manager, abstract(), delete_broken=True).step == 1
  assert list(manager.all_steps()) == [1]
  manager.close()


def test_a_reader_leaves_a_save_in_progress_alone(tmp_path):
  fill(tmp_path, {1: 0.9, 2: 0.6, 3: 0.5, 4: 0.5}).close()
  unfinished = tmp_path / "8.orbax-checkpoint-tmp"
  unfinished.mkdir()
  reader = checkpoint.open_manager(tmp_path, read_only=True)
  assert checkpoint.restore(reader, abstract(), step="best").step == 1
  reader.close()
  assert unfinished.is_dir()
  checkpoint.open_manager(tmp_path).close()
  deadline = time.monotonic() + 30
  while unfinished.exists() and time.monotonic() < deadline:  # Orbax deletes in the background
    time.sleep(0.05)
  assert not unfinished.exists()  # the next training clears it away


def test_nothing_to_restore(tmp_path):
  manager = checkpoint.open_manager(tmp_path)
  with pytest.raises(FileNotFoundError, match="no whole checkpoint in"):
    checkpoint.restore(manager, abstract())
  manager.close()


def test_another_shape_is_an_error_and_no_damage(tmp_path):
  manager = fill(tmp_path, {1: 0.5, 2: 0.6})
  other = abstract(
    state(0)._replace(params={"w": jnp.zeros((2, 2)), "empty": {}, "b": jnp.zeros(())})
  )
  with pytest.raises(ValueError, match=r"params/w: 'int32\[300, 7\]' -> 'float32\[2, 2\]'"):
    checkpoint.restore(manager, other)
  manager.close()
