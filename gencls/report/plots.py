"""Interactive curves of the HTML report; Bokeh is imported where it is used.

Each plot holds all curves in four data sources ("bands", "bars", "lines", "points") with the
columns `model` and `attack`: the page's script shows and hides curves by filtering the rows.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gencls.report import figures
from gencls.summary import roc

# Told apart by colour-blind readers, on white and on black.
COLOURS = ("#0b84d8", "#e8710a", "#12a37a", "#c95aa5", "#b8860b", "#7a5cd6", "#5aa9c9", "#8a8a8a")
DASHES = ("6 3", "2 3", "8 3 2 3", "12 4", "1 5", "10 2 2 2 2 2", "4 6")
_PERCENT = {"mean": "y", "low": "low", "high": "high"}


class Curve(NamedTuple):
  """An accuracy-versus-eps curve of one model under one attack, with intervals."""

  model: str
  attack: str
  line: figures.Line  # shares
  n: int
  strong: bool = False  # the worst case


class Roc(NamedTuple):
  """How a detector trades false alarms for detections, from the strictest threshold on.

  Any detector can be drawn: `fpr` is the share of clean images rejected and `tpr` the share of
  adversarial images rejected at the same thresholds, both [T], never falling.
  """

  label: str  # what is detected, for example "pgd linf 0.1"
  fpr: np.ndarray
  tpr: np.ndarray
  model: str


def colour(index: int) -> str:
  """The colour of the model with this number."""
  return COLOURS[index % len(COLOURS)]


def roc_colour(each: Roc, index: int, models: Sequence[str]) -> str:
  """The model's colour; where there is only one model, that of the curve's number."""
  return colour(models.index(each.model) if len(models) > 1 else index)


def dash(index: int) -> str:
  """The dashes of the attack with this number, as SVG has them."""
  return DASHES[index % len(DASHES)]


def area(each: Roc) -> float:
  """The area under a ROC curve by trapezoids, its ends at (0, 0) and (1, 1).

  Raises:
    ValueError: if the rates are not [T] each, within [0, 1] and never falling.
  """
  rates = [np.concatenate([[0.0], np.asarray(r, np.float64), [1.0]]) for r in (each.fpr, each.tpr)]
  ordered = all(r.ndim == 1 and np.all(np.diff(r) >= 0) for r in rates)
  if len(rates[0]) != len(rates[1]) or not ordered:
    raise ValueError(
      f"ROC {each.label!r}: fpr and tpr must be [T] each, in [0, 1] and never falling; sort both "
      "by the threshold"
    )
  return float(np.trapezoid(rates[1], rates[0]))


def _sources(curves: Sequence[Curve], models: Sequence[str], attacks: Sequence[str]) -> dict:
  """name -> columns of the four data sources."""
  bands, bars, lines, points = ([] for _ in range(4))
  for each in curves:
    line = each.line
    x, mean, low, high = (np.asarray(v, float) for v in (line.eps, line.mean, line.low, line.high))
    mean, low, high = 100 * mean, 100 * low, 100 * high
    style = {"colour": colour(models.index(each.model)), "width": 3.0 if each.strong else 1.6}
    who = {"model": each.model, "attack": each.attack, **style}
    which = "solid" if each.strong else dash(attacks.index(each.attack))
    lines.append({**who, "xs": x.tolist(), "ys": mean.tolist(), "dash": which})
    if each.strong:
      outline = {"xs": [*x, *x[::-1]], "ys": [*low, *high[::-1]]}
      bands.append({**who, **{k: [float(v) for v in values] for k, values in outline.items()}})
    for at in zip(x.tolist(), mean.tolist(), low.tolist(), high.tolist(), strict=True):
      point = {**who, **dict(zip(("x", "y", "low", "high"), at, strict=True)), "n": each.n}
      points.append({**point, "size": 8.0 if each.strong else 6.0})
      if not each.strong:
        bars.append(point)
  rows = {"bands": bands, "bars": bars, "lines": lines, "points": points}
  return {name: _columns(each) for name, each in rows.items()}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
  return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _figure(name: str, x: str, y: str, **options: Any) -> Any:
  from bokeh.plotting import figure  # noqa: PLC0415

  plot = figure(
    name=name,
    x_axis_label=x,
    y_axis_label=y,
    height=400,
    sizing_mode="stretch_width",
    tools="box_zoom,reset,save",
    background_fill_color=None,
    border_fill_color=None,
    outline_line_color=None,
    output_backend="canvas",
    **options,
  )
  plot.toolbar.autohide = True
  plot.toolbar.logo = None
  return plot


def accuracy(
  norm: str,
  curves: Sequence[Curve],
  models: Sequence[str],
  attacks: Sequence[str],
  chance: float,
) -> Any:
  """Accuracy against eps in one norm, all models and attacks.

  Args:
    norm: of the eps.
    curves: what is drawn.
    models: titles in the order of their colours.
    attacks: labels in the order of their dashes; not the worst case, which is solid.
    chance: share of the largest class, marked by a line.

  Returns:
    A Bokeh plot.
  """
  from bokeh.models import ColumnDataSource, HoverTool, Span  # noqa: PLC0415

  source = {
    name: ColumnDataSource(data, name=name)
    for name, data in _sources(curves, models, attacks).items()
  }
  top = max((eps for each in curves for eps in each.line.eps), default=1.0)
  plot = _figure(
    f"accuracy {norm}",
    f"eps ({norm}, images in [0, 1])",
    "accuracy, %",
    x_range=(-0.02 * top, 1.03 * top),
    y_range=(-3, 103),
  )
  plot.add_layout(
    Span(location=100 * chance, dimension="width", line_dash="dotted", line_color="#8a8a8a")
  )
  named = {"line_color": "colour", "line_width": "width"}
  if source["bands"].data:
    plot.patches(
      "xs", "ys", source=source["bands"], fill_color="colour", fill_alpha=0.1, line_color=None
    )
  if source["bars"].data:
    plot.segment("x", "low", "x", "high", source=source["bars"], line_alpha=0.5, **named)
  plot.multi_line("xs", "ys", source=source["lines"], line_dash="dash", **named)
  points = plot.scatter(
    "x", "y", source=source["points"], size="size", fill_color="colour", line_color=None
  )
  tips = [
    ("model", "@model"),
    ("attack", "@attack"),
    ("eps", "@x{0.[0000]}"),
    ("accuracy", "@y{0.0}% [@low{0.0}, @high{0.0}], n = @n"),
  ]
  plot.add_tools(HoverTool(renderers=[points], tooltips=tips))
  return plot


def detection(rocs: Sequence[Roc], models: Sequence[str]) -> Any:
  """ROC curves; each model in its colour.

  Args:
    rocs: what is drawn, see `Roc`; at few points each, the area is that of the whole curve.
    models: titles in the order of their colours.

  Returns:
    A Bokeh plot.

  Raises:
    ValueError: if rates are no rates, see `area`.
  """
  from bokeh.models import ColumnDataSource, HoverTool  # noqa: PLC0415

  rows = []
  for index, each in enumerate(rocs):
    whole = area(each)
    fpr, tpr = (np.round(100 * rates, 2).tolist() for rates in roc.thinned(each.fpr, each.tpr))
    rows.append(
      {
        "model": each.model,
        "attack": each.label,
        "xs": [0.0, *fpr, 100.0],
        "ys": [0.0, *tpr, 100.0],
        "colour": roc_colour(each, index, models),
        "width": 2.0,
        "dash": "solid",
        "area": whole,
      }
    )
  source = ColumnDataSource(_columns(rows), name="lines")
  plot = _figure(
    "detection",
    "clean images rejected, %",
    "adversarial images rejected, %",
    x_range=(-1, 101),
    y_range=(-3, 103),
  )
  plot.line([0, 100], [0, 100], line_dash="dotted", line_color="#8a8a8a")
  lines = plot.multi_line(
    "xs", "ys", source=source, line_color="colour", line_width="width", line_dash="dash"
  )
  tips = [("model", "@model"), ("attack", "@attack"), ("area", "@area{0.000}")]
  tips.append(("at", "$x{0.0}% false, $y{0.0}% found"))
  plot.add_tools(HoverTool(renderers=[lines], tooltips=tips, line_policy="interp"))
  return plot


def embed(plots: Mapping[str, Any]) -> str:
  """The plots as JSON for the page: element id -> what `Bokeh.embed.embed_item` takes."""
  from bokeh.embed import json_item  # noqa: PLC0415

  items = {target: json_item(plot, target) for target, plot in plots.items()}  # pyright: ignore
  return json.dumps(items, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def script() -> str:
  """BokehJS itself, without widgets and other parts that no plot here needs."""
  from bokeh.resources import Resources  # noqa: PLC0415

  return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
