"""Batches side by side, in threads and on devices."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import processes
import pytest
import toy_evaluation
from attack_models import curved, images, keys, predictions

from gencls import attacks, runtime
from gencls.attacks import programs, workers

NUM = 24
TESTS = Path(__file__).resolve().parent.parent


def test_a_crew_takes_the_devices_in_turn():
  one = jax.devices()[0]
  assert workers.crew(3, None).devices == (None, None, None)
  assert workers.crew(3, [one, None]).devices == (one, None, one)
  assert workers.crew(None, [one, one]).devices == (one, one)
  assert workers.crew(None, None).devices == (None,)


@pytest.mark.parametrize(
  ("num_workers", "devices", "message"),
  [
    (0, None, "num_workers must be >= 1"),
    (1, [], "devices must name at least one"),
    (1, [None, None], "num_workers must be >= 2, one for each device"),
  ],
)
def test_a_crew_of_nobody_is_refused(num_workers, devices, message):
  with pytest.raises(ValueError, match=message):
    workers.crew(num_workers, devices)


def test_a_process_bound_to_some_cores_has_as_many_workers(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 4}, raising=False)
  assert workers.local(100) == (3, None)
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)
  assert workers.local(100) == (4, None)  # at least 25 examples each
  assert workers.local(20) == (1, None)
  monkeypatch.delattr(os, "sched_getaffinity")
  assert runtime.cores() == os.cpu_count()


def test_as_many_batches_run_at_a_time_as_there_are_workers():
  both = threading.Barrier(2, timeout=20)
  running, most = [], []

  def attack_batch(device, batch):
    running.append(batch)
    most.append(len(running))
    both.wait()  # passed by two at a time, so it would break with one worker
    time.sleep(0.01)
    running.remove(batch)

  workers.run_all(workers.crew(2, None), attack_batch, list(range(6)))
  assert max(most) == 2 and not running


def test_an_evaluation_shares_its_batches_among_the_workers(tmp_path, monkeypatch):
  threads, real = set(), programs.start

  def start(*arguments):
    threads.add(threading.current_thread().name)
    return real(*arguments)

  monkeypatch.setattr(programs, "start", start)
  one = toy_evaluation.accuracies(toy_evaluation.run(tmp_path / "one"))
  assert threads == {"MainThread"}
  threads.clear()
  monkeypatch.setattr(workers, "local", lambda num: (2, None))
  assert toy_evaluation.accuracies(toy_evaluation.run(tmp_path / "two")) == one
  assert threads and "MainThread" not in threads


@pytest.mark.parametrize(("num", "sizes"), [(24, [12, 12]), (20, [10, 10]), (33, [9, 8, 8, 8])])
def test_batches_are_dealt_evenly(monkeypatch, num, sizes):
  """A rest that fills half a batch would leave the other workers without work."""
  found = []

  def run_all(team, attack_batch, batches):
    found.extend(int(np.sum(batch < num)) for batch in batches)

  monkeypatch.setattr(workers, "run_all", run_all)
  x = images(num)
  attack = attacks.build("fgsm", curved(), eps=0.1)
  attacks.run(attack, keys(num), x, np.zeros(num, np.int32), num_workers=2, batch_size=16)
  assert found == sizes


def _run(batch_size, progress, num_steps):
  """PGD that cannot succeed, by two workers."""
  x = images(NUM)
  attack = attacks.build("pgd", curved(), eps=0.0, num_steps=num_steps)
  options = {"batch_size": batch_size, "progress": progress, "num_workers": 2}
  attacks.run(attack, keys(NUM), x, predictions(curved(), x), **options)


def test_a_worker_that_fails_stops_the_others():
  stopped = []

  def progress(made, total):
    stopped.append(made)
    if len(stopped) == 1:
      raise RuntimeError("no more")

  with pytest.raises(RuntimeError, match="no more"):
    _run(16, progress, num_steps=2000)
  # The other batch makes 2001 steps, and the host looks at every one.
  assert len(stopped) < 2001


def test_a_worker_that_fails_cancels_the_batches_that_wait(monkeypatch):
  started, real = [], programs.start

  def start(*arguments):
    started.append(len(started))
    return real(*arguments)

  def progress(made, total):
    raise RuntimeError("no more")

  monkeypatch.setattr(programs, "start", start)
  with pytest.raises(RuntimeError, match="no more"):
    _run(1, progress, num_steps=10)
  # Each worker stops at its first failure, and tells the other.
  assert len(started) <= 2 < NUM


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
