"""Whether models were evaluated alike, so that their numbers may stand in one table."""

from collections.abc import Mapping
from typing import Any

from gencls.evaluation.attack_specs import applies
from gencls.report import merging


def left_out(summary: Mapping[str, Any]) -> set[str]:
  """The attacks of an evaluation's config that it was not to make: their eps is empty."""
  return {label for label, each in summary["attacks"].items() if each.get("eps", True) == []}


def left_out_sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """Which models have not met which attack; a sentence with a space before, or nothing."""
  without: dict[str, list[str]] = {}
  for title, summary in summaries.items():
    for label in sorted(left_out(summary)):
      without.setdefault(label, []).append(title)
  each = [f"{label} ({', '.join(titles)})" for label, titles in without.items()]
  return f" Left out: {', '.join(each)}." if each else ""


def check(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ValueError where two models were not evaluated on the same images in the same way.

  An attack may be left out of some models (`left_out_sentence` says so); the others must have the
  same one.
  """
  first_title = next(iter(summaries))
  first = summaries[first_title]
  _check_own_attacks(summaries)
  attacks = {title: _for_all(summary) for title, summary in summaries.items()}
  wanted = {label: each for every in reversed(attacks.values()) for label, each in every.items()}
  for title, summary in summaries.items():
    for field in merging.MUST_AGREE:
      two = [merging.given(s[field]) for s in (summary, first)]
      if field == "attacks":
        out = left_out(summary)
        two = [attacks[title], {name: wanted[name] for name in wanted if name not in out}]
      if two[0] != two[1]:
        raise ValueError(
          f"{title!r} and {first_title!r} differ in {field}: {two[0]} and {two[1]}; "
          "evaluate both with the same config"
        )
    for field in ("model", "attack_model"):
      # Families differ in the K they are trained with; what the evaluation sets must be the same.
      two = [s["config"][field]["num_samples"] for s in (summary, first)]
      both = all("num_samples" in s["model"] for s in (summary, first))
      if both and two[0] != two[1]:
        raise ValueError(
          f"{title!r} and {first_title!r} differ in config.{field}.num_samples: {two[0]} and "
          f"{two[1]}; evaluate both with the same K"
        )


def _for_all(summary: Mapping[str, Any]) -> dict[str, Any]:
  """The attacks that every model must share: those made for all models, and not left out."""
  out = left_out(summary)
  return {
    label: merging.decisive(each)
    for label, each in summary["attacks"].items()
    if label not in out and not each.get("models")
  }


def _check_own_attacks(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Attacks made for some models must be those of all such models."""
  own: dict[str, tuple[str, Any]] = {}
  for title, summary in summaries.items():
    for label, each in summary["attacks"].items():
      if each.get("models"):
        own.setdefault(label, (title, each))
  for label, (first_title, wanted) in own.items():
    for title, summary in summaries.items():
      found = summary["attacks"].get(label)
      if not applies(wanted["models"], _threshold(summary)):
        continue
      if found is None or merging.decisive(found) != merging.decisive(wanted):
        raise ValueError(
          f"{title!r} and {first_title!r} differ in attacks.{label}, which is for "
          f"{wanted['models']} models: {found} and {wanted}; evaluate both with the same config"
        )


def _threshold(summary: Mapping[str, Any]) -> float | None:
  """Of the model; summaries of before it was recorded tell by the gradient alone."""
  guess = 0.5 if summary.get("gradient") in ("straight_through", "flip") else None
  return summary.get("pixel_threshold", guess)
