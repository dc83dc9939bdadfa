"""Published numbers beside ours: tables of a paper, and the same attacks as we ran them.

A file of published numbers is JSON: `source`, `data` and `images` in words, and `tables`, or the
one table itself. A table has a `norm`, `eps`, and accuracies in percent as model -> attack -> one
number for each eps, null where the paper has none; in `detected` the same for each detector, of the
successes. `clean` has the accuracies without attack. Numbers are the paper's, never ours. `models`
gives our name of a model for the paper's; without it a model of the paper is the one whose title
starts with its name. `settings` says how the numbers were made, as dotted names in an evaluation's
table.json: what differs is said above the tables. `notes` are sentences about what no setting can
make equal. `seconds` says what attacks cost (`runtimes.py`), `counterparts` which model of the
paper is held against which (`counterparts.py`); there `roles` names models of ours that the paper
does not tell apart, or has not, by their settings, as dotted names again. `flaws` says by which
settings one knows a model with the paper's mistakes. `headline` is a list of norm and eps: the
budgets of `claims.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.json_files import read_object
from gencls.markdown import grid, percent
from gencls.report import comparable, detection_table, runtimes

_FIELDS = ("source", "data", "images")
_TABLE = ("norm", "eps", "accuracy")
Numbers = Mapping[str, Mapping[str, list[float | None]]]  # model -> attack -> a number for each eps
Summaries = Mapping[str, Mapping[str, Any]]  # title -> summary
# (label, norm, eps) -> an interval, or None where it was not run
Found = Callable[[tuple[str, str, float]], Mapping[str, Any] | None]


def read(path: str | Path) -> dict[str, Any]:
  """Reads a file of published numbers.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is no JSON object, lacks a field, has rows of another length than eps, or a
      headline that no table has.
  """
  path = Path(path)
  found = read_object(path, fix="published numbers are one JSON object", needs=_FIELDS)
  for table in tables(found):
    missing = [name for name in _TABLE if name not in table]
    if missing:
      raise ValueError(f"{path}: a table needs {', '.join(_TABLE)}; one has no {missing[0]}")
    for numbers in (table["accuracy"], *table.get("detected", {}).values()):
      for model, attacks in numbers.items():
        for attack, row in attacks.items():
          if len(row) != len(table["eps"]):
            raise ValueError(
              f"{path}: {model}, {attack} has {len(row)} numbers; one for each eps of "
              f"{table['eps']}"
            )
  budgets = [[table["norm"], eps] for table in tables(found) for eps in table["eps"]]
  for budget in found.get("headline") or ():
    if budget not in budgets:
      raise ValueError(f"{path}: headline has {budget}, tables have {budgets} ([norm, eps])")
  return found


def tables(published: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """The tables of a file; one without `tables` is a table itself."""
  return published.get("tables", [published])


def section(
  published: Mapping[str, Any], summaries: Summaries, honest: Summaries | None = None
) -> str:
  """Markdown tables of the published numbers, each above ours.

  Args:
    published: from `read`.
    summaries: title -> summary, evaluated as published.
    honest: title -> summary of the same models, evaluated as hard as we can: a third row, and in
      every row the worst case over the attacks of that evaluation; None: not evaluated.

  Returns:
    The tables; below each, for each of our detectors, the share of the successes that is detected.
    Where the honest evaluation has a detector, what ends misclassified and accepted under attacks
    on the classifier, and on both, stands below its accuracy.

  Raises:
    ValueError: if the data set is another one, or no model is in the paper.
  """
  own = next(iter(summaries.values()))["data"]["name"]
  if own != published["data"]:
    raise ValueError(f"the published numbers are of {published['data']}, the evaluations of {own}")
  names = dict.fromkeys(name for table in tables(published) for name in table["accuracy"])
  pairs = {title: name for title, name in models(published, summaries).items() if name in names}
  if not pairs:
    raise ValueError(
      f"none of {', '.join(summaries)} is in {published['source']}: {', '.join(names)}"
    )
  sizes = {title: summary["num_images"] for title, summary in summaries.items() if title in pairs}
  n = ", ".join(map(str, dict.fromkeys(sizes.values())))
  notes = [f"Beside {published['source']} ({published['images']}); ours: n = {n}, of the images as "
           "the attacks returned them.", *published.get("notes", ())]  # fmt: skip
  if any((honest or {}).get(title, {}).get("detection") for title in pairs):
    notes.append("Rows of what ends misclassified and accepted are no accuracies: more is worse.")
  ours = {title: summaries[title] for title in pairs}
  other = _differences(published, ours)
  if other:
    notes.append(f"**Not as published: {'; '.join(other)}.**")
  parts = [_clean(published, pairs, summaries)]
  made = [table for table in tables(published) if not _none_of(table, ours)]
  parts += [_table(table, pairs, summaries, honest) for table in made]
  return f"{' '.join(notes)}\n\n{''.join(parts)}{runtimes.section(published, summaries, pairs)}"


def models(published: Mapping[str, Any], summaries: Summaries) -> dict[str, str]:
  """Title -> the paper's name of the model, whether it has numbers of it or not; "" if unknown."""
  return {title: _model(title, summary, published) for title, summary in summaries.items()}


def points(
  published: Mapping[str, Any], summaries: Summaries
) -> dict[str, dict[str, list[tuple[float, float]]]]:
  """The numbers for the figure of every attack: "label (norm)" -> title -> (eps, percent) each.

  They stand beside one version of a model: that with the paper's mistakes, else the first.
  """
  beside: dict[str, str] = {}
  for title, name in models(published, summaries).items():
    if name not in beside or as_published(published, title, summaries[title]):
      beside[name] = title
  found: dict[str, dict[str, list[tuple[float, float]]]] = {}
  for each in tables(published):
    for name, title in beside.items():
      for label, row in each["accuracy"].get(name, {}).items():
        known = [
          (eps, value) for eps, value in zip(each["eps"], row, strict=True) if value is not None
        ]
        found.setdefault(f"{label} ({each['norm']})", {}).setdefault(title, []).extend(known)
  return found


def role(published: Mapping[str, Any], title: str, summary: Mapping[str, Any]) -> str:
  """What a model is where it is held against others: its one of `roles`, else as in `models`."""
  for name, settings in published.get("roles", {}).items():
    if _has(summary, settings):
      return name
  return _model(title, summary, published)


def as_published(published: Mapping[str, Any], title: str, summary: Mapping[str, Any]) -> bool:
  """Whether a model has the mistakes of the paper's: all that `flaws` says of it."""
  flaws = published.get("flaws", {}).get(_model(title, summary, published), {})
  return bool(flaws) and _has(summary, flaws)


def _has(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
  return all(_setting(summary, path) == value for path, value in settings.items())


def _clean(published: Mapping[str, Any], pairs: Mapping[str, str], summaries: Summaries) -> str:
  """The accuracies without attack, the paper's and ours; nothing where the paper has none."""
  known = published.get("clean")
  if known is None:
    return ""
  rows = []
  for title, name in pairs.items():
    theirs, ours = known.get(name), summaries[title]["clean"]
    rows.append([
      title,
      "-" if theirs is None else f"{theirs:.1f}",
      "-" if ours is None else percent(ours["accuracy"]),
    ])  # fmt: skip
  return f"{grid(['clean accuracy, %', 'paper', 'ours'], rows)}\n\n"


def _none_of(table: Mapping[str, Any], summaries: Summaries) -> bool:
  """Whether every model has left out all attacks of a table."""
  return all({*_labels(table)} <= comparable.left_out(each) for each in summaries.values())


def _table(
  table: Mapping[str, Any],
  pairs: Mapping[str, str],
  summaries: Summaries,
  honest: Summaries | None,
) -> str:
  """One table of the paper, ours below each row, then what its detectors find."""
  columns = [(label, table["norm"], eps) for label in _labels(table) for eps in table["eps"]]
  worst = [] if honest is None else [("", table["norm"], eps) for eps in table["eps"]]
  rows = []
  for title, name in pairs.items():
    theirs = _published(table, table["accuracy"].get(name, {}))
    rows.append([f"{title}, paper", *theirs, *["-"] * len(worst)])
    # As papers do: the image that the attack returned, not the worse of it and the untouched one.
    ours = _by_column(summaries[title]["rows"], "as_returned")
    rows.append(_row(f"{title}, ours", columns, ours) + _worst(summaries[title], worst))
    if honest is not None and title in honest:
      # A number that counts what other attacks broke is not that of this one.
      alone = [row for row in honest[title]["rows"] if "handed_on" not in row]
      hard = _by_column(alone, "accuracy")
      rows.append(_row(f"{title}, honest", columns, hard) + _worst(honest[title], worst))
      rows += _evading(title, honest[title], columns, worst)
  header = ["accuracy, %", *map(_name, columns), *[f"worst case{_name(each)}" for each in worst]]
  text = f"{grid(header, rows)}\n\n"
  for detector, numbers in table.get("detected", {}).items():
    text += _detected(table, columns, detector, numbers, pairs, summaries)
  return text


def _evading(
  title: str,
  honest: Mapping[str, Any],
  columns: Sequence[tuple[str, str, float]],
  worst: Sequence[tuple[str, str, float]],
) -> list[list[str]]:
  """A row for each kind of attack on a model with a detector: what ends wrong and accepted."""
  found = honest.get("detection")  # older files have none
  if found is None:
    return []
  rows, places = [], [(norm, eps) for _, norm, eps in worst]
  for kind in dict.fromkeys(row["kind"] for row in found["worst"] if row["kind"] != "either"):
    own = [
      {**row, "label": detection_table.name(row)} for row in found["rows"] if row["against"] == kind
    ]
    most = detection_table.worst(found).get(kind, {})
    name = f"{title}, honest, misclassified and accepted (detector {found['detector']['name']}): "
    cells = [detection_table.share(most[at]) if at in most else "-" for at in places]
    each = _row(name + detection_table.KINDS[kind], columns, _by_column(own, "evading"))
    rows.append([*each, *cells])
  return rows


def _detected(
  table: Mapping[str, Any],
  columns: Sequence[tuple[str, str, float]],
  detector: str,
  numbers: Numbers,
  pairs: Mapping[str, str],
  summaries: Summaries,
) -> str:
  rows = []
  for title, name in pairs.items():
    found = summaries[title].get("detection")
    if found is not None and found["detector"]["name"] == detector:
      blind = [row for row in found["rows"] if row["against"] == "classifier"]
      rows.append([f"{title}, paper", *_published(table, numbers.get(name, {}))])
      rows.append(_row(f"{title}, ours", columns, _by_column(blind, "detected")))
  if not rows:
    return ""
  header = [f"detected by {detector}, % of successes", *map(_name, columns)]
  return f"{grid(header, rows)}\n\n"


def _differences(published: Mapping[str, Any], summaries: Summaries) -> list[str]:
  """The settings that are not the paper's, with the models that have them so, unless all do.

  What an evaluation has not, or leaves out, is passed over, but for a setting of an attack that it
  has.
  """
  found: dict[str, list[str]] = {}
  for path, wanted in published.get("settings", {}).items():
    for title, summary in summaries.items():
      value, attack = _setting(summary, path), path.rpartition(".")[0]
      if attack.removeprefix("attacks.") in comparable.left_out(summary):
        continue
      if value is None and attack.startswith("attacks.") and _setting(summary, attack):
        value = "not set"
      if value is not None and value != wanted:
        found.setdefault(f"{path}: {value} ({wanted})", []).append(title)
  return [
    text if len(titles) == len(summaries) else f"{text} ({', '.join(titles)})"
    for text, titles in found.items()
  ]


def _setting(summary: Mapping[str, Any], path: str) -> Any:
  """The value at a dotted path; None where there is none."""
  value: Any = summary
  for name in path.split("."):
    value = value.get(name) if isinstance(value, Mapping) else None
  return value


def _published(table: Mapping[str, Any], numbers: Mapping[str, list[float | None]]) -> list[str]:
  """The paper's cells; a dash where it has no number."""
  nothing = [None] * len(table["eps"])
  values = [value for label in _labels(table) for value in numbers.get(label, nothing)]
  return ["-" if value is None else f"{value:.1f}" for value in values]


def _row(title: str, columns: Sequence[tuple[str, str, float]], found: Found) -> list[str]:
  cells = [found(column) for column in columns]
  return [title, *["-" if cell is None else percent(cell) for cell in cells]]


def _worst(summary: Mapping[str, Any], columns: Sequence[tuple[str, str, float]]) -> list[str]:
  rows = [{**row, "label": ""} for row in summary.get("worst", ())]
  graded = [row for row in rows if row["accuracy"]]
  partial = {(row["norm"], row["eps"]) for row in graded if row.get("missing")}
  cells = _row("", columns, _by_column(rows, "accuracy"))[1:]
  stars = [" *" * ((norm, eps) in partial) for _, norm, eps in columns]
  return [f"{cell}{star}" for cell, star in zip(cells, stars, strict=True)]


def _by_column(rows: Sequence[Mapping[str, Any]], field: str) -> Found:
  return {(row["label"], row["norm"], row["eps"]): row.get(field) for row in rows}.get


def _labels(table: Mapping[str, Any]) -> list[str]:
  return list(dict.fromkeys(label for each in table["accuracy"].values() for label in each))


def _name(column: tuple[str, str, float]) -> str:
  label, norm, eps = column
  return f"{label} {norm} {eps:g}"


def _model(title: str, summary: Mapping[str, Any], published: Mapping[str, Any]) -> str:
  """The paper's name of a model of ours; "GFZ (run 2)" is GFZ too."""
  if "models" in published:
    return published["models"].get(summary["model"]["name"], "")
  return title.split(" ", 1)[0]
