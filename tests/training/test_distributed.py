"""The loss curve does not depend on how many devices or processes compute it."""

import os
import signal
import time

import jax
import numpy as np
import pytest
from processes import command, finish, free_port, losses, start

import gencls

MODEL = "gfz_digits.py:smoke"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, cache):
  workdir = tmp_path_factory.mktemp("one")
  finish(start(command(workdir, config=MODEL), cache))
  return workdir


def start_pair(workdir, cache, *overrides, devices=2, config=MODEL):
  several = (f"--coordinator=localhost:{free_port()}", "--num_processes=2")
  return [
    start(
      command(workdir, *overrides, *several, f"--process_id={process}", config=config),
      cache / str(process),
      devices,
    )
    for process in range(2)
  ]


def assert_same_run(a, b):
  """Float error in the losses, and in parameters after steps of Adam."""
  curve, expected = losses(a), losses(b)
  assert curve.keys() == expected.keys()
  np.testing.assert_allclose(list(curve.values()), list(expected.values()), rtol=2e-6)
  got, want = (gencls.load(workdir, step="latest") for workdir in (a, b))
  for x, y in zip(jax.tree.leaves(got.params), jax.tree.leaves(want.params), strict=True):
    np.testing.assert_allclose(x, y, atol=2e-5)


@pytest.mark.slow
def test_four_devices_draw_the_curve_of_one(one_device, tmp_path, cache):
  output = finish(start(command(tmp_path, config=MODEL), cache, devices=4))
  assert "4 cpu device(s)" in output
  assert_same_run(tmp_path, one_device)


@pytest.mark.slow
def test_two_processes_draw_the_curve_of_one(one_device, tmp_path, cache):
  outputs = [finish(process) for process in start_pair(tmp_path, cache)]
  assert "4 cpu device(s)" in outputs[0]
  assert_same_run(tmp_path, one_device)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_and_they_continue(tmp_path, cache):
  longer = ("--config.train.max_steps=400", "--config.train.validate_every=200")

  def pair_in(name):
    return start_pair(tmp_path / name, cache, *longer, devices=1, config="cnn_digits.py:smoke")

  pair = pair_in("stopped")
  deadline = time.monotonic() + 120
  while not (tmp_path / "stopped" / "metrics.jsonl").exists() or not losses(tmp_path / "stopped"):
    assert time.monotonic() < deadline
    time.sleep(0.1)
  os.kill(pair[1].pid, signal.SIGTERM)
  outputs = [finish(process, code=143) for process in pair]
  assert "asked to stop: saved step" in "".join(outputs)
  for name in ("stopped", "straight"):
    for process in pair_in(name):
      finish(process)
  got, want = (gencls.load(tmp_path / name, step="latest") for name in ("stopped", "straight"))
  assert got.step == want.step == 400
  for x, y in zip(jax.tree.leaves(got.params), jax.tree.leaves(want.params), strict=True):
    np.testing.assert_array_equal(x, y)
