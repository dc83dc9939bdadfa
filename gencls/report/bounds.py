"""What a worst case is a bound of, in words: the threat models, and what failed checks say."""

from collections.abc import Mapping
from typing import Any

from gencls.report import table
from gencls.sanity import ORIGIN, THREAT
from gencls.summary import detection, regraded, unseen

_OF_DRAWS = {unseen.NAME, THREAT}
# They say nothing of an accuracy: of its origin, of another estimate, of the detector's columns.
_OF_NO_ACCURACY = {ORIGIN, regraded.NAME, unseen.HELD, detection.RATE, detection.ADAPTIVE}


def sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """That it is an upper bound, where it may be lower still, and where it rests on known draws.

  Args:
    summaries: title -> summary, of the worst cases of accuracy.
  """
  failed = {title: {*table.failed(summary)} for title, summary in summaries.items()}
  parts = ["A worst case is an upper bound of what other attacks under its threat model leave."]
  if lower := [title for title, names in failed.items() if _of_attacks(names)]:
    parts.append(f"By failed checks it may be lower still for {_listed(lower)}.")
  if known := [title for title, names in failed.items() if names & _OF_DRAWS]:
    parts.append(
      f"The numbers of {_listed(known)} are those of an attacker who knows the draws: on others "
      "these images are right more or less often, see the failed checks."
    )
  return " ".join(parts)


def _of_attacks(names: set[str]) -> set[str]:
  rest = names - _OF_DRAWS - _OF_NO_ACCURACY
  return {name for name in rest if "right or rejected" not in name}


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
