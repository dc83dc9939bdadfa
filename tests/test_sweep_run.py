"""Workers on one sweep, as real processes: killed, stopped, failing, started again."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import sweep_worker
from processes import ROOT

from gencls import locks, sweep, sweep_cells, sweep_run, sweep_table

NAMES = [cell.name for cell in sweep_worker.cells()]


def worker(folder, *arguments):
  path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
  return subprocess.Popen(
    [sys.executable, str(ROOT / "tests" / "sweep_worker.py"), str(folder), *map(str, arguments)],
    env=os.environ | {"PYTHONPATH": path},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def here(folder, *arguments):
  """The same in this process: (exit code, what it said)."""
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    code = sweep_worker.main(folder, *arguments)
  return code, output.getvalue()


def lines(folder):
  """[(cell, process)] of every start."""
  path = folder / "lines"
  return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def products(folder):
  found = sorted(path for path in (folder / "runs").rglob("*") if path.is_file())
  return {str(path.relative_to(folder)): path.read_text() for path in found}


def wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def opened(folder, cells=None):
  return sweep_cells.open_sweep(folder, cells or sweep_worker.cells(), lambda cell: [], 0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  assert here(folder)[0] == 0
  return folder


def test_one_worker_runs_every_cell_once_in_order(undisturbed):
  assert [name for name, _ in lines(undisturbed)] == NAMES
  assert len(products(undisturbed)) == len(NAMES)


def test_finished_cells_are_skipped_unless_their_product_or_arguments_have_gone(tmp_path):
  here(tmp_path)
  assert here(tmp_path) == (0, "")
  (tmp_path / "runs" / "run1" / "two").unlink()
  here(tmp_path)
  assert [name for name, _ in lines(tmp_path)][len(NAMES) :] == ["run1-two"]
  whole = opened(tmp_path)
  changed = whole.cells["run1-one"]._replace(arguments=("--config.seed=3",))
  assert sweep_cells.status(whole, whole.cells["run1-one"]) == sweep_cells.FINISHED
  assert sweep_cells.status(whole, changed) == sweep_cells.WAITING


def test_two_workers_do_no_cell_twice_and_both_wait_for_the_last(undisturbed, tmp_path):
  workers = [worker(tmp_path, "go") for _ in range(2)]
  wait_for(lambda: len(lines(tmp_path)) == 2)
  (tmp_path / "go").touch()
  said = [process.communicate(timeout=60)[0] for process in workers]
  assert [process.returncode for process in workers] == [0, 0], said
  assert sorted(name for name, _ in lines(tmp_path)) == sorted(NAMES)
  assert all("finished" in text for text in said)  # both had work
  assert products(tmp_path) == products(undisturbed)


def test_what_a_killed_worker_leaves_is_taken_over(undisturbed, tmp_path):
  victim = worker(tmp_path, 0.3)
  wait_for(lambda: len(lines(tmp_path)) >= 2)
  victim.kill()
  os.kill(int(lines(tmp_path)[-1][1]), signal.SIGKILL)  # the whole machine goes
  half = [name for name, _ in lines(tmp_path)]
  # Not waited for: the lock's owner is a zombie.
  finished = [name for name in NAMES if (tmp_path / "cells" / f"{name}.json").exists()]
  assert finished == half[:-1]
  assert (tmp_path / "cells" / f"{half[-1]}.lock").exists()
  assert here(tmp_path)[0] == 0
  victim.communicate()
  counts = {name: [each for each, _ in lines(tmp_path)].count(name) for name in NAMES}
  assert counts == {name: 1 + (name == half[-1]) for name in NAMES}
  assert products(tmp_path) == products(undisturbed)


def test_asked_to_stop_it_stops_the_cell_and_goes_on_later(undisturbed, tmp_path):
  stopped = worker(tmp_path, 30)
  wait_for(lambda: lines(tmp_path))
  stopped.terminate()
  said = stopped.communicate(timeout=60)[0]
  assert stopped.returncode == 143
  assert "asked to stop" in said
  assert not list((tmp_path / "cells").glob("*.lock"))
  with pytest.raises(ProcessLookupError):
    os.kill(int(lines(tmp_path)[0][1]), 0)
  assert here(tmp_path)[0] == 0
  assert products(tmp_path) == products(undisturbed)


def test_a_failing_cell_is_tried_again_then_listed_and_the_others_run(tmp_path):
  code, said = here(tmp_path, "0", "run1-train:3")
  assert code == 1
  assert "attempt 2 of 2 failed (exit code 3)" in said
  ran = [name for name, _ in lines(tmp_path)]
  assert sorted(ran) == sorted([n for n in NAMES if "run1" not in n] + ["run1-train"] * 2)
  whole = opened(tmp_path)
  states = {name: sweep_cells.status(whole, cell) for name, cell in whole.cells.items()}
  assert states["run1-train"] == sweep_cells.WAITING  # another start tries again
  assert here(tmp_path, "0")[0] == 0
  assert sorted(products(tmp_path)) == sorted(f"runs/{n.replace('-', '/')}" for n in NAMES)


def test_failures_are_told_with_the_end_of_the_log(tmp_path):
  whole = opened(tmp_path)
  failing = whole._replace(
    command=lambda cell: sweep_worker.shell(cell, tmp_path, 0, "run0-train:7"), retries=0
  )
  cells = list(whole.cells.values())
  sweep_run.work(failing, cells, sweep_run.Watch([], lambda: None, lambda text: None, 0.01))
  text = sweep_table.failures(failing, cells)
  assert "run0-train failed 1 time(s), exit code 7" in text
  assert "    broken" in text
  assert "run0-one was not run: run0-train did not finish" in text
  assert "7 cells" not in text and "run1" not in text
  drawn = sweep_table.table(failing).split("\n")
  assert drawn[0].split() == ["run", "train", "one", "two"]
  assert drawn[1].split() == ["run0", "failed", "00:00", "blocked", "blocked"]
  assert drawn[-1] == "9 cells: 6 finished, 1 failed, 2 blocked"


def test_success_without_a_product_is_a_failure(tmp_path):
  whole = opened(tmp_path)._replace(command=lambda cell: ["true"])
  sweep_run.work(
    whole, [whole.cells["run0-train"]], sweep_run.Watch([], lambda: None, lambda text: None, 0.01)
  )
  found = sweep_cells.ending(whole, whole.cells["run0-train"])
  assert (found["status"], found["reason"]) == ("failed", "no train was left behind")


def test_a_worker_that_has_lost_its_lock_leaves_the_cell(tmp_path):
  """As after a long freeze: another worker has taken over; this one stops its own process."""
  whole = opened(tmp_path)
  cell, said = whole.cells["run0-train"], []
  whole = whole._replace(command=lambda cell: ["sleep", "30"])
  with locks.attempt(tmp_path / "x.lock") as held:
    held.lost.set()
    watch = sweep_run.Watch([], lambda: None, said.append, 0.01)
    sweep_run._make(whole, cell, held, watch)
  assert said[-1] == "run0-train: left to the worker that has taken it over"
  assert sweep_cells.ending(whole, cell) is None


def test_a_progress_bar_in_a_log_is_many_lines(tmp_path):
  log = tmp_path / "log"
  log.write_bytes(b"first\n 10%|#  |\r 20%|## |\r\n\n")
  assert sweep_table.last_lines(log, 2) == [" 10%|#  |", " 20%|## |"]
  assert sweep_table.last_lines(tmp_path / "none", 2) == []


def test_the_display_redraws_on_a_terminal_only(undisturbed):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  for stream, tables in ((io.StringIO(), 0), (Terminal(), 3)):
    display = sweep_table.Display(opened(undisturbed), stream, 80)
    for step in (display.tick, display.tick, lambda display=display: display.say("hello")):
      step()
    assert stream.getvalue().count("9 cells: 9 finished") == tables
    assert stream.getvalue().count("hello") == 1
    height = len(sweep_table.table(opened(undisturbed)).split("\n"))
    assert stream.getvalue().count(f"\x1b[{height}A") == max(0, tables - 1)


def test_a_damaged_note_is_named_and_loses_nothing(undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "sweep")
  note = tmp_path / "sweep" / "cells" / "run1-train.json"
  note.write_text('{"status": "fin')
  with pytest.raises(
    ValueError, match=r"run1-train\.json is damaged .*not valid JSON.*; delete it"
  ):
    opened(tmp_path / "sweep")
  assert products(tmp_path / "sweep") == products(undisturbed)


def test_reports_take_the_runs_that_have_something(undisturbed, tmp_path):
  folder = tmp_path / "sweep"
  every = sweep.cells(
    {
      "models": {"a": {"config": "a.py", "variant": "", "overrides": ()}},
      "attacks": {"pgd": {"config": "p.py", "variant": "", "overrides": (), "models": ()}},
      "seeds": (0, 1),
    }
  )
  assert sweep.workdirs(str(folder), "pgd") == [str(folder)]  # not a sweep: a run
  (folder).mkdir()
  (folder / sweep.LIST).write_text(sweep_cells.to_json({"cells": [c._asdict() for c in every]}))
  with pytest.raises(FileNotFoundError, match="none is begun yet"):
    sweep.workdirs(str(folder), "pgd")
  table = folder / "runs" / "a-seed1" / "results" / "pgd" / "table.json"
  table.parent.mkdir(parents=True)
  table.write_text("{}")
  assert sweep.workdirs(str(folder), "pgd") == [str(folder / "runs" / "a-seed1")]
  assert sweep.workdirs(str(folder), None) == [str(folder / "runs" / "a-seed1")]
  with pytest.raises(FileNotFoundError, match="'fgsm': there are pgd"):
    sweep.workdirs(str(folder), "fgsm")
