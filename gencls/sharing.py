"""Several processes share a list of work: each does what no other has done or is doing."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gencls import locks

Item = TypeVar("Item")

POLL = 1.0  # seconds between two looks at what others are doing


def share(
  items: Sequence[Item],
  make: Callable[[Item, locks.Held], None],
  *,
  lock_path: Callable[[Item], Path],
  done: Callable[[Item], bool],
  ready: Callable[[Item], bool] = lambda item: True,
  waiting: Callable[[Sequence[Item]], None] = lambda items: None,
  poll: float = POLL,
) -> None:
  """Makes what is not done yet, one item at a time under its lock, and returns when all is done.

  What another process is making is passed over and waited for at the end; if that process dies, its
  item is made here.

  Args:
    items: in the order in which they are to be made.
    make: (item, its lock) makes it; `done` is True afterwards, or it raises.
    lock_path: where an item's lock lies.
    done: whether nothing is left to do; looked at again under the lock.
    ready: whether what an item needs is done.
    waiting: called with the items that are left, before each pause.
    poll: seconds of a pause.
  """
  left = list(items)
  while left := [item for item in left if not done(item)]:
    made = False
    for item in left:
      if done(item) or not ready(item):
        continue
      with locks.attempt(lock_path(item)) as held:
        if held is None:
          continue
        if not done(item):
          make(item, held)
        made = True
    if not made:
      waiting(left)
      time.sleep(poll)
