"""Puts evaluated runs side by side, finished or not: one HTML page, and tables and figures.

  python launch/report.py --workdirs=runs/gfz,runs/cnn --out=docs/results
  python launch/report.py --workdirs=runs/gfz,runs/cnn --name=fgsm_pgd --out=docs/results
  python launch/report.py --compare runs/gfz runs/cnn --name=fgsm_pgd --out=docs/results

Leaves <out>/report.html, which opens from disk without a network, and for each evaluation
<out>/<name>.md, .json, _worst_case.png, _success_rate.png, _one_image.png, and with more than two
attacks _attacks.png; without --name for all evaluations of the runs. The models must have been
evaluated on the same images by the same protocol. Two evaluations of one run stand side by side as
--workdirs=runs/cvae:nearest,runs/cvae:log_mean_exp.
The folder of a sweep, finished or not, stands for all its runs that have something to report, and
the <name>.json of an earlier report for all its models, whether or not their runs are still there:

  python launch/report.py --workdirs=docs/results/nus.json,runs/new --name=nus_probabilities \\
    --file=nus --out=docs/results

A run stands in the place of the same model in such a file, unless it is less finished.
docs/results/nus.json:MLP is one model of it.

--published=docs/published/deep_bayes_mnist.json puts the paper's table beside ours, and
--honest=<evaluation> a third row below: the same runs under that evaluation, with its worst case,
whose own report is written too. <name>_claims.md puts what the paper claims beside what holds;
where it holds models against each other, <name>_answer.md does so by that worst case. --file=nus
calls the files nus instead of <name>.

--compare prints the differences of two runs with paired intervals (unpaired ones where one is a
model of a results file), and with --out leaves <name>_difference.md, .json and .html.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import app, flags

from gencls import sweep
from gencls.logs import show_log
from gencls.report import claims, compare, counterparts, difference, html, merging, published, views
from gencls.report.reading import Entry
from gencls.workdir import atomic_write, provenance

WORKDIRS = flags.DEFINE_list(
  "workdirs",
  None,
  "Folders of evaluated runs or of sweeps, folder:evaluation, or results files; comma between.",
)
COMPARE = flags.DEFINE_list("compare", None, "Two of what --workdirs takes.")
NAME = flags.DEFINE_string("name", None, "Name of the evaluation; every one if unset.")
FILE = flags.DEFINE_string("file", None, "What the files of --name are called; its name if unset.")
OUT = flags.DEFINE_string("out", None, "Folder to write to.")
PUBLISHED = flags.DEFINE_string(
  "published", None, "File of a paper's numbers to put beside ours, as docs/published/*.json."
)
HONEST = flags.DEFINE_string(
  "honest", None, "Evaluation of the same runs, as hard as can be: a third row beside --published."
)
ATTACK = flags.DEFINE_string(
  "attack", None, "Attack of the success-rate figure; the strongest if unset."
)


def gather(workdirs: list[str], name: str | None) -> dict[str, list[Entry]]:
  """Evaluation -> the runs that have it; of all evaluations where no name is given.

  Raises:
    FileNotFoundError: if a run has no such evaluation, or none at all.
    ValueError: if runs under one evaluation cannot be compared.
  """
  if name is not None:
    return {name: compare.gather(workdirs, name)}
  there = {workdir: merging.evaluations(workdir) for workdir in workdirs}
  empty = [workdir for workdir, names in there.items() if not names]
  if empty:
    raise FileNotFoundError(
      f"no evaluation in {', '.join(empty)}. Make one: launch/evaluate.py --workdir={empty[0]} "
      "--config=configs/attacks/<name>.py"
    )
  names = dict.fromkeys(name for found in there.values() for name in found)
  return {n: compare.gather([w for w in workdirs if n in there[w]], n) for n in names}


def write(
  workdirs: list[str],
  name: str | None,
  out: Path,
  attack: str | None,
  paper: str | None = None,
  honest: str | None = None,
  file: str | None = None,
) -> None:
  """Writes everything and prints the tables."""
  numbers, made_by = published.read(paper) if paper else None, views.record(provenance())
  written: dict[str, list[Entry]] = {}  # by what the files are called
  for each, entries in gather(workdirs, name).items():
    stem = file or each
    hard = compare.gather_beside(entries, honest, workdirs) if honest else []
    summaries = compare.write(entries, stem, out, attack, numbers, hard)
    written[stem] = entries
    if honest and hard and numbers:
      compare.write(hard, honest, out)
      written[honest] = hard
      counterparts.write(numbers, hard, out / f"{stem}_answer", made_by)
    if honest and numbers:
      held = {entry.title: entry.summary for entry in hard}
      claims.write(numbers, summaries, held, out / f"{stem}_claims.md")
    print(f"{each}\n\n{compare.headline(summaries)}\n\n{compare.not_run(summaries)}", end="")
  page = html.page(written, made_by)
  atomic_write(out / "report.html", page)
  print(f"Written to {out}: report.html ({len(page.encode()) / 1e6:.1f} MB), {', '.join(written)}")


def main(argv: list[str]) -> None:
  """Reads the flags, writes the report or the comparison of two runs, and prints its table."""
  show_log()
  out = None if OUT.value is None else Path(OUT.value)
  if COMPARE.value is not None:
    if WORKDIRS.value or NAME.value is None:
      raise app.UsageError("--compare takes two runs and --name, and no --workdirs")
    made_by = views.record(provenance())
    print(difference.write([*COMPARE.value, *argv[1:]], NAME.value, out, made_by))
    return
  given = [*(WORKDIRS.value or []), *argv[1:]]
  workdirs = [each for text in given for each in sweep.workdirs(text, NAME.value)]
  if PUBLISHED.value is not None and NAME.value is None:
    raise app.UsageError("--published belongs to one evaluation: set --name")
  if FILE.value is not None and NAME.value is None:
    raise app.UsageError("--file is the name of one evaluation's files: set --name")
  if HONEST.value is not None and PUBLISHED.value is None:
    raise app.UsageError("--honest stands beside a paper's numbers: set --published")
  if not workdirs or out is None:
    raise app.UsageError("set --workdirs (folders of evaluated runs) and --out")
  write(workdirs, NAME.value, out, ATTACK.value, PUBLISHED.value, HONEST.value, FILE.value)


if __name__ == "__main__":
  app.run(main)
