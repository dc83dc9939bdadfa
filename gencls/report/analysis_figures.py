"""Figures of analyses: histograms, means along a path, step curves, and rows of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gencls.report.figures import BAD, COLOURS, GOOD, INK, QUIET, bare, new, show, styled

_BINS = 60  # at most; fewer for few images
_SHOWN = 0.995  # the share of the values that the axis of a histogram has room for
Word = tuple[str, bool | None]  # what stands above an image, and whether it is accepted


@styled
def histograms(
  panels: Mapping[str, Mapping[str, np.ndarray]],
  title: str,
  note: str,
  marks: Mapping[int, Mapping[str, float]] | None = None,
) -> Any:
  """Histograms laid over each other, each of area 1.

  Args:
    panels: axis label -> name -> values; what is not finite is left out.
    title: what is shown.
    note: small print.
    marks: number of a panel -> name -> value, marked by a line.

  Returns:
    A matplotlib figure. What lies beyond the axis is counted in its first and last bin.
  """
  figure, axes = new(len(panels), 1, (1.2 + 5.4 * len(panels), 4.2))
  for i, (label, values) in enumerate(panels.items()):
    axis = axes[0][i]
    edges = _edges(list(values.values()))
    for k, (name, each) in enumerate(values.items()):
      inside = np.clip(each[np.isfinite(each)], edges[0], edges[-1])
      style = {"color": COLOURS[k % len(COLOURS)], "density": True, "bins": edges}
      axis.hist(inside, alpha=0.35, label=name, **style)
      axis.hist(inside, histtype="step", lw=1.4, **style)
    for name, at in (marks or {}).get(i, {}).items():
      axis.axvline(at, color=INK, lw=1.2, ls="--", label=name)
    axis.set(xlabel=label, yticks=[])
    axis.grid(visible=False)
    axis.legend(loc="best")
  axes[0][0].set_ylabel("density of images")
  return _framed(figure, title, note)


def _edges(values: Sequence[np.ndarray]) -> np.ndarray:
  """Bins that have room for nearly all of every histogram."""
  out = (1 - _SHOWN) / 2
  finite = [each[np.isfinite(each)] for each in values]
  ends = [np.quantile(each, (out, 1 - out)) for each in finite if len(each)] or [np.zeros(2)]
  low, high = np.min(ends), np.max(ends)
  bins = int(np.clip(2 * np.sqrt(min(map(len, values))), 10, _BINS))
  return np.linspace(low, high if high > low else low + 1, bins + 1)


@styled
def profiles(
  alphas: np.ndarray,
  panels: Mapping[str, Mapping[str, np.ndarray]],
  title: str,
  note: str,
  mark: float | None,
) -> Any:
  """Means along paths, with the middle 80% of the paths where they are few curves.

  Args:
    alphas: [A].
    panels: axis label -> name -> [P, A] values of P paths.
    title: what is shown.
    note: small print.
    mark: a threshold in the first panel, or None.

  Returns:
    A matplotlib figure.
  """
  figure, axes = new(len(panels), 1, (1.2 + 4.6 * len(panels), 4.2))
  for i, (label, values) in enumerate(panels.items()):
    axis = axes[0][i]
    for k, (name, each) in enumerate(values.items()):
      colour = COLOURS[k % len(COLOURS)]
      axis.plot(alphas, np.mean(each, axis=0, dtype=np.float64), color=colour, lw=2, label=name)
      if i == 0 and k == 0:
        low, high = np.quantile(each, (0.1, 0.9), axis=0)
        axis.fill_between(alphas, low, high, color=colour, alpha=0.13, lw=0)
    if i == 0 and mark is not None:
      axis.axhline(mark, color=INK, lw=1.2, ls="--", label="threshold")
    if i > 0 or len(panels) == 1:
      axis.set_ylim(-0.03, 1.03)
    axis.set(xlabel="alpha, from x₀ to x₁", ylabel=label, xlim=(0, 1))
    axis.legend(loc="best")
  return _framed(figure, title, f"Band: the middle 80% of the paths. {note}")


@styled
def steps(
  panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
  title: str,
  note: str,
  strong: str,
) -> Any:
  """The share of images within a distance, as step curves.

  Args:
    panels: axis label -> name -> (distances in order, share of the images that are no farther).
    title: what is shown.
    note: small print.
    strong: the name that is drawn broad.

  Returns:
    A matplotlib figure.
  """
  figure, axes = new(len(panels), 1, (1.2 + 5.4 * len(panels), 4.4), sharey=True)
  for axis, (label, curves) in zip(axes[0], panels.items(), strict=True):
    end = max((at[-1] for at, _ in curves.values() if len(at)), default=1.0) * 1.05 or 1.0
    for k, (name, (at, share)) in enumerate(curves.items()):
      reached = 100 * np.array([0, *share, share[-1] if len(share) else 0])
      thick = name == strong
      colour = INK if thick else COLOURS[k % len(COLOURS)]
      # Behind the others: it runs along the strongest of them.
      style: Any = {"color": colour, "lw": 5.0, "alpha": 0.25} if thick else {"color": colour}
      axis.step([0, *at, end], reached, where="post", label=name, zorder=2 if thick else 3, **style)
    axis.set(xlabel=label, xlim=(0, end), ylim=(-3, 103))
    axis.legend(loc="best", fontsize=8)
  axes[0][0].set_ylabel("images broken, %")
  return _framed(figure, title, note)


@styled
def strips(
  rows: Sequence[Sequence[np.ndarray]],
  words: Sequence[Sequence[Word]] | None,
  heads: Sequence[str] | None,
  title: str,
  note: str,
  sides: Sequence[str] | None = None,
) -> Any:
  """Rows of images.

  Args:
    rows: images [H, W, D] in [0, 1], equally many in each row.
    words: what stands above each image; green where accepted, red where rejected.
    heads: above the columns.
    title: what is shown.
    note: small print.
    sides: beside the rows.

  Returns:
    A matplotlib figure.
  """
  columns = max(len(row) for row in rows)
  figure, axes = new(columns, len(rows), (1.05 * columns + 1.1, 1.35 * len(rows) + 1.1))
  for r, row in enumerate(rows):
    for c, image in enumerate(row):
      word, accepted = words[r][c] if words is not None else ("", None)
      colour = INK if accepted is None else GOOD if accepted else BAD
      head = f"{heads[c]}\n" if heads is not None and r == 0 else ""
      show(axes[r, c], image, head + word, colour)
      axes[r, c].title.set_fontsize(9)
    if sides is not None:
      axes[r, 0].set_ylabel(sides[r], fontsize=9, rotation=0, ha="right", va="center")
  for axis in axes.flat:
    bare(axis)
  coloured = words is not None and any(word[1] is not None for row in words for word in row)
  shades = "Green accepted, red rejected. " if coloured else ""
  return _framed(figure, title, shades + note)


def _framed(figure: Any, title: str, note: str) -> Any:
  """With title and small print."""
  figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=12)
  figure.supxlabel(note, fontsize=8, color=QUIET, x=0.02, ha="left", wrap=True)
  return figure
