"""Checks of the hyperparameters that several models share: the rule, the value, the fix."""

from collections.abc import Sequence


def class_prior(prior: Sequence[float] | None, num_classes: int) -> tuple[float, ...]:
  """p(y) as a tuple, uniform where None.

  Raises:
    ValueError: if it does not hold `num_classes` positive numbers that sum to one.
  """
  if prior is None:
    return (1.0 / num_classes,) * num_classes
  whole = len(prior) == num_classes and all(p > 0 for p in prior)  # NaN is neither
  if not (whole and abs(sum(prior) - 1) <= 1e-3):
    raise ValueError(
      f"class_prior must hold {num_classes} positive numbers that sum to 1, got {tuple(prior)}; "
      "None is the uniform prior"
    )
  return tuple(prior)


def sizes(**values: int | Sequence[int]) -> None:
  """Raises ValueError for a named layer, or one of several, without a unit."""
  for name, value in values.items():
    for each in value if isinstance(value, Sequence) else (value,):
      if each < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")


def dropout_rate(rate: float) -> None:
  """Raises ValueError for a rate outside [0, 1)."""
  if not 0 <= rate < 1:
    raise ValueError(f"dropout_rate must be in [0, 1), got {rate}; 0.0 is no dropout")
