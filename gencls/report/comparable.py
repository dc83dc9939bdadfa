"""Whether models were evaluated alike, so that their numbers may stand in one table."""

from collections.abc import Mapping
from typing import Any

from gencls.evaluation.attack_specs import applies
from gencls.report import merging


def check(summaries: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ValueError where two models were not evaluated on the same images in the same way."""
  first_title = next(iter(summaries))
  first = summaries[first_title]
  _check_own_attacks(summaries)
  for title, summary in summaries.items():
    for field in merging.MUST_AGREE:
      two = [merging.given(_for_all(s[field])) for s in (summary, first)]
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


def _for_all(field: Any) -> Any:
  """What of a field every model must share: of attacks those that are made for all models."""
  if not isinstance(field, Mapping):
    return field
  return {
    name: each
    for name, each in field.items()
    if not (isinstance(each, Mapping) and each.get("models"))
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
      if found is None or merging.given(found) != merging.given(wanted):
        raise ValueError(
          f"{title!r} and {first_title!r} differ in attacks.{label}, which is for "
          f"{wanted['models']} models: {found} and {wanted}; evaluate both with the same config"
        )


def _threshold(summary: Mapping[str, Any]) -> float | None:
  """Of the model; summaries of before it was recorded tell by the gradient alone."""
  guess = 0.5 if summary.get("gradient") in ("straight_through", "flip") else None
  return summary.get("pixel_threshold", guess)
