"""Several models under the same evaluation, side by side: one table, two figures, one JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.report import (
  bounds,
  choices,
  comparable,
  detection_table,
  figures,
  merging,
  model_figures,
  one_image,
  reading,
  results_file,
  table,
  titles,
)
from gencls.report.published import section as beside_ours
from gencls.workdir import atomic_write


def headline(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """A Markdown table: one row for each model, clean numbers and the worst case at each eps."""
  columns = sorted({(r["norm"], r["eps"]) for s in summaries.values() for r in s["worst"]})
  n = next(iter(summaries.values()))["num_images"]
  header = [f"model (n = {n})", "clean, %", "log p(x), nats", "bits/dim"]
  header += [f"{norm} {eps:g}, %" for norm, eps in columns]
  rows = []
  for title, summary in summaries.items():
    worst = {(r["norm"], r["eps"]): _worst_share(r) for r in summary["worst"]}
    clean = summary["clean"] or {"accuracy": None, "metrics": {}}
    numbers = [_number(clean["metrics"], name) for name in ("log_marginal_nats", "bpd")]
    cells = [worst.get(column, "") for column in columns]
    rows.append([marked(title, summary), _share(clean["accuracy"]), *numbers, *cells])
  return table.grid(header, rows)


def marked(title: str, summary: Mapping[str, Any]) -> str:
  """A model's title with the number of its failed checks."""
  count = len(table.failed(summary))
  return f"{title} ({count} check(s) failed)" if count else title


def failed(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """The failed checks of each model by name; empty where none failed."""
  names = {title: table.failed(summary) for title, summary in summaries.items()}
  lines = [f"- {title}: {', '.join(own)}" for title, own in names.items() if own]
  return "\n".join(["Failed checks:", "", *lines]) + "\n\n" if lines else ""


def _share(interval: Mapping[str, Any] | None) -> str:
  return "not run" if interval is None else table.percent(interval)


def _worst_share(row: Mapping[str, Any]) -> str:
  """A star on what more attacks can lower."""
  star = " *" if row["accuracy"] is not None and row.get("missing") else ""
  return _share(row["accuracy"]) + star


def not_run(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """What the star means, which cells are missing, and how many checks; empty where none is."""
  lines = []
  for title, summary in summaries.items():
    missing = summary.get("missing", ())
    if missing:
      cells = [f"{m['label']} {_where(m['norm'], m['eps'])}".strip() for m in missing]
      lines.append(f"- {title}: {', '.join(cells)}")
  text = (
    "Not run yet (a worst case with * is over the other attacks: its accuracy can only fall, what "
    "evades a detector only rise):"
  )
  cells = "\n".join([text, "", *lines]) + "\n\n" if lines else ""
  return cells + _checks_not_run(summaries)


def _checks_not_run(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """How many checks of which models were not run, in words."""
  found: dict[int, list[str]] = {}
  for title, summary in summaries.items():
    found.setdefault(table.count(summary, "not run"), []).append(title)
  told = [f"{count} not run ({', '.join(found[count])})" for count in sorted(found) if count]
  return f"Sanity checks: {'; '.join(told)}.\n\n" if told else ""


def _where(norm: str, eps: float | None) -> str:
  return f"{norm} {'minimum' if eps is None else f'{eps:g}'}" if norm else ""


def _number(metrics: Mapping[str, Any], name: str) -> str:
  value = metrics.get(name, {"value": None})["value"]
  return "-" if value is None else f"{value:.4g}"


def minimum(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """A Markdown table of the distances that minimum-norm attacks found; empty without any."""
  rows = [
    {**row, "label": f"{title}: {row['label']}"}
    for title, summary in summaries.items()
    for row in summary.get("minimum", ())  # older files have none
  ]
  return f"{table.minimum_table(rows)}\n\n" if rows else ""


def targeted(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """A Markdown table of what reached its target class; empty without targeted attacks."""
  rows = [
    {**row, "label": f"{title}: {row['label']}"}
    for title, summary in summaries.items()
    for row in summary["rows"]
  ]
  found = table.targeted_table(rows)
  return f"{found}\n\n" if found else ""


def detection(
  summaries: Mapping[str, Mapping[str, Any]],
  honest: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
  """What the detectors reject, and what evades them, in the worst case and under each attack.

  Args:
    summaries: title -> summary.
    honest: title -> summary of the same models, evaluated as hard as we can: below each.
  """
  every = {}
  for title, summary in summaries.items():
    every |= {title: summary, f"{title}, honest": (honest or {}).get(title, {})}
  found = {title: each["detection"] for title, each in every.items() if each.get("detection")}
  return detection_table.side_by_side(found) if found else ""  # older files have none


def _honest_headline(summaries: Mapping[str, Mapping[str, Any]] | None) -> str:
  """What holds, above what was published."""
  if not summaries:
    return ""
  first = next(iter(summaries.values()))
  return (
    f"**What holds**, by the worst case of `{first['name']}`; below it the same models by the "
    f"published protocol. {bounds.sentence(summaries)} {bounds.threats(first)}\n\n"
    f"{headline(summaries)}\n\n{failed(summaries)}{not_run(summaries)}"
  )


def named(entries: Sequence[reading.Entry]) -> list[reading.Entry]:
  """The same with titles that tell them apart.

  Raises:
    ValueError: if one evaluation of one run is given twice, or no title tells two apart.
  """
  found = titles.of(entries)
  for title in found:
    if found.count(title) > 1:
      raise ValueError(
        f"two models are called {title!r}: give each run or results file once, or folders of "
        f"different names; they are in {_places(entries, found, title)}"
      )
  return [entry._replace(title=title) for entry, title in zip(entries, found, strict=True)]


def _places(entries: Sequence[reading.Entry], found: Sequence[str], title: str) -> str:
  own = [str(e.workdir) for e, each in zip(entries, found, strict=True) if each == title]
  return " and ".join(dict.fromkeys(own))


def gather(workdirs: Sequence[str | Path], name: str) -> list[reading.Entry]:
  """Reads one evaluation of several models.

  Args:
    workdirs: folders of runs that have been evaluated, each with ":<evaluation>" behind it where
      that is not called `name`, and results files (<name>.json of an earlier report), each for all
      its models, or with ":<title>" behind it for one. Cells may be missing. A run stands in the
      place of the same model in a results file, see `merging`.
    name: the evaluation's name.

  Returns:
    Entries with titles that tell the models apart.

  Raises:
    FileNotFoundError: if an evaluation is missing.
    ValueError: if the evaluations differ in images or protocol.
  """
  entries = named(merging.gather(workdirs, name))
  comparable.check({each.title: each.summary for each in entries})
  return entries


def gather_beside(
  entries: Sequence[reading.Entry], name: str, workdirs: Sequence[str | Path] = ()
) -> list[reading.Entry]:
  """Another evaluation of the same models, under the same titles; of those that have it.

  Args:
    entries: from `gather`.
    name: of the other evaluation.
    workdirs: what they were gathered from; the other evaluation of the models of a results file is
      looked for in <name>.json in the same folder.

  Raises:
    ValueError: if the evaluations differ in images or protocol.
  """
  found = merging.beside(entries, name, workdirs)
  if found:
    comparable.check({each.title: each.summary for each in found})
  return found


def write(
  entries: Sequence[reading.Entry],
  name: str,
  out: Path,
  attack: str | None = None,
  published: Mapping[str, Any] | None = None,
  honest: Sequence[reading.Entry] = (),
) -> dict[str, Any]:
  """Writes the comparison of several models as Markdown, JSON and figures.

  Args:
    entries: from `gather`.
    name: of the files; where it is not the evaluations', the heading has theirs too.
    out: folder; gets <name>.md, <name>.json, <name>_worst_case.png, <name>_success_rate.png,
      <name>_one_image.png where images were kept, and <name>_attacks.png where there are more than
      two attacks.
    attack: whose success rate and image are drawn; None: see `model_figures.strongest`.
    published: numbers of a paper to put beside ours, from `published.read`.
    honest: the same runs evaluated as hard as we can: their headline stands first, a third row
      beside the published ones, and their detectors' numbers below ours.

  Returns:
    Title -> summary, what <name>.json holds.

  Raises:
    ValueError: if the attack is unknown, or the published numbers are of other data or models.
  """
  summaries = {each.title: each.summary for each in entries}
  first = entries[0].summary
  hard = {each.title: each.summary for each in honest} or None
  beside = beside_ours(published, summaries, hard) if published else ""
  names = list(dict.fromkeys(each.summary["name"] for each in entries))
  own = "" if names == [name] else f" ({', '.join(names)})"
  text = (
    f"# {name}{own} on {first['data']['name']}\n\n{_honest_headline(hard)}"
    f"The first {first['num_images']} {first['data']['split']} images. "
    f"{table.threat_sentence(first['protocol'], first['attacks'])}"
    f"{table.gradient_sentence(summaries)} Clean accuracy is the mean over "
    f"{first['protocol']['clean_draws']} draws where keys matter. Under attack: per-example worst "
    "case over all attacks and the grey image, with 95% intervals over images."
    f"{comparable.left_out_sentence(summaries)}{table.handed_on_sentence(summaries)}"
    f"{choices.sentence(summaries)}\n\n"
    f"{headline(summaries)}\n\n{not_run(summaries)}{beside}{minimum(summaries)}{targeted(summaries)}"
    f"{detection(summaries, hard)}"
  )
  labels = [r["label"] for s in summaries.values() for r in s["rows"] if "attack" in r]
  if labels:
    drawn = attack or model_figures.strongest(summaries) or labels[0]
    text += f"![worst case]({name}_worst_case.png)\n\n![success rate]({name}_success_rate.png)\n\n"
    figures.save(model_figures.worst(summaries), out / f"{name}_worst_case.png")
    figures.save(model_figures.success(summaries, drawn), out / f"{name}_success_rate.png")
    if len(dict.fromkeys(labels)) > 2:
      text += f"![every attack]({name}_attacks.png)\n\n"
      figures.save(model_figures.attacks(summaries, published), out / f"{name}_attacks.png")
    # A results file has the image of one attack alone.
    shown = attack or one_image.recorded_attack(entries) or drawn
    if found := one_image.rows(entries, shown):
      summaries = one_image.recorded(summaries, found, shown)
      text += f"![one image under {shown}]({name}_one_image.png)\n\n"
      figure = one_image.draw(found, shown, "Numbers are predictions: green right, red wrong.")
      figures.save(figure, out / f"{name}_one_image.png")
  if any(summary["checks"] for summary in summaries.values()):
    text += f"{table.checks_of_models(summaries)}\n\n"
  text += (
    f"Commands, configs, seeds, versions, devices and every row: [{name}.json]({name}.json).\n"
  )
  atomic_write(out / f"{name}.json", results_file.to_text(summaries))
  atomic_write(out / f"{name}.md", text)
  return summaries
