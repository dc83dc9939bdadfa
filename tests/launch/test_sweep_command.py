"""launch/sweep.py as a user meets it: workers side by side, a kill, a report in between."""

import json
import sys
import time

import numpy as np
import pytest
from processes import ROOT, finish, losses, start

from gencls import locks, sweep

NUM_CELLS = 4  # of the smoke variant
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def sweeping(folder, *arguments):
  config = f"--config={ROOT}/configs/sweeps/digits.py:smoke"
  script = str(ROOT / "launch" / "sweep.py")
  return [sys.executable, script, config, f"--workdir={folder}", *arguments]


def without_time(value):
  return {name: item for name, item in value.items() if name != "seconds"}


def tables(folder):
  """{run: its table, without what tells when, how fast and by whom it was made}."""
  found = {}
  for path in folder.glob("runs/*/results/fgsm_pgd/table.json"):
    table = json.loads(path.read_text(), object_hook=without_time)
    found[path.parts[-4]] = {name: table[name] for name in ("clean", "rows", "worst", "params")}
  return found


def endings(folder):
  return {path.stem: json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")}


def wait_for(condition, process):
  deadline = time.monotonic() + 300
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
  folder = tmp_path_factory.mktemp("undisturbed")
  output = finish(start(sweeping(folder), cache), timeout=900)
  assert f"{NUM_CELLS} cells: {NUM_CELLS} finished" in output
  return folder


def test_two_workers_one_killed_give_what_one_gives(undisturbed, tmp_path, cache):
  """The killed worker's cell runs on without it: nobody else trains or attacks beside it."""
  victim, other = (start(sweeping(tmp_path), cache) for _ in range(2))

  def trains():
    owner = {path.stem: locks.owner(path) for path in (tmp_path / "cells").glob("*.lock")}
    mine = [name for name, held in owner.items() if held and held.pid == victim.pid]
    return [
      n for n in mine if (tmp_path / "runs" / n.rpartition("-")[0] / "training.lock").exists()
    ]

  wait_for(trains, victim)
  victim.kill()
  victim.communicate()
  again = start(sweeping(tmp_path), cache)
  for process in (other, again):
    finish(process, timeout=900)
  assert {name: end["status"] for name, end in endings(tmp_path).items()} == dict.fromkeys(
    endings(undisturbed), "finished"
  )
  assert tables(tmp_path) == tables(undisturbed)
  assert len(tables(tmp_path)) == NUM_CELLS / 2
  for run in tables(undisturbed):
    one, two = (losses(sweep.run_folder(folder, run)) for folder in (undisturbed, tmp_path))
    assert one.keys() == two.keys()
    np.testing.assert_array_equal(list(one.values()), list(two.values()))
  assert not list(tmp_path.rglob("*.lock"))
  again = finish(start(sweeping(tmp_path), cache))
  assert "started" not in again


def test_the_report_of_a_sweep_and_half_a_sweep(undisturbed, tmp_path, cache):
  half = tmp_path / "half"
  half.mkdir()
  (half / sweep.LIST).write_bytes((undisturbed / sweep.LIST).read_bytes())
  (half / "runs").mkdir()
  (half / "runs" / "gfz_digits-seed0").symlink_to(undisturbed / "runs" / "gfz_digits-seed0")
  for folder, models in ((undisturbed, {"GFZ", "CNN"}), (half, {"GFZ"})):
    report = [sys.executable, str(ROOT / "launch" / "report.py"), "--name=fgsm_pgd"]
    finish(start([*report, f"--workdirs={folder}", f"--out={tmp_path / 'out'}"], cache))
    assert json.loads((tmp_path / "out" / "fgsm_pgd.json").read_text()).keys() == models


def test_a_share_a_failure_and_its_log(tmp_path, cache):
  broken = ("--config.models.cnn_digits.overrides=('train.batch_size=0',)", "--config.retries=0")
  arguments = sweeping(tmp_path, "--task_index=0", "--num_tasks=2", *broken)
  output = finish(start(arguments, cache), code=1)
  assert "cnn_digits-seed0-train failed 1 time(s), exit code 1" in output
  assert "batch_size" in output.split("failed 1 time(s)")[1]
  assert "cnn_digits-seed0-fgsm_pgd was not run" in output
  assert not (tmp_path / "runs" / "gfz_digits-seed0").exists()  # the other task's
  listed = finish(start(sweeping(tmp_path, "--list=train"), cache))
  assert [line.count("launch/train.py") for line in listed.strip().split("\n")] == [1, 1]
