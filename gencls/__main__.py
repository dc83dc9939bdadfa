"""The command `gencls`, also `python -m gencls`.

gencls doctor     looks at versions, devices, data and a self-test; exit code 1 if anything fails
"""

import argparse
import sys
from collections.abc import Sequence

from gencls import doctor


def _doctor() -> int:
  print("gencls doctor\n")
  return doctor.run()


COMMANDS = {"doctor": _doctor}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns its exit code.

  Args:
    argv: without the program's name; None: those of the process.
  """
  parser = argparse.ArgumentParser(prog="gencls", description=__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument("command", choices=sorted(COMMANDS))
  return COMMANDS[parser.parse_args(argv).command]()


if __name__ == "__main__":
  sys.exit(main())
