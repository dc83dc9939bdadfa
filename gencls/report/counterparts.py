"""Is a generative classifier more robust than its discriminative counterpart, and at what cost?

The worst case of each pair at every norm and eps, on the same images, with paired intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gencls import paired
from gencls.markdown import grid
from gencls.report import bounds, comparable, compare, difference, verdicts
from gencls.report import published as papers
from gencls.report.reading import Entry
from gencls.report.runtimes import device_of
from gencls.report.table import failed, gradient_sentence
from gencls.report.verdicts import AHEAD
from gencls.workdir import atomic_write, to_json


def pairs(published: Mapping[str, Any], entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """Every pair of the paper's whose models were evaluated; versions with its mistakes are left out.

  Args:
    published: with `counterparts`: a model of the paper, or one of `roles`, -> its counterparts.
    entries: evaluated as hard as we can, on the same images.

  Returns:
    {first, second (titles), rows (of `difference.between`), cost (see `_cost`; None where no attack
    can be compared), failed (title -> checks)}, JSON-able.

  Raises:
    ValueError: if two were not evaluated on the same images in the same way.
  """
  right = _right(published, entries)
  if right:
    comparable.check({entry.title: entry.summary for entry in right})
  names = {entry.title: papers.role(published, entry.title, entry.summary) for entry in right}
  found = []
  for first in right:
    wanted = published.get("counterparts", {}).get(names[first.title], ())
    for second in (entry for entry in right if names[entry.title] in wanted):
      found.append({
        "first": first.title,
        "second": second.title,
        "rows": difference.between(first, second),
        "cost": _cost(first, second),
        "failed": {e.title: failed(e.summary) for e in (first, second)},
      })  # fmt: skip
  return found


def not_met(published: Mapping[str, Any], entries: Sequence[Entry]) -> list[str]:
  """The generative models that have counterparts, and are not among the right versions here."""
  met = {papers.role(published, entry.title, entry.summary) for entry in _right(published, entries)}
  return [name for name in published.get("counterparts", {}) if name not in met]


def _right(published: Mapping[str, Any], entries: Sequence[Entry]) -> list[Entry]:
  """Those that are graded, without the versions that have the paper's mistakes."""
  graded = [e for e in entries if e.summary["clean"] and e.summary["untouched"]]
  return [e for e in graded if not papers.as_published(published, e.title, e.summary)]


def _cost(first: Entry, second: Entry) -> float | None:
  """How many times the seconds of the second's attacks the first's take: the median attack.

  Of each attack its median over eps, of the cells that both have made on the same device: one cell
  that was held up, or found little to do, decides nothing.
  """
  one, two = _seconds(first), _seconds(second)
  by_attack: dict[tuple[str, str], list[tuple[float, float]]] = {}
  for key in one:
    if key in two:
      by_attack.setdefault(key[:2], []).append((one[key], two[key]))
  medians = [
    [median(seconds) for seconds in zip(*cells, strict=True)] for cells in by_attack.values()
  ]
  ratios = [a / b for a, b in medians if b > 0]
  return median(ratios) if ratios else None


def _seconds(entry: Entry) -> dict[tuple[str, str, float, str], float]:
  """(label, norm, eps, device) -> seconds of a cell on all images, not read off another one."""
  made = [*entry.summary["rows"], *entry.summary.get("minimum", ())]
  return {
    (row["label"], row["norm"], row["eps"], device): row["seconds"]
    for row in made
    if "attack" in row and "derived" not in row and "handed_on" not in row
    if (device := device_of(row, entry.summary)) is not None
  }


def markdown(
  found: Sequence[Mapping[str, Any]], published: Mapping[str, Any], entries: Sequence[Entry]
) -> str:
  """The page: the answer, who is ahead at each budget, then the differences behind it."""
  absent = ", ".join(not_met(published, entries))
  shown = {title for pair in found for title in (pair["first"], pair["second"])}
  summaries = {entry.title: entry.summary for entry in entries if entry.title in shown}
  summary = entries[0].summary
  data, n = summary["data"], summary["num_images"]
  parts = [
    "# Are the generative classifiers more robust than their counterparts?",
    f"The question of {published['source']}, answered by the per-example worst case over the "
    f"attacks of `{summary['name']}`: the first {n:,} {data['split']} images of {data['name']}, "
    f"the same for both of a pair.{f' Not among them: {absent}.' * bool(absent)}",
    verdicts.in_words(found),
    _verdicts(found),
    "Ahead or behind: the 95% interval of the difference leaves out zero; =: it does not, and no "
    f"difference is shown; {verdicts.LOST}: of both, and no lead is of use"
    f"{_partial_words(found)} ({paired.METHOD}; each "
    f"by itself, {_count(found)} of them, so that one in forty would be ahead by chance "
    f"alone{_unpaired_words(found)}). A lead may be no more than "
    f"that of clean accuracy.{comparable.left_out_sentence(summaries)} "
    f"{bounds.sentence(summaries)} {bounds.threats(summary)} Cost: seconds "
    "over the counterpart's, of the median attack that both have met on the same device (of each "
    "its median eps); attacks stop early, so that a model that breaks soon is cheap."
    f"{gradient_sentence(summaries)}",
    compare.failed(summaries).strip(),
    *(_table(found, norm) for norm in _norms(found)),
    "In brackets the two accuracies; \\* some attacks have not been run yet.",
    compare.not_run(summaries).strip(),
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def _unpaired(pair: Mapping[str, Any]) -> bool:
  return pair["rows"][0]["difference"]["method"] == paired.UNPAIRED


def _unpaired_words(found: Sequence[Mapping[str, Any]]) -> str:
  if not any(_unpaired(pair) for pair in found):
    return ""
  return (
    f"; where it says unpaired, an older file does not say which images are right: "
    f"{paired.UNPAIRED}, which leaves out that the images are the same and is wider as a rule"
  )


def _partial_words(found: Sequence[Mapping[str, Any]]) -> str:
  told = {kind for pair in found for kind in verdicts.of_pair(pair).values()}
  words = f"; {verdicts.PARTIAL}: attacks that are missing could change it"
  return words * (verdicts.PARTIAL in told)


def _count(found: Sequence[Mapping[str, Any]]) -> int:
  return sum(bool(row["norm"]) for pair in found for row in pair["rows"])


def _norms(found: Sequence[Mapping[str, Any]]) -> list[str]:
  return list(dict.fromkeys(row["norm"] for pair in found for row in pair["rows"]))


def _verdicts(found: Sequence[Mapping[str, Any]]) -> str:
  """A row for each pair: clean difference, who is ahead at each budget, cost."""
  places = sorted({at for pair in found for at in verdicts.of_pair(pair)})
  header = ["", "against", "clean, points", *(f"{norm} {eps:g}" for norm, eps in places), "cost"]
  rows = []
  for pair in found:
    told = verdicts.of_pair(pair)
    (clean,) = (row for row in pair["rows"] if not row["norm"])
    cells = [f"**{AHEAD}**" if told.get(at) == AHEAD else told.get(at, "-") for at in places]
    second = pair["second"] + " (unpaired)" * _unpaired(pair)
    cost = "-" if pair["cost"] is None else f"{verdicts.ratio(pair['cost'])} times"
    rows.append([pair["first"], second, difference.points(clean["difference"]), *cells, cost])
  return grid(header, rows)


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
  return f"{difference.points(row['difference'])} ({accuracies})" + " *" * bool(row["partial"])


def write(
  published: Mapping[str, Any], entries: Sequence[Entry], path: Path, made_by: Mapping[str, Any]
) -> bool:
  """Writes the page and its numbers, <path>.md and <path>.json.

  Returns:
    Whether there is a pair; if not, no page is left either.
  """
  found = pairs(published, entries)
  page, numbers = (path.with_name(f"{path.name}{suffix}") for suffix in (".md", ".json"))
  if not found:
    page.unlink(missing_ok=True)
    numbers.unlink(missing_ok=True)
    return False
  summary = entries[0].summary
  head = {name: summary[name] for name in ("name", "num_images", "data", "protocol", "attacks")}
  record = {"evaluation": head, "source": published["source"], "made_by": made_by, "pairs": found}
  atomic_write(numbers, to_json(record))
  atomic_write(page, markdown(found, published, entries))
  return True
