"""Is a generative classifier more robust than its discriminative counterpart, and at what cost?

The worst case of each pair at every norm and eps, on the same images, with paired intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.report import difference
from gencls.report import published as papers
from gencls.report.grid import grid
from gencls.report.reading import Entry
from gencls.workdir import atomic_write, to_json

AHEAD, BEHIND, UNDECIDED = "ahead", "behind", "no difference shown"


def pairs(published: Mapping[str, Any], entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """Every pair of the paper's that was evaluated.

  Args:
    published: with `counterparts`: a model of the paper -> its counterparts.
    entries: evaluated as hard as we can, on the same images.

  Returns:
    Rows {first, second (titles), rows (of `difference.rows`), cost: the first's seconds for all
    attacks over the second's}, JSON-able.

  Raises:
    ValueError: if two were not evaluated on the same images in the same way.
  """
  found, names = [], papers.names(published, {entry.title: entry.summary for entry in entries})
  for first in entries:
    for second in entries:
      wanted = published.get("counterparts", {}).get(names.get(first.title, ""), ())
      if names.get(second.title) in wanted:
        found.append({
          "first": first.title,
          "second": second.title,
          "rows": difference.rows(first, second),
          "cost": _seconds(first) / _seconds(second),
        })  # fmt: skip
  return found


def _seconds(entry: Entry) -> float:
  return sum(row["seconds"] for row in entry.summary["rows"])


def verdict(row: Mapping[str, Any]) -> str:
  """What the interval of one difference tells."""
  if row["difference"]["low"] > 0:
    return AHEAD
  return BEHIND if row["difference"]["high"] < 0 else UNDECIDED


def markdown(found: Sequence[Mapping[str, Any]], source: str, summary: Mapping[str, Any]) -> str:
  """The page: a sentence for each pair, then the differences behind it."""
  data, n = summary["data"], summary["num_images"]
  lines = [
    "# Are the generative classifiers more robust than their counterparts?",
    f"The question of {source}, answered by the per-example worst case over the attacks of "
    f"`{summary['name']}`: the first {n:,} {data['split']} images of {data['name']}, the same for "
    "both of a pair. A model is ahead or behind at a budget where the paired 95% interval of the "
    "difference leaves out zero. Cost: seconds of the whole evaluation over the counterpart's; "
    "attacks stop early, so that a model that breaks soon is cheap.",
  ]
  lines += ["\n".join(f"- {_sentence(pair)}" for pair in found)]
  for norm in dict.fromkeys(row["norm"] for pair in found for row in pair["rows"]):
    lines.append(_table(found, norm))
  return "\n\n".join(lines) + "\n"


def _sentence(pair: Mapping[str, Any]) -> str:
  attacked = [row for row in pair["rows"] if row["norm"]]
  told = []
  for kind in (AHEAD, UNDECIDED, BEHIND):
    where = [f"{row['norm']} {row['eps']:g}" for row in attacked if verdict(row) == kind]
    if where:
      told.append(f"{kind} at {', '.join(where)}")
  (clean,) = (row for row in pair["rows"] if not row["norm"])
  return (
    f"**{pair['first']}** against {pair['second']}: {'; '.join(told)}. Clean "
    f"{difference.points(clean['difference'])} points; cost {pair['cost']:.2g} times."
  )


def _table(found: Sequence[Mapping[str, Any]], norm: str) -> str:
  radii = sorted({row["eps"] for pair in found for row in pair["rows"] if row["norm"] == norm})
  rows = []
  for pair in found:
    own = {row["eps"]: row for row in pair["rows"] if row["norm"] == norm}
    cells = [_cell(own[eps]) if eps in own else "-" for eps in radii]
    rows.append([f"{pair['first']} minus {pair['second']}", *cells])
  header = [f"{norm or 'clean'}, points", *(f"{eps:g}" if norm else "" for eps in radii)]
  return grid(header, rows)


def _cell(row: Mapping[str, Any]) -> str:
  accuracies = f"{100 * row['first']:.1f}, {100 * row['second']:.1f}"
  return f"{difference.points(row['difference'])} ({accuracies})" + " *" * row["partial"]


def write(published: Mapping[str, Any], entries: Sequence[Entry], path: Path) -> None:
  """Writes the page and its numbers, <path>.md and <path>.json; nothing where there is no pair."""
  found = pairs(published, entries)
  if found:
    atomic_write(path.with_suffix(".json"), to_json(found))
    text = markdown(found, published["source"], entries[0].summary)
    atomic_write(path.with_suffix(".md"), text)
