"""Accuracy against eps with a panel for each attack and a curve for each model."""

from collections.abc import Mapping, Sequence
from typing import Any

from gencls.report import figures

_COLUMNS = 4


def panels(
  summaries: Mapping[str, Mapping[str, Any]], field: str = "accuracy"
) -> dict[str, list[figures.Line]]:
  """A curve for each model that has an attack, under the attack's "label (norm)".

  Args:
    summaries: title -> summary.
    field: of its rows, "accuracy" as graded, or "as_returned", as papers count: the image that the
      attack returned, even where the untouched one is wrong and it is not.

  Returns:
    Panels in the order of the first model's attacks. Rows of older files without the field have no
    point, and attacks that count what others broke no line.
  """
  found: dict[str, list[figures.Line]] = {}
  for title, summary in summaries.items():
    alone = [row for row in summary["rows"] if "handed_on" not in row]
    keys = dict.fromkeys((row["label"], row["norm"]) for row in alone)
    for label, norm in keys:
      own = [row for row in alone if (row["label"], row["norm"]) == (label, norm)]
      rows = [{"eps": row["eps"], field: row.get(field)} for row in own]
      start = (summary["untouched"] or {}).get("accuracy")
      line = figures.line(title, rows, field, start, posterior=is_posterior(summary))
      found.setdefault(f"{label} ({norm})", []).append(line)
  return found


def is_posterior(summary: Mapping[str, Any]) -> bool:
  """Whether a model has p(y | x) alone, and no density; not known before it is graded."""
  return (summary.get("clean") or {}).get("score") == "posterior"


@figures.styled
def draw(
  curves: Mapping[str, list[figures.Line]],
  title: str,
  note: str,
  points: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
) -> Any:
  """The panels in rows of four, with one legend for all.

  Args:
    curves: from `panels`.
    title: what is shown.
    note: small print below the figure.
    points: a paper's numbers as `published.points` has them: crosses in the colours of the lines,
      as far to the right as these go.

  Returns:
    A matplotlib figure.
  """
  columns = min(_COLUMNS, len(curves))
  rows = -(-len(curves) // columns)
  figure, axes = figures.new(columns, rows, (1.8 + 3.6 * columns, 1.0 + 3.0 * rows), sharey=True)
  every = [line for lines in curves.values() for line in lines]
  own = figures.looks(every)
  handles: dict[str, Any] = {}
  for axis, (name, lines) in zip(axes.flat, curves.items(), strict=False):
    for line in lines:
      accuracies = [100 * mean for mean in line.mean]
      (handles[line.label],) = axis.plot(
        line.eps, accuracies, **own[line.label], lw=1.6, ms=4, clip_on=False
      )
    furthest = max(eps for line in lines for eps in line.eps)
    for label, known in (points or {}).get(name, {}).items():
      for eps, percent in known:
        if label in own and eps <= furthest:
          axis.plot(eps, percent, "x", color=own[label]["color"], ms=6, mew=1.6, clip_on=False)
    axis.set_title(name, fontsize=10, fontweight="normal")
    axis.set(ylim=(-3, 103), yticks=range(0, 101, 20), xlabel="eps")
    figures.radii_axis(axis, [eps for line in lines for eps in line.eps])
  for axis in list(axes.flat)[len(curves) :]:
    axis.set_visible(False)
  for row in axes:
    row[0].set_ylabel("accuracy, %")
  figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=9)
  figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=12)
  small = note + figures.kinds(every) + "; crosses: the paper's numbers" * bool(points)
  figure.supxlabel(small, fontsize=8, color=figures.QUIET, x=0.02, ha="left")
  return figure
