"""The HTML report: one file that needs no network, made from the cells of evaluations.

Jinja2 is imported where it is used; its templates lie in gencls/report/templates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gencls.evaluate import GREY
from gencls.report import analysed, figures, pages, plots, rocs, table, tiles, views
from gencls.report.reading import Entry
from gencls.summary.checks import WORST

TEMPLATES = Path(__file__).parent / "templates"


def curves(entries: Sequence[Entry], norm: str) -> list[plots.Curve]:
  """Every curve of a norm: each attack of each model, its worst case last and on top."""
  found = []
  for entry in entries:
    summary = entry.summary
    if not summary["untouched"]:
      continue
    start = summary["untouched"]["accuracy"]
    own = [r for r in [*summary["rows"], *summary["worst"]] if r["norm"] == norm]
    for label in dict.fromkeys(r["label"] for r in own):
      rows = [r for r in own if r["label"] == label and r["accuracy"]]
      line = figures.line(label, rows, "accuracy", start)
      strong = label == WORST
      found.append(plots.Curve(entry.title, label, line, summary["num_images"], strong))
  return sorted(found, key=lambda curve: curve.strong)


def surfaces(entries: Sequence[Entry]) -> list[dict[str, str]]:
  """A picture of the loss surface of each model that has one."""
  drawn = [(entry.title, pages.surface_figure(entry.summary, entry.cells)) for entry in entries]
  return [
    {"model": title, "src": tiles.png_address(figures.png(figure, 80))}
    for title, figure in drawn
    if figure is not None
  ]


def group(index: int, name: str, entries: Sequence[Entry]) -> dict[str, Any]:
  """Everything that the page shows of one evaluation.

  Args:
    index: of the evaluation in the page.
    name: of the evaluation.
    entries: the models, comparable with each other.

  Returns:
    What the template calls a group; "plots" holds element id -> Bokeh plot.
  """
  models, attacks = [entry.title for entry in entries], views.attacks(entries)
  first, radii = entries[0].summary, views.radii(entries)
  chance = next((e.summary["largest_class_share"] for e in entries if e.summary["clean"]), 0.0)
  drawn = {
    f"plot-{index}-{i}": plots.accuracy(norm, curves(entries, norm), models, attacks, chance)
    for i, norm in enumerate(radii)
    if any(entry.summary["untouched"] for entry in entries)
  }
  detected = rocs.read(entries)
  if detected:
    drawn[f"plot-{index}-roc"] = plots.detection(detected, models)
  return {
    "index": index,
    "name": name,
    "data": first["data"],
    "n": first["num_images"],
    "threat": table.threat_sentence(first["protocol"], first["attacks"])
    + table.gradient_sentence({entry.title: entry.summary for entry in entries}),
    "draws": first["protocol"]["clean_draws"],
    "models": [{"name": m, "colour": plots.colour(i)} for i, m in enumerate(models)],
    "attacks": [{"name": a, "dash": plots.dash(i)} for i, a in enumerate(attacks)],
    "worst": WORST,
    "grey": GREY,
    "radii": radii,
    "leaderboard": views.leaderboard(entries),
    "numbers": {norm: views.numbers(entries, norm) for norm in radii},
    "rocs": [
      {**r._asdict(), "area": plots.area(r), "colour": plots.roc_colour(r, k, models)}
      for k, r in enumerate(detected)
    ],
    "evading": views.evading(entries),
    "detectors": views.detectors(entries),
    "checks": views.checks(entries),
    "regraded": views.regraded(entries),
    "surfaces": surfaces(entries),
    "costs": views.costs(entries),
    "sources": views.sources(entries),
    "missing": [{"model": e.title, **m} for e in entries for m in e.summary["missing"]],
    "plots": drawn,
  }


def render(
  groups: Sequence[Mapping[str, Any]],
  galleries: Mapping[int, Any],
  made_by: Any,
  analyses: Sequence[Mapping[str, Any]] = (),
) -> str:
  """The page.

  Args:
    groups: from `group`.
    galleries: index of the group -> its images, from `tiles.galleries`.
    made_by: command, revision, versions and device of the report itself.
    analyses: from `analysed.sections`.
  """
  drawn = {target: plot for each in groups for target, plot in each["plots"].items()}
  return (
    _environment()
    .get_template("report.html")
    .render(
      title=_title(groups),
      groups=[{**each, "galleries": galleries.get(each["index"], [])} for each in groups],
      plots=plots.embed(drawn),
      bokeh=plots.script() if drawn else "",
      made_by=made_by,
      analysed=analyses,
    )
  )


def _title(groups: Sequence[Mapping[str, Any]]) -> str:
  names = dict.fromkeys(each["data"]["name"] for each in groups)
  return f"Robustness on {', '.join(names)}"


def _environment() -> Any:
  import jinja2  # noqa: PLC0415

  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {"percent": lambda share: f"{100 * share:.1f}", "g": lambda v: f"{v:g}"}
  return environment


def page(evaluations: Mapping[str, Sequence[Entry]], made_by: Any) -> str:
  """The whole page.

  Args:
    evaluations: name -> entries that can be compared with each other, at least one.
    made_by: from `views.record`, of the report itself.
  """
  groups = [group(i, *each) for i, each in enumerate(evaluations.items())]
  share = tiles.BYTES // len(groups)
  galleries = {i: tiles.galleries(e, share) for i, e in enumerate(evaluations.values())}
  runs = [entry.workdir for entries in evaluations.values() for entry in entries]
  return render(groups, galleries, made_by, analysed.sections(runs))


def difference_page(
  rows: Sequence[Mapping[str, Any]],
  titles: Sequence[str],
  name: str,
  summary: Mapping[str, Any],
  made_by: Any,
  sources: Any,
  detectors: Sequence[Mapping[str, Any]] = (),
) -> str:
  """The page of `difference.write`.

  Args:
    rows: its rows, with "where", "text", "alone" and "verdict".
    titles: of the two models.
    name: of the evaluation.
    summary: of the first model.
    made_by: from `views.record`, of the comparison itself.
    sources: from `views.sources`, of both models.
    detectors: from `views.detectors`.
  """
  ends = [abs(row["difference"][end]) for row in rows for end in ("low", "high")]
  return (
    _environment()
    .get_template("difference.html")
    .render(
      title=f"{titles[0]} minus {titles[1]}",
      rows=rows,
      models=titles,
      name=name,
      summary=summary,
      reach=max(ends),
      detectors=detectors,
      made_by=made_by,
      g={"sources": sources, "index": 0, "checks": [], "costs": [], "models": []},
    )
  )
