"""Minimal hyperparameters of every registered attack: the tests of test_attack_table.py go over it.

A new attack adds one row. Keep it small (few steps) and strong enough to succeed on some of the
images of test_attack_table.py: rows are compiled once, and every shared property uses that program.
"""

from typing import Any, NamedTuple


class Row(NamedTuple):
  """One attack of the shared tests."""

  options: dict[str, Any]  # hyperparameters; those of a fixed budget need their eps
  other: dict[str, Any]  # other numbers, which must not compile again


TABLE: dict[str, Row] = {
  "fgm": Row({"eps": 0.15}, {"eps": 0.05}),
  "fgsm": Row({"eps": 0.08}, {"eps": 0.02}),
  "pgd": Row({"eps": 0.08, "num_steps": 3}, {"eps": 0.02, "num_steps": 4, "step_size": 0.01}),
}
