"""What a worst case is a bound of, in words: the threat models, and what failed checks say."""

from collections.abc import Mapping
from typing import Any

from gencls.report import table
from gencls.sanity import ORIGIN
from gencls.summary import detection, regraded, unseen

_OF_DRAWS = {
  unseen.NAME,
  unseen.HELD,
  regraded.NAME,
}  # the numbers are those of the draws that attacks knew
_OF_NO_ATTACK = {ORIGIN, detection.RATE}


def sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """That it is an upper bound, where it may be lower still, and where it rests on known draws.

  Args:
    summaries: title -> summary, of the worst cases.
  """
  failed = {title: table.failed(summary) for title, summary in summaries.items()}
  lower = [t for t, names in failed.items() if {*names} - _OF_DRAWS - _OF_NO_ATTACK]
  known = [t for t, names in failed.items() if {*names} & _OF_DRAWS]
  parts = ["A worst case is an upper bound of what other attacks under its threat model leave."]
  if lower:
    parts.append(f"By failed checks it may be lower still for {_listed(lower)}.")
  if known:
    parts.append(
      f"The numbers of {_listed(known)} are those of an attacker who knows the draws: on others "
      "they change, see the failed checks."
    )
  return " ".join(parts)


def threats(*evaluations: Mapping[str, Any]) -> str:
  """The threat model of each of several evaluations, as a sentence behind its name.

  Args:
    *evaluations: summaries, one of each.
  """
  found = {e["name"]: table.threat_sentence(e["protocol"], e["attacks"]) for e in evaluations}
  return " ".join(f"`{name}`: {told}" for name, told in found.items())


def _listed(titles: list[str]) -> str:
  *others, last = titles
  return f"{', '.join(others)} and {last}" if others else last
