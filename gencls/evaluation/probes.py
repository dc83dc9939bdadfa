"""What an evaluation does for its sanity checks beside attacking: nothing, unless it is asked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gencls.evaluation.batch_loop import Protocol
from gencls.evaluation.gradient_cell import ASIDE, DIRECTIONS, FLIPS, MIDPOINTS, STEP
from gencls.evaluation.regrade_cell import Regrade, check_regrade
from gencls.evaluation.surface_cell import Surface, check_surface
from gencls.evaluation.transfer_cell import Source

GRADIENT, SURFACE = "gradient", "surface"


class Probes(NamedTuple):
  """None of them changes a number of an attack; images made elsewhere are candidates too."""

  gradient: bool = False  # the gradient held against the loss, see `gradient_cell`
  threshold: float | None = None  # of the attacked model's pixels: the gradient is of flips
  surface: Surface | None = None  # the margin over a plane, see `surface_cell`
  sources: tuple[Source, ...] = ()  # attacks of other evaluations, see `transfer_cell`
  regrade: Regrade | None = None  # other numbers of importance samples, see `regrade_cell`
  unseen: bool = False  # the worst case on draws that no attack has known, see `regrade_cell`


def check_probes(probes: Probes, protocol: Protocol, labels: Sequence[str]) -> None:
  """Raises ValueError for settings that do not fit, or where two cells would have one name.

  Args:
    probes: what is asked.
    protocol: how numbers are made.
    labels: of the attacks.
  """
  if probes.surface is not None:
    check_surface(probes.surface)
  if probes.regrade is not None:
    check_regrade(probes.regrade.num_samples, protocol.keep_images)
  own = [*labels, *(source.label for source in probes.sources)]
  twice = sorted({label for label in own if own.count(label) > 1})
  if twice:
    raise ValueError(
      f"two attacks or sources are called {', '.join(map(repr, twice))}: sources are named by the "
      "folder of their run, or of this run by their evaluation: give them different names"
    )


def gradient_settings(protocol: Protocol, threshold: float | None) -> dict[str, Any]:
  """What decides the cell of the gradient, JSON-able; the threshold is the model's."""
  if threshold is not None:
    return {"seed": protocol.seed, "threat": protocol.threat, "flips": [FLIPS, threshold]}
  return {
    "seed": protocol.seed,
    "threat": protocol.threat,
    "step": STEP,
    "aside": [DIRECTIONS, ASIDE, MIDPOINTS],
  }


def surface_settings(surface: Surface, protocol: Protocol) -> dict[str, Any]:
  """What decides the cell of the loss surface, JSON-able."""
  return {"seed": protocol.seed, "threat": protocol.threat, "surface": surface._asdict()}


NO_PROBES = Probes()
