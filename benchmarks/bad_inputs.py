"""What becomes of every bad input that the tests know, as a table.

    python benchmarks/bad_inputs.py [--out=docs/results]

Each input of tests/fuzz is given to the library beside a finished run: its error, the first line of
the message, and whether every finished file is as it was. Writes bad_inputs.json and .md; exits 1
where one of them does not end in the documented error, or has touched a finished file.
"""

import argparse
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gencls.evaluation.results import portable_command
from gencls.report.table import grid
from gencls.workdir import atomic_write, provenance, to_json

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 160  # characters of a message in the table


def measure() -> dict[str, Any]:
  """Tries every bad input."""
  sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]
  finished, cases = (importlib.import_module(name) for name in ("finished", "cases"))
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    run = Path(folder) / "run"
    loaded = finished.make(run)
    for number, case in enumerate(cases.CASES):
      scene = finished.scene(run, loaded, Path(folder) / str(number))
      found = cases.outcome(case, scene)
      message = found.message.replace(folder, "").replace(str(ROOT), "")
      rows.append({"input": case.title, **found._asdict(), "message": message})
  record = provenance()
  record["command"] = portable_command(record["command"])
  return {"rows": rows, "record": record}


def markdown(record: Mapping[str, Any]) -> str:
  """The counts, and a row for each input."""
  rows = record["rows"]
  kinds = Counter(row["error"] or "nothing" for row in rows)
  counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
  lines = [
    [row["input"], row["error"] or "nothing", _short(row["message"]), _yes(row["unchanged"])]
    for row in rows
  ]
  made_by, share = record["record"], f"of {len(rows)}"
  return (
    f"# {len(rows)} bad inputs\n\n"
    f"{sum(row['expected'] for row in rows)} {share} end in the documented error, its message with "
    f"the rule's name and the value ({counts}; a warning where an older checkpoint takes the place "
    f"of a damaged one). {sum(row['unchanged'] for row in rows)} {share} leave every finished file "
    f"as it was.\n\n`{made_by['command']}`, revision {made_by['git']['revision']}. Messages are "
    f"cut off at {LONGEST} characters.\n\n"
    f"{grid(['input', 'error', 'message', 'finished files unchanged'], lines)}\n"
  )


def _yes(value: bool) -> str:
  return "yes" if value else "**no**"


def _short(message: str) -> str:
  line = (message.splitlines() or [""])[0].replace("|", "\\|")
  return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def main() -> None:
  """Tries them all and writes the table; exits 1 where one is not as it must be."""
  parser = argparse.ArgumentParser(description="what becomes of bad inputs")
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  out = parser.parse_args().out
  record = measure()
  atomic_write(out / "bad_inputs.json", to_json(record))
  text = markdown(record)
  atomic_write(out / "bad_inputs.md", text)
  print(text.split("\n\n")[1])
  wrong = [r["input"] for r in record["rows"] if not (r["expected"] and r["unchanged"])]
  if wrong:
    sys.exit(f"not as they must be: {', '.join(wrong)}")


if __name__ == "__main__":
  main()
