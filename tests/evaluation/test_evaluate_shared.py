"""Several processes evaluate into one folder: each cell is made once, whoever dies."""

import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from processes import ROOT
from toy_evaluation import IDENTITY, protocol, run, specs, toy_images

from gencls import evaluate as evaluation
from gencls import locks, owners, workdir
from gencls.summary.summarise import summarise

WORKER = """
import os, sys, time
from pathlib import Path
import toy_evaluation
from gencls import evaluate as evaluation
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
compute = evaluation._compute
def told(work, plan, *rest):
  with (folder / "lines").open("a") as file:
    file.write(f"{plan.path.name} {os.getpid()}\\n")
  time.sleep(pause)
  return compute(work, plan, *rest)
evaluation._compute = told
cells = toy_evaluation.run(folder)
print(len(cells))
"""


def plans(folder):
  return evaluation.make_plans(folder, protocol(), specs((0.1,)), IDENTITY, toy_images())


def wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_what_others_make_is_passed_over_and_waited_for(tmp_path):
  """The grey cell is another's: the rest is made meanwhile, then its result is taken."""
  reference = run(tmp_path / "reference", the_specs=specs((0.1,)))
  grey = plans(tmp_path)[2].path
  rest = [plan.path for plan in plans(tmp_path) if plan.path != grey]
  found = []
  with locks.attempt(grey.with_suffix(".lock")):
    thread = threading.Thread(
      target=lambda: found.extend(run(tmp_path, the_specs=specs((0.1,)))), daemon=True
    )
    thread.start()
    wait_for(lambda: all(path.exists() for path in rest))
    time.sleep(0.1)
    assert thread.is_alive() and not grey.exists()
    content = (tmp_path / "reference" / grey.name).read_bytes()
    workdir.atomic_write(grey, content)
  thread.join(timeout=60)
  assert grey.read_bytes() == content
  assert summarise(found)["worst"] == summarise(reference)["worst"]
  assert not list(tmp_path.glob("*.lock"))


def test_what_a_dead_process_was_making_is_made_here(tmp_path):
  for plan in plans(tmp_path):
    lock = plan.path.with_suffix(".lock")
    lock.write_text(owners.to_text(owners.this_process()._replace(started="long ago")))
  assert len(run(tmp_path, the_specs=specs((0.1,)))) == 5
  assert not list(tmp_path.glob("*.lock"))


def test_one_job_at_a_time_trains_in_a_folder(tmp_path, caplog):
  order = []

  def job():
    with workdir.one_job(tmp_path):
      order.append("second")

  with workdir.one_job(tmp_path):
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    wait_for(lambda: caplog.messages)
    order.append("first")
  thread.join(timeout=30)
  assert order == ["first", "second"]
  expected = f"process {os.getpid()} on .* trains in .*: waiting for it to end"
  assert len(caplog.messages) == 1
  assert re.match(expected, caplog.messages[0])


def worker(folder, pause):
  path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
  return subprocess.Popen(
    [sys.executable, "-c", WORKER, str(folder), str(pause)],
    env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def lines(folder):
  path = folder / "lines"
  return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_two_processes_share_the_cells_and_one_may_be_killed(tmp_path):
  """8 cells: by one process, by two, and by two of which one is killed and started again."""
  undisturbed = run(tmp_path / "one")
  names = sorted(plan.path.name for plan in evaluation.make_plans(
    tmp_path, protocol(), specs(), IDENTITY, toy_images()))  # fmt: skip
  (tmp_path / "two").mkdir()
  both = [worker(tmp_path / "two", 0.3) for _ in range(2)]
  said = [process.communicate(timeout=240)[0] for process in both]
  assert [text.strip() for text in said] == [str(len(names))] * 2
  assert sorted(name for name, _ in lines(tmp_path / "two")) == names
  assert len({pid for _, pid in lines(tmp_path / "two")}) == 2

  (tmp_path / "killed").mkdir()
  victim, other = (worker(tmp_path / "killed", 1.0) for _ in range(2))
  wait_for(lambda: any(pid == str(victim.pid) for _, pid in lines(tmp_path / "killed")))
  victim.kill()
  lost = [name for name, pid in lines(tmp_path / "killed") if pid == str(victim.pid)][-1]
  victim.communicate()
  again = worker(tmp_path / "killed", 0.1)
  for process in (other, again):
    assert process.communicate(timeout=240)[0].strip() == str(len(names))
  made = [name for name, _ in lines(tmp_path / "killed")]
  assert sorted(made) == sorted([*names, lost])
  for folder in ("two", "killed"):
    for one, cell in zip(undisturbed, run(tmp_path / folder), strict=True):
      assert one.header["settings"] == cell.header["settings"]
      for name, value in one.arrays.items():
        np.testing.assert_allclose(cell.arrays[name], value, rtol=1e-5, atol=1e-6)
