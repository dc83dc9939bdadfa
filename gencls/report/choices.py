"""What fits have chosen on validation images, in words."""

from collections.abc import Mapping
from typing import Any

_CANDIDATE = "validation_accuracy/"
_STEP = "step"  # of a fit that descends, and keeps the step of the best accuracy


def sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """What each fit took of how many candidates, and its validation accuracy.

  Args:
    summaries: title -> summary; of models without a choice, and in older files, it is not said.

  Returns:
    A sentence with a space before, or nothing.
  """
  each = []
  for title, summary in summaries.items():
    metrics = summary.get("training", {}).get("fit", {})
    if _STEP in metrics:
      words = f"{metrics[_STEP]:.0f} of {metrics['iterations']:.0f} steps"
      each.append(f"{title} {words} ({100 * metrics['validation_accuracy']:.1f}%)")
    tried = {name: metrics[name] for name in metrics if name.startswith(_CANDIDATE)}
    if tried:
      best = max(tried, key=lambda name: tried[name])  # of equally good ones the first
      words = best.removeprefix(_CANDIDATE)
      each.append(f"{title} {words} of {len(tried)} ({100 * tried[best]:.1f}%)")
  return f" Chosen by accuracy on validation images: {', '.join(each)}." if each else ""
