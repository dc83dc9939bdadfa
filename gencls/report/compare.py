"""Several models under the same evaluation, side by side: one table, two figures, one JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.names import unknown_name
from gencls.report import figures, table
from gencls.report.detection_table import sentence, worst_table
from gencls.report.pages import note
from gencls.workdir import atomic_write, to_json

# Models are compared only where these agree: everything else makes a different experiment.
_MUST_AGREE = ("data", "num_images", "protocol", "attacks")


def read(workdir: Path, name: str) -> dict[str, Any]:
  """The table.json of an evaluation.

  Raises:
    FileNotFoundError: if it is not there; names the evaluations that are.
  """
  path = workdir / "results" / name / "table.json"
  if not path.is_file():
    there = [str(p.parent.name) for p in sorted((workdir / "results").glob("*/table.json"))]
    hint = unknown_name("evaluation", name, there) if there else "no evaluation there yet"
    raise FileNotFoundError(
      f"{path} is missing: {hint}. Make it: launch/evaluate.py --workdir={workdir} "
      "--config=configs/attacks/<name>.py"
    )
  return json.loads(path.read_text())


def entry(text: str | Path, name: str) -> tuple[Path, str]:
  """The work directory and the evaluation of "workdir" or "workdir:evaluation"."""
  folder, colon, own = str(text).rpartition(":")
  return (Path(folder), own) if colon and "/" not in own else (Path(text), name)


def check_comparable(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ValueError where two models were not evaluated on the same images in the same way."""
  first_title = next(iter(summaries))
  first = summaries[first_title]
  for title, summary in summaries.items():
    for field in _MUST_AGREE:
      two = [_set(s[field]) for s in (summary, first)]
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


def _set(value: Any) -> Any:
  """Without the settings that are None: older files do not have them all."""
  if not isinstance(value, dict):
    return value
  return {name: _set(item) for name, item in value.items() if item is not None}


def titles(summaries: Sequence[Mapping[str, Any]], workdirs: Sequence[Path]) -> list[str]:
  """One title for each model; the folder is added where two are called the same."""
  plain = [summary["title"] for summary in summaries]
  return [
    title if plain.count(title) == 1 else f"{title} ({workdir.name})"
    for title, workdir in zip(plain, workdirs, strict=True)
  ]


def headline(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """A Markdown table: one row for each model, clean numbers and the worst case at each eps."""
  columns = sorted({(r["norm"], r["eps"]) for s in summaries.values() for r in s["worst"]})
  n = next(iter(summaries.values()))["num_images"]
  header = [f"model (n = {n})", "clean, %", "log p(x), nats", "bits/dim"]
  header += [f"{norm} {eps:g}, %" for norm, eps in columns]
  rows = []
  for title, summary in summaries.items():
    worst = {(r["norm"], r["eps"]): table.percent(r["accuracy"]) for r in summary["worst"]}
    metrics = summary["clean"]["metrics"]
    numbers = [_number(metrics, "log_marginal_nats"), _number(metrics, "bpd")]
    failed = sum(check["status"] == "fail" for check in summary["checks"])
    mark = f" ({failed} check(s) failed)" if failed else ""
    cells = [worst.get(column, "") for column in columns]
    rows.append([title + mark, table.percent(summary["clean"]["accuracy"]), *numbers, *cells])
  return table.grid(header, rows)


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


def detection(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """What the detectors reject, and the worst case by what they accept; empty without any."""
  found = {t: s["detection"] for t, s in summaries.items() if s.get("detection")}
  if not found:
    return ""  # older files have none
  sentences = "\n".join(f"* {title}. {sentence(each)}" for title, each in found.items())
  return f"{sentences}\n\n{worst_table(found)}\n\n"


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
    ]
    for norm in norms
  }
  first = next(iter(summaries.values()))
  title = f"Worst-case accuracy on {first['data']['name']}"
  return figures.curves(panels, title, "accuracy, %", note(first), first["largest_class_share"])


def success_figure(summaries: Mapping[str, Mapping[str, Any]], label: str) -> Any:
  """Success rate of one attack against eps, a curve for each model."""
  norms: dict[str, list[figures.Line]] = {}
  for title, summary in summaries.items():
    own = [row for row in summary["rows"] if row["label"] == label]
    if not own:
      valid = {row["label"] for row in summary["rows"]}
      raise ValueError(f"{title}: {unknown_name('attack', label, valid)}")
    line = figures.line(title, own, "success_rate", None)
    norms.setdefault(own[0]["norm"], []).append(line)
  first = next(iter(summaries.values()))
  heading = f"Success rate of {label} on {first['data']['name']}"
  ylabel = "turned wrong, % of images classified right"
  return figures.curves(norms, heading, ylabel, note(first))


def write(
  workdirs: Sequence[str | Path], name: str, out: Path, attack: str | None = None
) -> dict[str, Any]:
  """Compares several work directories under one evaluation.

  Args:
    workdirs: folders of runs that have been evaluated, each with ":<evaluation>" behind it where
      that is not called `name`.
    name: the evaluation's name, and that of the files.
    out: folder; gets <name>.md, <name>.json, <name>_worst_case.png, <name>_success_rate.png.
    attack: whose success rate is drawn; None: the first one that every model was attacked with.

  Returns:
    Title -> summary, what <name>.json holds.

  Raises:
    FileNotFoundError: if an evaluation is missing.
    ValueError: if the evaluations differ in images or protocol, or the attack is unknown.
  """
  entries = [entry(workdir, name) for workdir in workdirs]
  found = [read(*each) for each in entries]
  summaries = dict(zip(titles(found, [workdir for workdir, _ in entries]), found, strict=True))
  check_comparable(summaries)
  first = found[0]
  text = (
    f"# {name} on {first['data']['name']}\n\n"
    f"The first {first['num_images']} {first['data']['split']} images. "
    f"{table.threat_sentence(first['protocol'], first['attacks'])} Clean accuracy is the mean over "
    f"{first['protocol']['clean_draws']} draws where keys matter. Under attack: per-example worst "
    "case over all attacks and the grey image, with 95% intervals over images.\n\n"
    f"{headline(summaries)}\n\n{minimum(summaries)}{targeted(summaries)}"
    f"{detection(summaries)}"
  )
  labels = [row["label"] for row in first["rows"] if "attack" in row]
  if labels:
    text += f"![worst case]({name}_worst_case.png)\n\n![success rate]({name}_success_rate.png)\n\n"
    figures.save(worst_figure(summaries), out / f"{name}_worst_case.png")
    figures.save(success_figure(summaries, attack or labels[0]), out / f"{name}_success_rate.png")
  text += (
    f"Commands, configs, seeds, versions, devices and every row: [{name}.json]({name}.json).\n"
  )
  atomic_write(out / f"{name}.json", to_json(summaries))
  atomic_write(out / f"{name}.md", text)
  return summaries
