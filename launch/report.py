"""Puts several evaluated models side by side: a table, two figures and one JSON.

  python launch/report.py --workdirs=runs/gfz,runs/cnn --name=fgsm_pgd --out=docs/results

Leaves <out>/<name>.md, .json, _worst_case.png and _success_rate.png, and prints the table. The
models must have been evaluated on the same images by the same protocol. Two evaluations of one run
stand side by side as --workdirs=runs/cvae:nearest,runs/cvae:log_mean_exp. The folder of a sweep,
finished or not, stands for all its runs that have the evaluation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import app, flags

from gencls import sweep
from gencls.report import compare

WORKDIRS = flags.DEFINE_list(
  "workdirs",
  None,
  "Folders of evaluated runs or of sweeps, or folder:evaluation, comma between.",
  required=True,
)
NAME = flags.DEFINE_string("name", None, "Name of the evaluation.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
ATTACK = flags.DEFINE_string(
  "attack", None, "Attack of the success-rate figure; the first if unset."
)


def main(argv: list[str]) -> None:
  """Reads the flags, writes the comparison and prints its table."""
  given = [*(WORKDIRS.value or []), *argv[1:]]
  workdirs = [each for text in given for each in sweep.workdirs(text, NAME.value)]
  summaries = compare.write(workdirs, NAME.value, Path(OUT.value), ATTACK.value)
  print(compare.headline(summaries))
  print(f"Written to {OUT.value}/{NAME.value}.md")


if __name__ == "__main__":
  app.run(main)
