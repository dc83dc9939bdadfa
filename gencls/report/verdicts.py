"""Who of a pair is ahead, and what all pairs come to, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

# UNDECIDED: no difference is shown; LOST: both have less than `LITTLE`, whoever has more.
AHEAD, BEHIND, UNDECIDED, LOST = "ahead", "behind", "=", "under 5%"
PARTIAL = "not run in full"
LITTLE = 0.05  # of the images: whoever is ahead there leads by nothing of use


def verdict(row: Mapping[str, Any]) -> str:
  """What the interval of one difference tells, and while attacks are missing, what they leave sure.

  What is missing can only take from the one that it is missing for: two that have lost stay so, and
  one that is behind already stays behind a complete one.
  """
  if max(row["first"], row["second"]) < LITTLE:
    return LOST
  if "second" not in row["partial"] and row["difference"]["high"] < 0:
    return BEHIND
  if "first" not in row["partial"] and row["difference"]["low"] > 0:
    return AHEAD
  return PARTIAL if row["partial"] else UNDECIDED


def of_pair(pair: Mapping[str, Any]) -> dict[tuple[str, float], str]:
  """(norm, eps) -> who is ahead."""
  return {(row["norm"], row["eps"]): verdict(row) for row in pair["rows"] if row["norm"]}


def in_words(found: Sequence[Mapping[str, Any]]) -> str:
  """The answer: how many pairs say what, and for each model where, against whom, at what cost.

  Args:
    found: of `counterparts.pairs`, at least one.
  """
  told = [set(of_pair(pair).values()) for pair in found]
  ahead, behind = (sum(kind in kinds for kinds in told) for kind in (AHEAD, BEHIND))
  unknown = sum(_unknown(kinds) for kinds in told)
  neither = sum(not (kinds & {AHEAD, BEHIND} or _unknown(kinds)) for kinds in told)
  head = (
    f"In {ahead} of {len(found)} pairs the generative classifier is ahead at some budget, in "
    f"{behind} it is behind at some{f', in {neither} no difference is shown' * bool(neither)}"
    f"{f'; {unknown} are {PARTIAL}' * bool(unknown)}."
  )
  firsts = dict.fromkeys(pair["first"] for pair in found)
  lines = [_of_model([pair for pair in found if pair["first"] == first]) for first in firsts]
  return "\n".join([head, "", *(f"- {line}" for line in lines)])


def ratio(cost: float) -> str:
  """A ratio of costs by two digits, from 10 on as an integer: "0.17", "1.4", "182"."""
  return f"{cost:.0f}" if cost >= 10 else f"{cost:.2g}"


def _unknown(kinds: set[str]) -> bool:
  """Whether all that is told of one pair or several, but for where both have lost, is partial."""
  return not kinds - {PARTIAL, LOST} and kinds != {LOST}


def _of_model(mine: Sequence[Mapping[str, Any]]) -> str:
  """One model: where it is ahead and behind, from where on nothing is left, what it costs."""
  parts = [part for kind in (AHEAD, BEHIND) if (part := _against(mine, kind))]
  kinds = {kind for pair in mine for kind in of_pair(pair).values()}
  parts = parts or [PARTIAL if _unknown(kinds) else "no difference is shown"]
  if gone := _gone(mine[0]):
    parts.append(f"under {100 * LITTLE:g}% are left {gone}")
  costs = [pair["cost"] for pair in mine if pair["cost"] is not None]
  if costs:
    low, high = (ratio(cost) for cost in (min(costs), max(costs)))
    span = low if low == high else f"{low} to {high}"
    parts.append(f"attacks take {span} times as long")
  return f"**{mine[0]['first']}**: {'; '.join(parts)}."


def _against(mine: Sequence[Mapping[str, Any]], kind: str) -> str:
  """ "ahead of A and B at l2 1, 2, of C at linf 0.1", or nothing."""
  by_place: dict[str, list[str]] = {}
  for pair in mine:
    if places := [at for at, who in of_pair(pair).items() if who == kind]:
      by_place.setdefault(_places(places), []).append(pair["second"])
  of = "of " if kind == AHEAD else ""
  each = [f"{of}{_listed(names)} at {at}" for at, names in by_place.items()]
  return f"{kind} {', '.join(each)}" if each else ""


def _places(places: Sequence[tuple[str, float]]) -> str:
  norms = dict.fromkeys(norm for norm, _ in places)
  told = [
    f"{norm} {', '.join(f'{eps:g}' for n, eps in sorted(places) if n == norm)}" for norm in norms
  ]
  return " and ".join(told)


def _gone(pair: Mapping[str, Any]) -> str:
  """From which eps of each norm on the first has less than `LITTLE`; nothing where it never has."""
  told = []
  for norm in dict.fromkeys(row["norm"] for row in pair["rows"] if row["norm"]):
    own = sorted((row["eps"], row["first"]) for row in pair["rows"] if row["norm"] == norm)
    empty = [eps for eps, _ in own if all(left < LITTLE for at, left in own if at >= eps)]
    if empty:
      told.append(f"from {norm} {empty[0]:g} on")
  return " and ".join(told)


def _listed(names: Sequence[str]) -> str:
  return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
