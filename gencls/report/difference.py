"""Two runs on the same images: the differences of their accuracies, with paired intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gencls import columns, stored
from gencls.paired import paired_interval
from gencls.report import compare, html, table, views
from gencls.report.checks import WORST
from gencls.report.reading import Entry
from gencls.workdir import atomic_write, to_json


def rows(first: Entry, second: Entry) -> list[dict[str, Any]]:
  """Clean accuracy, and the worst case at each norm and eps that both have.

  Returns:
    Rows {what, norm, eps, first, second (mean shares), difference, partial}, JSON-able; `partial`
    says that attacks are missing.

  Raises:
    ValueError: if the runs were not evaluated on the same images in the same way, or one of them
      has not been graded yet.
  """
  compare.check_comparable({entry.title: entry.summary for entry in (first, second)})
  return between(
    first, second, *(columns.columns(stored.read(e.workdir, e.name)) for e in (first, second))
  )


def between(
  first: Entry, second: Entry, one: columns.Results, two: columns.Results
) -> list[dict[str, Any]]:
  """`rows` of comparable runs whose columns have been read."""
  return [_row(one, two, columns.CLEAN, "", 0.0, False), *_worst_rows(first, second, one, two)]


def _worst_rows(
  first: Entry, second: Entry, one: columns.Results, two: columns.Results
) -> list[dict[str, Any]]:
  found = []
  partial = [
    {(r["norm"], r["eps"]): bool(r["missing"]) for r in entry.summary["worst"] if r["accuracy"]}
    for entry in (first, second)
  ]
  for norm, eps in sorted(partial[0].keys() & partial[1].keys()):
    missing = any(each[norm, eps] for each in partial)
    found.append(_row(one, two, WORST, norm, eps, missing))
  return found


def _row(
  one: columns.Results, two: columns.Results, what: str, norm: str, eps: float, partial: bool
) -> dict[str, Any]:
  a, b = (columns.at(results, what, norm, eps) for results in (one, two))
  if not (np.array_equal(a.example, b.example) and np.array_equal(a.label, b.label)):
    raise ValueError(
      f"the runs were not evaluated on the same images at {what} {norm} {eps:g}: evaluate both "
      "with the same config"
    )
  return {
    "what": what,
    "norm": norm,
    "eps": eps,
    "first": float(np.mean(a.counted)),
    "second": float(np.mean(b.counted)),
    "difference": paired_interval(a.counted, b.counted)._asdict(),
    "partial": partial,
  }


def points(difference: dict[str, Any]) -> str:
  """A difference in percentage points, as "+16.4 [+12.1, +20.5]"."""
  mean, low, high = (100 * difference[name] for name in ("mean", "low", "high"))
  return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def verdict(difference: dict[str, Any], titles: Sequence[str]) -> str:
  """Which model is ahead as far as the interval tells."""
  if difference["low"] > 0:
    return f"{titles[0]} is ahead"
  if difference["high"] < 0:
    return f"{titles[1]} is ahead"
  return "no difference shown"


def where(row: dict[str, Any]) -> str:
  """For example "clean" or "worst case linf 0.1"."""
  text = f"{row['what']} {row['norm']} {row['eps']:g}" if row["norm"] else row["what"]
  return text + " *" * row["partial"]


def markdown(found: Sequence[dict[str, Any]], titles: Sequence[str]) -> str:
  """The table of differences."""
  header = ["accuracy, %", *titles, "difference, points", "only the first, the second right",
            "95% interval"]  # fmt: skip
  lines = [
    [
      where(row),
      f"{100 * row['first']:.1f}",
      f"{100 * row['second']:.1f}",
      points(row["difference"]),
      f"{row['difference']['first_better']}, {row['difference']['second_better']}",
      verdict(row["difference"], titles),
    ]
    for row in found
  ]
  return table.grid(header, lines)


def write(workdirs: Sequence[str | Path], name: str, out: Path | None, made_by: Any) -> str:
  """Compares two runs; returns the Markdown.

  Args:
    workdirs: two folders of evaluated runs, each with ":<evaluation>" behind it or not.
    name: of the evaluation.
    out: gets <name>_difference.md, .json and .html; None: nothing is written.
    made_by: from `views.record`, of the comparison itself.

  Raises:
    ValueError: if there are not two runs, or they cannot be compared.
  """
  if len(workdirs) != 2:
    raise ValueError(f"--compare takes two work directories, got {len(workdirs)}: {workdirs}")
  entries = compare.gather(workdirs, name)
  titles, found = [entry.title for entry in entries], rows(*entries)
  first = entries[0].summary
  star = "\n\n\\* some attacks have not been run yet." if any(r["partial"] for r in found) else ""
  text = (
    f"# {titles[0]} minus {titles[1]}\n\n{name}, the first {first['num_images']} "
    f"{first['data']['split']} images of {first['data']['name']}, the same for both. Intervals: "
    f"{found[0]['difference']['method']}, 95%; each row by itself.\n\n"
    f"{markdown(found, titles)}{star}\n"
  )
  if out is not None:
    atomic_write(out / f"{name}_difference.md", text)
    atomic_write(out / f"{name}_difference.json", to_json({"titles": titles, "rows": found}))
    shown = [
      {**row, "where": where(row), "text": points(row["difference"]),
       "verdict": verdict(row["difference"], titles)}
      for row in found
    ]  # fmt: skip
    page = html.difference_page(shown, titles, name, first, made_by, views.sources(entries))
    atomic_write(out / f"{name}_difference.html", page)
  return text
