"""Two runs on the same images: the differences of their accuracies, with paired intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls.evaluation.cells import CLEAN
from gencls.paired import paired_interval, unpaired_interval
from gencls.report import comparable, compare, detection_table, html, table, views
from gencls.report.reading import Entry
from gencls.summary import shares
from gencls.summary.checks import HELD, WORST
from gencls.workdir import atomic_write, to_json


def rows(first: Entry, second: Entry) -> list[dict[str, Any]]:
  """Clean accuracy, and the worst case at each norm and eps that both have.

  Where both have a detector, the worst case by what is right or rejected too (`held`). Paired over
  images where the results of both say which are right, else (older results files) by their two
  intervals.

  Returns:
    Rows {what, norm, eps, first, second (mean shares), difference, partial}, JSON-able; `partial`
    lists whose attacks are missing: of "first", "second", both or neither.

  Raises:
    ValueError: if the runs were not evaluated on the same images in the same way, or one of them
      has not been graded yet.
  """
  comparable.check({entry.title: entry.summary for entry in (first, second)})
  return [*between(first, second), *held(first, second)]


def between(first: Entry, second: Entry) -> list[dict[str, Any]]:
  """The accuracies among `rows`, of comparable runs."""
  a, b = (_shares(entry) for entry in (first, second))
  return [
    _row(a["", 0.0], b["", 0.0], CLEAN, "", 0.0, ()),
    *[_row(a[at], b[at], WORST, *at, missing) for at, missing in _places(first, second)],
  ]


def held(first: Entry, second: Entry) -> list[dict[str, Any]]:
  """The shares that are right or rejected by each model's own detector in the worst case over all.

  Empty unless both models have a detector, and met attacks on it too.
  """
  a, b = (_held_shares(entry) for entry in (first, second))
  partial = dict(_places(first, second))
  return [_row(a[at], b[at], HELD, *at, partial.get(at, ())) for at in sorted(a.keys() & b.keys())]


class Share(NamedTuple):
  """What a model keeps at one place."""

  interval: Mapping[str, Any]  # {mean, low, high, n}
  images: np.ndarray | None  # [N] of each image; None where an older file does not say


def _share(interval: Mapping[str, Any], row: Mapping[str, Any]) -> Share:
  return Share(interval, shares.unpack(row["counted"]) if "counted" in row else None)


def _held_shares(entry: Entry) -> dict[tuple[str, float], Share]:
  """(norm, eps) -> one less the share that evades in the worst case over both kinds of attacks."""
  found = entry.summary.get("detection")  # older files have none
  evading = detection_table.worst(found).get("either", {}) if found else {}
  images = {
    (row["norm"], row["eps"]): 1 - shares.unpack(row["counted"])
    for row in (found["worst"] if found else ())
    if row["kind"] == "either" and "counted" in row
  }
  return {
    at: Share(
      {**each, "mean": 1 - each["mean"], "low": 1 - each["high"], "high": 1 - each["low"]},
      images.get(at),
    )
    for at, each in evading.items()
  }


def _shares(entry: Entry) -> dict[tuple[str, float], Share]:
  """The accuracies: ("", 0) clean, else the worst case at (norm, eps)."""
  clean = entry.summary["clean"]
  if clean is None:
    raise ValueError(f"{entry.title!r} has no clean accuracy yet: finish its evaluation")
  worst = [row for row in entry.summary["worst"] if row["accuracy"]]
  found = {(row["norm"], row["eps"]): _share(row["accuracy"], row) for row in worst}
  return {("", 0.0): _share(clean["accuracy"], clean), **found}


def _places(first: Entry, second: Entry) -> list[tuple[tuple[str, float], list[str]]]:
  """The (norm, eps) at which both have a worst case, and which of them lacks attacks there."""
  missing = {
    side: {(r["norm"], r["eps"]): r["missing"] for r in entry.summary["worst"] if r["accuracy"]}
    for side, entry in (("first", first), ("second", second))
  }
  both = sorted(missing["first"].keys() & missing["second"].keys())
  return [(place, [side for side in missing if missing[side][place]]) for place in both]


def _row(
  one: Share, two: Share, what: str, norm: str, eps: float, partial: Sequence[str]
) -> dict[str, Any]:
  if one.images is None or two.images is None:
    found = unpaired_interval(one.interval, two.interval)
  else:
    found = paired_interval(one.images, two.images)
  return {
    "what": what,
    "norm": norm,
    "eps": eps,
    "first": one.interval["mean"],
    "second": two.interval["mean"],
    "difference": found._asdict(),
    "partial": list(partial),
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


def _alone(difference: dict[str, Any]) -> str:
  """The images that only the first, and that only the second has right."""
  counts = [difference[name] for name in ("first_better", "second_better")]
  return "-" if None in counts else ", ".join(map(str, counts))


def where(row: dict[str, Any]) -> str:
  """For example "clean" or "worst case linf 0.1"."""
  text = f"{row['what']} {row['norm']} {row['eps']:g}" if row["norm"] else row["what"]
  return text + ", right or rejected" * (row["what"] == HELD) + " *" * bool(row["partial"])


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
      _alone(row["difference"]),
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
  if len(entries) != 2:
    every = ", ".join(entry.title for entry in entries)
    raise ValueError(
      f"--compare takes two models, got {len(entries)}: {every}; one of a results file is "
      "<file>.json:<title>"
    )
  titles, found = [entry.title for entry in entries], rows(*entries)
  first = entries[0].summary
  detectors = views.detectors(entries)
  told = "".join(f"\n\n{each['model']}. {each['words']}" for each in detectors)
  star = "\n\n\\* some attacks have not been run yet." if any(r["partial"] for r in found) else ""
  text = (
    f"# {titles[0]} minus {titles[1]}\n\n{name}, the first {first['num_images']} "
    f"{first['data']['split']} images of {first['data']['name']}, the same for both. Intervals: "
    f"{found[0]['difference']['method']}, 95%; each row by itself.\n\n"
    f"{markdown(found, titles)}{star}{told}\n"
  )
  if out is not None:
    atomic_write(out / f"{name}_difference.md", text)
    atomic_write(out / f"{name}_difference.json", to_json({"titles": titles, "rows": found}))
    shown = [
      {**row, "where": where(row), "text": points(row["difference"]),
       "alone": _alone(row["difference"]), "verdict": verdict(row["difference"], titles)}
      for row in found
    ]  # fmt: skip
    page = html.difference_page(
      shown, titles, name, first, made_by, views.sources(entries), detectors
    )
    atomic_write(out / f"{name}_difference.html", page)
  return text
