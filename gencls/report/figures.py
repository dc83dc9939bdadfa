"""Figures as PNG; matplotlib is imported where it is used."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencls.workdir import atomic_write

INK, QUIET, GOOD, BAD = "#222222", "#8a8a8a", "#1a7f37", "#c0392b"
# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#4D4D4D")
_MARKERS = "osD^vPX"  # seven, so that a colour comes again with another one
# Of models with a density, and of those that are trained for p(y | x) alone.
_DASHES = {False: ("-", ":"), True: ("--", "-.")}
_IN_PANEL, _SHORT = 6, 30  # curves and letters up to which names are written inside a panel
_WIDE = 100.0  # radii that differ by more are drawn on a logarithmic axis, linear below the first
_STYLE: Any = {
  "font.size": 10,
  "axes.titlesize": 12,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": QUIET,
  "axes.grid": True,
  "grid.color": "#e6e6e6",
  "legend.frameon": False,
  "legend.handlelength": 3.2,  # room for dashes
  "figure.facecolor": "white",
}


class Line(NamedTuple):
  """One curve over eps with its 95% interval, in shares."""

  label: str
  eps: Sequence[float]
  mean: Sequence[float]
  low: Sequence[float]
  high: Sequence[float]
  strong: bool = False  # the one that counts: thick, black, with a band
  quiet: bool = False  # context: thin and dashed
  posterior: bool = False  # of a model of p(y | x) alone: dashed


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
  """Draws under the house style: matplotlib reads some settings only when a thing is made."""

  @functools.wraps(draw)
  def styled(*args: Any, **kwargs: Any) -> Any:
    from matplotlib import rc_context  # noqa: PLC0415

    with rc_context(_STYLE):
      return draw(*args, **kwargs)

  return styled


def new(columns: int, rows: int, size: tuple[float, float], **options: Any):
  """A figure and its axes [rows, columns] that no window belongs to."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
  from matplotlib.figure import Figure  # noqa: PLC0415

  figure = Figure(figsize=size, layout="constrained")
  FigureCanvasAgg(figure)
  return figure, figure.subplots(rows, columns, squeeze=False, **options)


DOTS_PER_INCH = 150
MOST_BYTES = 950_000  # of one file


def save(figure: Any, path: Path) -> None:
  """Writes a figure as PNG, whole or not at all; a large one in 256 colours, or with fewer dots."""
  dots = DOTS_PER_INCH
  if len(content := png(figure, dots)) > MOST_BYTES:
    while len(content := _of_palette(png(figure, dots))) > MOST_BYTES and dots > 1:
      dots = int(0.8 * dots)
  atomic_write(path, content)


@styled
def png(figure: Any, dots_per_inch: int) -> bytes:
  """A figure as the bytes of a PNG."""
  content = io.BytesIO()
  figure.savefig(content, format="png", dpi=dots_per_inch)
  return content.getvalue()


def _of_palette(content: bytes) -> bytes:
  """The PNG in the 256 colours that suit it best: a third of the bytes, of curves."""
  from PIL import Image  # noqa: PLC0415

  found = io.BytesIO()
  Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(found, "png", optimize=True)
  return found.getvalue()


def line(label: str, rows: Sequence[Mapping[str, Any]], field: str, start: Mapping[str, Any] | None,
         **style: bool) -> Line:  # fmt: skip
  """A curve from the rows of a summary.

  Args:
    label: its name.
    rows: rows with `eps` and an interval (or None: no point) under `field`.
    field: "accuracy" or "success_rate".
    start: the interval at eps = 0, or None for no point there.
    **style: `strong`, `quiet` or `posterior`.
  """
  points = [(0.0, start)] if start else []
  points += [(r["eps"], r[field]) for r in sorted(rows, key=lambda r: r["eps"]) if r[field]]
  points = list({eps: interval for eps, interval in points}.items())
  mean, low, high = ([i[name] for _, i in points] for name in ("mean", "low", "high"))
  return Line(label, [eps for eps, _ in points], mean, low, high, **style)


@styled
def curves(panels: Mapping[str, Sequence[Line]], title: str, ylabel: str, note: str,
           chance: float | None = None) -> Any:  # fmt: skip
  """Curves over eps, one panel for each norm.

  Args:
    panels: norm -> lines.
    title: what is shown.
    ylabel: of the vertical axis, in percent.
    note: small print below the figure (n, threat model, what the bars are).
    chance: a level to be marked, as a share; or None.

  Returns:
    A matplotlib figure.
  """
  every = [each for lines in panels.values() for each in lines]
  names = {each.label for each in every}
  many = len(names) > _IN_PANEL or max(map(len, names), default=0) > _SHORT
  beside = 0.6 + 0.08 * max(map(len, names), default=0) if many else 0.0
  own = looks([each for each in every if not (each.strong or each.quiet)])
  figure, axes = new(len(panels), 1, (1.2 + 5.6 * len(panels) + beside, 4.4), sharey=True)
  for axis, (norm, lines) in zip(axes[0], panels.items(), strict=True):
    if chance is not None:
      axis.axhline(100 * chance, color=QUIET, lw=1, ls=(0, (1, 2)), label="largest class")
    for each in lines:
      _draw(axis, each, own.get(each.label, {}))
    axis.set_xlabel(f"eps ({norm}, images in [0, 1])")
    axis.set_ylim(-3, 103)
    radii_axis(axis, [eps for each in lines for eps in each.eps])
    axis.set_yticks(range(0, 101, 20))
    if not many:
      axis.legend(loc="best")
  if many:  # they would lie on the curves
    found = [axis.get_legend_handles_labels() for axis in axes[0]]
    handles = {label: each for pair in found for each, label in zip(*pair, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=9)
  axes[0][0].set_ylabel(ylabel)
  axes[0][0].set_title(title)
  figure.supxlabel(note + kinds(every), fontsize=8, color=QUIET, x=0.02, ha="left")
  return figure


def radii_axis(axis: Any, eps: Sequence[float]) -> None:
  """From zero on, logarithmic where radii are far apart."""
  radii = [each for each in eps if each > 0]
  if radii and max(radii) > _WIDE * min(radii):
    axis.set_xscale("symlog", linthresh=min(radii))
  axis.set_xlim(left=0)


def looks(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
  """Label -> colour, marker and dashes, other ones for each; dashed are those of p(y | x) alone.

  Colours come again after eight, with another marker and other dashes.
  """
  kinds = {each.label: each.posterior for each in lines}
  return {
    label: {
      "color": COLOURS[n % len(COLOURS)],
      "marker": _MARKERS[n % len(_MARKERS)],
      "ls": _DASHES[posterior][n // len(COLOURS) % len(_DASHES[posterior])],
    }
    for n, (label, posterior) in enumerate(kinds.items())
  }


def kinds(lines: Sequence[Line]) -> str:
  """What dashes mean, for the small print; nothing where there is one kind of models alone."""
  shown = {each.posterior for each in lines if not (each.strong or each.quiet)}
  return "; dashed: models of p(y | x) alone" if len(shown) > 1 else ""


def _draw(axis: Any, each: Line, look: Mapping[str, Any]) -> None:
  own = dict(look)  # the same in every panel
  if each.strong:
    own = {"color": INK, "marker": "o", "ls": "-"}
  elif each.quiet:
    own = {"color": QUIET, "marker": "", "ls": "--"}
  mean, low, high = (100 * np.asarray(v, float) for v in (each.mean, each.low, each.high))
  width = 2.6 if each.strong else 1.2 if each.quiet else 1.7
  axis.plot(
    each.eps,
    mean,
    **own,
    lw=width,
    ms=5,
    label=each.label,
    zorder=4 if each.strong else 3,
    clip_on=False,
  )
  if each.strong:
    axis.fill_between(each.eps, low, high, color=own["color"], alpha=0.13, lw=0)
  elif not each.quiet:
    axis.vlines(each.eps, low, high, color=own["color"], lw=1, alpha=0.6)


@styled
def roc(
  panels: Mapping[str, Sequence[tuple[str, np.ndarray, np.ndarray]]],
  operating: float,
  title: str,
  note: str,
) -> Any:
  """ROC curves of a detector, one panel for each norm.

  Args:
    panels: title of a panel -> (label, false-positive rates, detection rates) of each curve.
    operating: the false-positive rate of the threshold that was used, marked.
    title: what is shown.
    note: small print below the figure.

  Returns:
    A matplotlib figure.
  """
  figure, axes = new(len(panels), 1, (1.2 + 4.6 * len(panels), 4.6), sharey=True)
  for axis, (name, lines) in zip(axes[0], panels.items(), strict=True):
    axis.plot([0, 100], [0, 100], color=QUIET, lw=1, ls=(0, (1, 2)))
    axis.axvline(100 * operating, color=QUIET, lw=1, ls="--", label="threshold used")
    for i, (label, rejected, detected) in enumerate(lines):
      colour, style = COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else ":"
      axis.plot(100 * rejected, 100 * detected, color=colour, ls=style, lw=1.7, label=label)
    axis.set_xlabel(f"clean test images rejected, % ({name})")
    axis.set(xlim=(-2, 102), ylim=(-2, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axis.legend(loc="best", fontsize=8)
  axes[0][0].set_ylabel("successful attacks rejected, %")
  axes[0][0].set_title(title)
  figure.supxlabel(note, fontsize=8, color=QUIET, x=0.02, ha="left")
  return figure


@styled
def surfaces(values: np.ndarray, names: Sequence[str], eps: float, title: str, note: str) -> Any:
  """The margin over planes through images, one panel for each, all on one scale.

  Args:
    values: [M, P, P] nats, positive where misclassified; rows along the gradient's signs.
    names: of the panels.
    eps: how far the planes reach.
    title: what is shown.
    note: small print below the figure.

  Returns:
    A matplotlib figure.
  """
  size = (1.4 + 2.7 * len(values), 3.7)
  figure, axes = new(len(values), 1, size, sharey=True, sharex=True)
  finite = np.abs(values[np.isfinite(values)])
  scale = max(float(np.max(finite, initial=0.0)), 1e-6)
  at = np.linspace(-eps, eps, values.shape[1])
  for axis, value, name in zip(axes[0], values, names, strict=True):
    # Columns of the picture run along the gradient.
    axis.imshow(
      value.T,
      origin="lower",
      extent=(-eps, eps, -eps, eps),
      cmap="RdBu_r",
      vmin=-scale,
      vmax=scale,
      interpolation="nearest",
    )
    if np.any(value < 0) and np.any(value > 0):
      axis.contour(at, at, value.T, levels=[0.0], colors=INK, linewidths=1.2)
    axis.plot(0, 0, "o", color=INK, ms=4)
    axis.set_title(name, loc="center", fontsize=10, fontweight="normal")
    axis.set(xticks=(-eps, 0, eps), yticks=(-eps, 0, eps))
    axis.set_xlabel("along the gradient's signs", fontsize=9)
    axis.grid(visible=False)
  axes[0][0].set_ylabel("along a random direction", fontsize=9)
  figure.colorbar(axes[0][0].images[0], ax=axes[0].tolist(), shrink=0.9, label="margin, nats")
  figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=12)
  figure.supxlabel(note, fontsize=8, color=QUIET, x=0.02, ha="left")
  return figure


@styled
def image_grid(
  clean: np.ndarray,
  adversarial: np.ndarray,
  labels: np.ndarray,
  before: np.ndarray,
  after: np.ndarray,
  title: str,
) -> Any:
  """Clean image, adversarial image and perturbation, one column for each example.

  Args:
    clean: [N, H, W, D] float32 in [0, 1].
    adversarial: [N, H, W, D].
    labels: [N] true labels.
    before: [N] predictions of the clean images.
    after: [N] predictions of the adversarial images; −1 is none.
    title: what is shown.

  Returns:
    A matplotlib figure.
  """
  n = len(clean)
  figure, axes = new(n, 3, (1.15 * n + 1.1, 4.5))
  delta = np.mean(adversarial - clean, axis=-1)
  scale = max(float(np.max(np.abs(delta))), 1e-6)
  for i in range(n):
    show(axes[0, i], clean[i], f"{before[i]}", GOOD if before[i] == labels[i] else BAD)
    text = "none" if after[i] < 0 else f"{after[i]}"
    show(axes[1, i], adversarial[i], text, GOOD if after[i] == labels[i] else BAD)
    axes[2, i].imshow(delta[i], cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
  for axis in axes.flat:
    bare(axis)
  for axis, name in zip(axes[:, 0], ("clean", "adversarial", "perturbation"), strict=True):
    axis.set_ylabel(name, fontsize=10)
  figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=12)
  note = (
    "Numbers are predictions: green right, red wrong.\n"
    f"Perturbation: red brighter, blue darker, up to ±{scale:.2g}."
  )
  figure.supxlabel(note, fontsize=8, color=QUIET, x=0.02, ha="left")
  return figure


def bare(axis: Any) -> None:
  """Takes ticks, grid and frame away."""
  axis.set(xticks=[], yticks=[])
  axis.grid(visible=False)
  axis.spines[:].set_visible(False)


def show(axis: Any, image: np.ndarray, caption: str, colour: str) -> None:
  """Draws an image [H, W, D] in [0, 1] under a caption."""
  shown = image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, 1)
  axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
  axis.set_title(caption, color=colour, loc="center", fontsize=12, fontweight="bold")
