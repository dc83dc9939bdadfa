"""Locks between real processes, dead owners included."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import ROOT

from gencls import locks, owners

COUNT = """
import sys, time
from pathlib import Path
from gencls import locks
folder, times = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(times):
  with locks.hold(folder / "counter.lock", lambda owner: None, poll=0.001):
    value = int((folder / "counter").read_text())
    time.sleep(0.001)  # lost updates, were two inside
    (folder / "counter").write_text(str(value + 1))
"""

ATTEMPT = """
import sys
from pathlib import Path
from gencls import locks
print("ready", flush=True)
sys.stdin.readline()
with locks.attempt(Path(sys.argv[1])) as held:
  print("got" if held else "not", flush=True)
  sys.stdin.readline()
"""


def python(code, *arguments):
  return subprocess.Popen(
    [sys.executable, "-c", code, *map(str, arguments)],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )


def tell(process):
  process.stdin.write("\n")
  process.stdin.flush()


def line(process):
  return process.stdout.readline().strip()


def end(*processes):
  for process in processes:
    process.kill()
    process.communicate()


@pytest.fixture
def path(tmp_path):
  return tmp_path / "cell.lock"


def held_by(path, **changes):
  """A lock as another process would have left it."""
  path.write_text(owners.to_text(owners.this_process()._replace(**changes)))


def obtained(path, **settings):
  with locks.attempt(path, **settings) as held:
    return held is not None


def age(path, seconds):
  now = path.stat().st_mtime
  os.utime(path, (now - seconds, now - seconds))


def test_one_process_at_a_time_is_inside(tmp_path):
  (tmp_path / "counter").write_text("0")
  processes = [python(COUNT, tmp_path, 20) for _ in range(3)]
  assert [process.wait(timeout=60) for process in processes] == [0] * 3
  end(*processes)
  assert (tmp_path / "counter").read_text() == "60"
  assert [p.name for p in tmp_path.iterdir()] == ["counter"]  # nothing is left behind


def test_the_lock_of_a_killed_process_goes_to_exactly_one(path):
  holder, *others = [python(ATTEMPT, path) for _ in range(5)]
  try:
    assert [line(p) for p in (holder, *others)] == ["ready"] * 5
    tell(holder)
    assert line(holder) == "got"
    assert not obtained(path)
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    for process in others:
      tell(process)
    assert sorted(line(process) for process in others) == ["got", "not", "not", "not"]
  finally:
    end(holder, *others)


def test_a_recycled_process_number_is_another_process(path):
  held_by(path)
  assert not obtained(path)
  held_by(path, started="long ago")
  assert obtained(path)
  assert not path.exists()


def test_a_zombie_is_dead_and_a_hidden_process_is_not(path, monkeypatch):
  child = subprocess.Popen(["sleep", "60"])
  started = owners.started(child.pid)
  owner = owners.this_process()._replace(pid=child.pid, started=started)
  assert owners.is_dead(owner) is False
  child.kill()
  os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
  assert owners.is_dead(owner) is True
  child.wait()
  assert owners.is_dead(owner) is True
  monkeypatch.setattr(owners, "started", lambda pid: None)  # /proc hides other users' processes
  assert owners.is_dead(owner._replace(pid=os.getpid())) is None


def test_the_lock_of_another_machine_goes_by_its_renewals(path):
  # The number of no process here: on another machine that says nothing.
  elsewhere = {"machine": "elsewhere", "pid": 2**22 + 1}
  held_by(path, **elsewhere)
  age(path, 50)
  assert not obtained(path, stale_after=60)
  assert obtained(path, stale_after=40)
  held_by(path, pid=2**22 + 1)
  assert obtained(path)  # here it says that it is gone


def test_a_lock_cut_off_by_a_full_disk_goes_by_its_age(path):
  path.write_text('{"host": "no')
  assert not obtained(path)
  age(path, 2 * locks.STALE_AFTER)
  assert obtained(path)


@pytest.mark.parametrize(
  "change",
  [{"pid": "1"}, {"pid": -1}, {"pid": 0}, {"pid": 2**40}, {"pid": True}, {"pid": 1.5}, {"host": 7},
   {"token": "../up"}, {"token": ""}, {"started": None}],
)  # fmt: skip
def test_an_owner_that_is_no_process_goes_by_its_age(path, change):
  held_by(path, **change)
  assert locks.owner(path) is None
  assert not obtained(path)
  age(path, 2 * locks.STALE_AFTER)
  assert obtained(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"[" * 10**5, b"7"])
def test_a_lock_of_junk_goes_by_its_age_from_the_past_and_the_future(path, content):
  for seconds in (2 * locks.STALE_AFTER, -2 * locks.STALE_AFTER):
    path.write_bytes(content)
    assert not obtained(path)
    age(path, seconds)
    assert obtained(path)


def test_who_is_late_finds_another_owner(path):
  """It saw a dead owner, but meanwhile another process has taken the lock over."""
  held_by(path, started="long ago")
  seen = path.read_text()
  held_by(path, started="long ago")  # another lock
  me, draft = owners.this_process(), path.with_name("draft")
  draft.write_text(owners.to_text(me))
  assert not locks._take_over(draft, path, seen, me, 60)
  assert locks._take_over(draft, path, path.read_text(), me, 60)
  assert locks.owner(path) == me


def test_who_dies_while_taking_over_blocks_nobody(path):
  held_by(path, started="long ago")
  guard = path.with_name(f"{path.name}.{locks.owner(path).token}")
  held_by(guard)
  assert not obtained(path)
  held_by(guard, started="long ago")
  assert obtained(path)
  assert list(path.parent.iterdir()) == []


def test_a_held_lock_is_renewed_and_a_lost_one_is_noticed(path):
  with locks.attempt(path, heartbeat=0.01) as held:
    age(path, 100)
    old = path.stat().st_mtime
    while path.stat().st_mtime < old + 50:
      time.sleep(0.01)
    assert not held.lost.is_set()
    other = path.with_name("other")
    held_by(other)
    os.replace(other, path)
    assert held.lost.wait(timeout=10)
  assert locks.owner(path) is not None  # the other's, left alone


def test_file_systems_without_hard_links(path, monkeypatch):
  def no_links(*_):
    raise PermissionError(1, "Operation not permitted")

  monkeypatch.setattr(os, "link", no_links)
  with locks.attempt(path) as held:
    assert held is not None
    assert not obtained(path)
  assert obtained(path)


def test_a_repeated_request_of_nfs_is_no_refusal(path, monkeypatch):
  link = os.link

  def twice(*arguments):
    link(*arguments)
    link(*arguments)  # raises FileExistsError

  monkeypatch.setattr(os, "link", twice)
  assert obtained(path)
