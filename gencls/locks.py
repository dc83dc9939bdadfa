"""Locks that are files: several processes, on one host or many, share the work of one folder.

A lock is taken by `os.link`, which gives it to exactly one process and whole, and names its owner.
While it is held its time of change is renewed. A lock whose owner is dead may be taken over, by
exactly one: on the same machine, when that process is gone; from another, where processes cannot be
seen, when the lock has not been renewed for `STALE_AFTER` seconds. Times are those of the file
system, so that hosts whose clocks disagree do not matter. A process that was frozen for longer than
that and wakes up has lost its lock: `Held.lost` says so at the next renewal.

What a lock protects must therefore still be written whole or not at all (`workdir.atomic_write`).
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gencls import owners
from gencls.owners import Owner

HEARTBEAT = 20.0  # seconds between two renewals
# Fifteen missed renewals. Far above the minute for which NFS may show an older time.
STALE_AFTER = 300.0
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Held(NamedTuple):
  """A lock in the hands of this process."""

  path: Path
  owner: Owner
  lost: threading.Event  # set when somebody else has taken it


@contextlib.contextmanager
def attempt(
  path: Path, *, heartbeat: float = HEARTBEAT, stale_after: float = STALE_AFTER
) -> Iterator[Held | None]:
  """Holds a lock while the block runs, or yields None at once where it is not to be had.

  Args:
    path: of the lock; its folder is made if it is missing.
    heartbeat: seconds between two renewals.
    stale_after: seconds without renewal after which a lock of another machine counts as left over;
      many times the heartbeat of every process that takes part.

  Raises:
    OSError: if the folder cannot be written to.
  """
  me = owners.this_process()
  if not _take(path, me, stale_after):
    yield None
    return
  ended, held = threading.Event(), Held(path, me, threading.Event())
  thread = threading.Thread(target=_renew, args=(held, heartbeat, ended), daemon=True)
  thread.start()
  try:
    yield held
  finally:
    ended.set()
    thread.join()
    _release(path, me)


@contextlib.contextmanager
def hold(
  path: Path, waiting: Callable[[Owner | None], None], *, poll: float = 1.0
) -> Iterator[Held]:
  """Holds a lock while the block runs, and waits for it as long as that takes.

  Args:
    path: of the lock.
    waiting: called once, with the owner, if there is somebody to wait for.
    poll: seconds between two looks.
  """
  told = False
  while True:
    with attempt(path) as held:
      if held is not None:
        yield held
        return
    if not told:
      waiting(owner(path))
      told = True
    time.sleep(poll)


def owner(path: Path) -> Owner | None:
  """Who holds a lock; None if nobody does, or it does not say."""
  try:
    return owners.from_text(_text(path))
  except FileNotFoundError:
    return None


def _text(path: Path) -> str:
  return path.read_text(errors="replace")  # whatever a bad disk has made of it


def _take(path: Path, me: Owner, stale_after: float) -> bool:
  """Whether the lock is now ours: it was free, or its owner is dead."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f".{path.name}.{me.token}")
  try:
    draft.write_text(owners.to_text(me))
    if _link(draft, path):
      return True
    try:
      found, renewed = _text(path), path.stat().st_mtime
    except FileNotFoundError:
      return False  # given back just now: the next attempt will find it free
    holder = owners.from_text(found)
    dead = None if holder is None else owners.is_dead(holder)
    if dead is None:
      # The draft was written just now: its time is the file system's clock. A lock from the future
      # was left before the clock was set back; a living owner will renew it before long.
      dead = abs(draft.stat().st_mtime - renewed) > stale_after
    return dead and _take_over(draft, path, found, me, stale_after)
  finally:
    draft.unlink(missing_ok=True)


def _take_over(draft: Path, path: Path, found: str, me: Owner, stale_after: float) -> bool:
  """Puts our draft in the place of a dead owner's lock.

  Only who holds the lock on that one lock may do so, and only if it is still the same: of several
  that saw the same dead owner, the first replaces it and the others find another owner.
  """
  holder = owners.from_text(found)
  guard = path.with_name(f"{path.name}.{holder.token if holder else 'unreadable'}")
  mine = owners.this_process()
  if not _take(guard, mine, stale_after):
    return False
  try:
    if _text(path) != found:
      return False
    os.replace(draft, path)
    return True
  except FileNotFoundError:
    return False
  finally:
    _release(guard, mine)


def _link(draft: Path, path: Path) -> bool:
  """Makes `draft` also the lock, if there is none: exactly one process succeeds."""
  try:
    os.link(draft, path)
    return True
  except FileExistsError:
    # A reply of NFS may be lost and the request repeated: then it was ours that was there.
    return draft.stat().st_nlink > 1
  except OSError as error:
    if error.errno not in _NO_HARD_LINKS:
      raise
  try:
    with path.open("x") as file:
      file.write(draft.read_text())
    return True
  except FileExistsError:
    return False


def _renew(held: Held, heartbeat: float, ended: threading.Event) -> None:
  while not ended.wait(heartbeat):
    # A file server may be away for a moment: the next renewal counts.
    with contextlib.suppress(OSError):
      if owner(held.path) != held.owner:
        held.lost.set()
        return
      os.utime(held.path)


def _release(path: Path, me: Owner) -> None:
  """Gives a lock back, unless it is somebody else's by now."""
  if owner(path) == me:
    path.unlink(missing_ok=True)
