"""Several models under the same evaluation, side by side: one table, two figures, one JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.evaluation.attack_specs import applies
from gencls.names import unknown_name
from gencls.report import (
  attack_curves,
  detection_table,
  figures,
  merging,
  one_image,
  reading,
  results_file,
  table,
  titles,
)
from gencls.report.pages import note
from gencls.report.published import section as beside_ours
from gencls.workdir import atomic_write


def check_comparable(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ValueError where two models were not evaluated on the same images in the same way."""
  first_title = next(iter(summaries))
  first = summaries[first_title]
  _check_own_attacks(summaries)
  for title, summary in summaries.items():
    for field in merging.MUST_AGREE:
      two = [merging.given(_for_all(s[field])) for s in (summary, first)]
      if two[0] != two[1]:
        raise ValueError(
          f"{title!r} and {first_title!r} differ in {field}: {two[0]} and {two[1]}; "
          "evaluate both with the same config"
        )
    for field in ("model", "attack_model"):
      # Families differ in the K they are trained with; what the evaluation sets must be the same.
      two = [s["config"][field]["num_samples"] for s in (summary, first)]
      both = all("num_samples" in s["model"] for s in (summary, first))
      if both and two[0] != two[1]:
        raise ValueError(
          f"{title!r} and {first_title!r} differ in config.{field}.num_samples: {two[0]} and "
          f"{two[1]}; evaluate both with the same K"
        )


def _for_all(field: Any) -> Any:
  """What of a field every model must share: of attacks those that are made for all models."""
  if not isinstance(field, Mapping):
    return field
  return {
    name: each
    for name, each in field.items()
    if not (isinstance(each, Mapping) and each.get("models"))
  }


def _check_own_attacks(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Attacks made for some models must be those of all such models."""
  own: dict[str, tuple[str, Any]] = {}
  for title, summary in summaries.items():
    for label, each in summary["attacks"].items():
      if each.get("models"):
        own.setdefault(label, (title, each))
  for label, (first_title, wanted) in own.items():
    for title, summary in summaries.items():
      found = summary["attacks"].get(label)
      if not applies(wanted["models"], _threshold(summary)):
        continue
      if found is None or merging.given(found) != merging.given(wanted):
        raise ValueError(
          f"{title!r} and {first_title!r} differ in attacks.{label}, which is for "
          f"{wanted['models']} models: {found} and {wanted}; evaluate both with the same config"
        )


def _threshold(summary: Mapping[str, Any]) -> float | None:
  """Of the model; summaries of before it was recorded tell by the gradient alone."""
  guess = 0.5 if summary.get("gradient") in ("straight_through", "flip") else None
  return summary.get("pixel_threshold", guess)


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
  name = next(iter(summaries.values()))["name"]
  return (
    f"**What holds**, by the worst case of `{name}`; below it the same models by the published "
    f"protocol.\n\n{headline(summaries)}\n\n{not_run(summaries)}"
  )


def worst_figure(summaries: Mapping[str, Mapping[str, Any]]) -> Any:
  """Worst-case accuracy against eps, a curve for each model."""
  norms = list(dict.fromkeys(r["norm"] for s in summaries.values() for r in s["worst"]))
  panels = {
    norm: [
      figures.line(
        title,
        [row for row in summary["worst"] if row["norm"] == norm],
        "accuracy",
        summary["untouched"]["accuracy"],
      )
      for title, summary in summaries.items()
      if summary["untouched"]
    ]
    for norm in norms
  }
  first = next(s for s in summaries.values() if s["untouched"])
  title = f"Worst-case accuracy on {first['data']['name']}"
  return figures.curves(panels, title, "accuracy, %", note(first), first["largest_class_share"])


def attacks_figure(summaries: Mapping[str, Mapping[str, Any]], returned: bool = False) -> Any:
  """Accuracy under each attack against eps, a panel for each attack.

  Args:
    summaries: title -> summary.
    returned: of the images as the attacks returned them, as beside a paper's numbers.
  """
  first = next(iter(summaries.values()))
  title = f"Accuracy under each attack on {first['data']['name']}"
  title += ", of the images as the attacks returned them" if returned else ""
  found = attack_curves.panels(summaries, "as_returned" if returned else "accuracy")
  return attack_curves.draw(found, title, note(first).split(";")[0])


def strongest(summaries: Mapping[str, Mapping[str, Any]]) -> str | None:
  """The attack that comes nearest to the worst case on average, of those that most models have met.

  None where there is none: attacks that are not finished, that look for the smallest perturbation
  or see a detector do not count.
  """
  gaps: dict[str, list[float]] = {}
  for summary in summaries.values():
    worst = {(row["norm"], row["eps"]): row["accuracy"] for row in summary["worst"]}
    unfinished = {each["label"] for each in summary.get("missing", ())}
    own: dict[str, list[float]] = {}
    for row in summary["rows"]:
      least, plain = worst.get((row["norm"], row["eps"])), "attack" in row and "derived" not in row
      if plain and least and row["label"] not in unfinished and not _sees_detector(row):
        own.setdefault(row["label"], []).append(row["accuracy"]["mean"] - least["mean"])
    for label, values in own.items():
      gaps.setdefault(label, []).append(statistics.fmean(values))
  most = max(map(len, gaps.values()), default=0)
  whole = [(statistics.fmean(each), label) for label, each in gaps.items() if len(each) == most]
  return min(whole)[1] if whole else None


def _sees_detector(row: Mapping[str, Any]) -> bool:
  return row["attack"].get("against") == "detector"


def success_figure(summaries: Mapping[str, Mapping[str, Any]], label: str) -> Any:
  """Success rate of one attack against eps, a curve for each model that has met it.

  Raises:
    ValueError: if none has.
  """
  norms: dict[str, list[figures.Line]] = {}
  for title, summary in summaries.items():
    if own := [row for row in summary["rows"] if row["label"] == label]:
      line = figures.line(title, own, "success_rate", None)
      norms.setdefault(own[0]["norm"], []).append(line)
  if not norms:
    run = {row["label"] for summary in summaries.values() for row in summary["rows"]}
    if any(label in summary["attacks"] for summary in summaries.values()):
      raise ValueError(
        f"no model has met {label!r} yet: leave --attack out, or take one of "
        f"{', '.join(sorted(run))}"
      )
    raise ValueError(unknown_name("attack", label, run))
  first = next(iter(summaries.values()))
  heading = f"Success rate of {label} on {first['data']['name']}"
  ylabel = "turned wrong, % of images classified right"
  return figures.curves(norms, heading, ylabel, note(first))


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
  check_comparable({each.title: each.summary for each in entries})
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
    check_comparable({each.title: each.summary for each in found})
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
    attack: whose success rate and image are drawn; None: see `strongest`.
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
    "case over all attacks and the grey image, with 95% intervals over images.\n\n"
    f"{headline(summaries)}\n\n{not_run(summaries)}{beside}{minimum(summaries)}{targeted(summaries)}"
    f"{detection(summaries, hard)}"
  )
  labels = [r["label"] for s in summaries.values() for r in s["rows"] if "attack" in r]
  if labels:
    drawn = attack or strongest(summaries) or labels[0]
    text += f"![worst case]({name}_worst_case.png)\n\n![success rate]({name}_success_rate.png)\n\n"
    figures.save(worst_figure(summaries), out / f"{name}_worst_case.png")
    figures.save(success_figure(summaries, drawn), out / f"{name}_success_rate.png")
    if len(dict.fromkeys(labels)) > 2:
      text += f"![every attack]({name}_attacks.png)\n\n"
      figures.save(attacks_figure(summaries, published is not None), out / f"{name}_attacks.png")
    shown = one_image.recorded_attack(entries) or drawn  # a results file has the image of one
    if found := one_image.rows(entries, shown):
      summaries = one_image.recorded(summaries, found, shown)
      text += f"![one image]({name}_one_image.png)\n\n"
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
