"""Batches side by side, in threads and on devices."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import processes
import pytest
import toy_evaluation

from gencls.attacks import workers

TESTS = Path(__file__).resolve().parent.parent


def test_a_crew_takes_the_devices_in_turn():
  one = jax.devices()[0]
  assert workers.crew(3, None).devices == (None, None, None)
  assert workers.crew(2, [one]).devices == (one, one)


@pytest.mark.parametrize(
  ("num_workers", "devices", "message"),
  [(0, None, "num_workers must be >= 1"), (1, [], "devices must name at least one")],
)
def test_a_crew_of_nobody_is_refused(num_workers, devices, message):
  with pytest.raises(ValueError, match=message):
    workers.crew(num_workers, devices)


def test_a_process_bound_to_some_cores_has_as_many_workers(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 4}, raising=False)
  assert workers.local() == (3, None)
  monkeypatch.delattr(os, "sched_getaffinity")
  assert workers.local() == (os.cpu_count(), None)


def test_as_many_batches_run_at_a_time_as_there_are_workers():
  both = threading.Barrier(2, timeout=20)
  running, most = [], []

  def attack_batch(device, batch):
    running.append(batch)
    most.append(len(running))
    both.wait()  # passed by two at a time, so it would break with one worker
    time.sleep(0.01)
    running.remove(batch)

  workers.share(workers.crew(2, None), attack_batch, list(range(6)))
  assert max(most) == 2 and not running


@pytest.mark.slow
def test_two_devices_find_what_one_finds(tmp_path):
  """Each device takes part, with parameters of its own, in attacks and in evaluations."""
  env = processes.environment(tmp_path / "xla", devices=2) | {"PYTHONPATH": str(TESTS)}
  env["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
  script = [sys.executable, str(TESTS / "attacks" / "on_two_devices.py"), str(tmp_path / "two")]
  done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found == toy_evaluation.accuracies(toy_evaluation.run(tmp_path / "one"))
  assert 0 < found["pgd 0.1"] < found["clean 0.0"]
