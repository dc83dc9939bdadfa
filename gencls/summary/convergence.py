"""Would more steps or more restarts lower the number that is reported?

An evaluation that has an attack twice, once with more of something, answers by its worst case: with
the longer attack and without it. One attack may fall short where others make up for it.
"""

from collections.abc import Sequence
from typing import Any

from gencls import sanity
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.candidates import Group, attacks_first, candidate
from gencls.evaluation.results import Cell
from gencls.summary.detection import evading

DEFAULTS = {"num_restarts": 1}  # where an attack's settings do not say
STEP_SIZES = ("step_size", "rel_step_size")

Pair = tuple[sanity.Curve, sanity.Curve]  # (less, more)


def pairs_of_more(
  curves: Sequence[sanity.Curve],
  cells: Sequence[Cell],
  number: str,
  times: int,
  beside: Sequence[str] = (),
) -> list[Pair]:
  """(few, many): attacks alike but for at least `times` the number, and for what is `beside` it."""
  settings = {c.header["label"]: c.header["settings"].get("attack") for c in cells}

  def count(curve: sanity.Curve) -> int:
    return settings[curve.label]["hyperparameters"].get(number, DEFAULTS.get(number, 0))

  def rest(curve: sanity.Curve) -> dict[str, Any]:
    hyperparameters = settings[curve.label]["hyperparameters"]
    same = {name: v for name, v in hyperparameters.items() if name not in (number, *beside)}
    return {**settings[curve.label], "label": None, "hyperparameters": same}

  return [
    (few, many)
    for few in curves
    for many in curves
    if 0 < times * count(few) <= count(many) and rest(few) == rest(many)
  ]


def of_the_worst_case(
  pairs: Sequence[Pair], grouped: Sequence[Group], untouched: Cell
) -> list[Pair]:
  """The worst case without the attacks that make more, and with them.

  Args:
    pairs: from `pairs_of_more`. Targeted attacks, which worst cases do not judge by their target,
      stay as they are.
    grouped: the candidates at every eps.
    untouched: the cell of the clean images.

  Returns:
    A pair for each norm and kind of attack, at every eps that has an attack which makes more.
  """
  found = [pair for pair in pairs if pair[1].target is not None]
  kinds = dict.fromkeys((many.norm, many.against) for _, many in pairs if many.target is None)
  for norm, against in kinds:
    more = {many.label for _, many in pairs if (many.norm, many.against) == (norm, against)}
    detector = against == "detector"
    clean = as_held(untouched) if detector else untouched
    points = []
    for group in grouped:
      cells = [cell for cell in group.cells if evading(cell) == detector]
      longer = [cell for cell in cells if cell.header["label"] in more]
      if group.norm != norm or all(cell.header["eps"] != group.eps for cell in longer):
        continue
      views = [as_held(cell) for cell in cells] if detector else cells
      rest = [cell for cell in views if cell.header["label"] not in more]
      without, within = (
        candidate(attacks_first(group._replace(cells=own), clean))[1] for own in (rest, views)
      )
      points.append((group.eps, without, within))
    eps, short, long = zip(*points, strict=True)
    less = sanity.Curve("the worst case without", norm, eps, short, against=against)
    label = f"with {' and '.join(sorted(more))}"
    found.append((less, less._replace(label=label, correct=long)))
  return found
