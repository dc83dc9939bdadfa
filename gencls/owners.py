"""Who holds a lock: a process, told apart from every other that had or will have its number.

A process number alone says little: it is used again, and other hosts and containers have their own
processes of that number. With the machine (one start of one kernel, and there the table that
numbers the process) and the time the process started it is one process for ever.
"""

import functools
import json
import os
import secrets
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

_MOST_PROCESSES = 2**31  # what the system can ask about


class Owner(NamedTuple):
  """A process, and which of its locks."""

  host: str  # for people
  machine: str  # where `pid` means this process
  pid: int
  started: str  # as the system says it; "" where it does not
  token: str  # of one lock


def this_process() -> Owner:
  """The process that asks, with a token of its own at each call."""
  pid = os.getpid()
  return Owner(socket.gethostname(), _machine(), pid, started(pid) or "", secrets.token_hex(6))


def describe(owner: Owner | None) -> str:
  """For example "process 4711 on node3"."""
  return "another process" if owner is None else f"process {owner.pid} on {owner.host}"


def to_text(owner: Owner) -> str:
  """One line of JSON."""
  return json.dumps(owner._asdict()) + "\n"


def from_text(text: str) -> Owner | None:
  """What `to_text` wrote; None if it is not that (cut off by a full disk, damaged)."""
  try:
    found = Owner(**json.loads(text))
  except (ValueError, TypeError, RecursionError):
    return None
  words = all(isinstance(each, str) for each in found._replace(pid=""))
  # The system would take other numbers for groups of processes, the token names a file.
  number = type(found.pid) is int and 0 < found.pid < _MOST_PROCESSES
  return found if words and number and found.token.isalnum() else None


def is_dead(owner: Owner) -> bool | None:
  """Whether a process has ended for certain; None if that cannot be told from here."""
  if owner.machine != _machine():
    return None
  try:
    os.kill(owner.pid, 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass  # it exists and is somebody else's
  now = started(owner.pid)
  if now is None or not owner.started:
    return None  # hidden from us, or it has just ended
  return now != owner.started


def started(pid: int) -> str | None:
  """When a process started, in words that are compared and not read; None if there is none.

  A process that has ended and waits for its parent to notice (a zombie) is none.
  """
  stat = Path(f"/proc/{pid}/stat")
  if Path("/proc/self/stat").exists():
    try:
      # The name, the second field, may hold spaces and brackets itself.
      state, *fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
      return None
    return "ended" if state in "ZX" else fields[18]
  asked = subprocess.run(
    ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
  )
  return asked.stdout.strip() or None


@functools.cache
def _machine() -> str:
  """This start of this kernel and this container's processes; elsewhere than Linux, the host."""
  try:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return socket.gethostname()
