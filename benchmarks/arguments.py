"""Command-line types that the benchmarks share."""

import argparse


def positive(text: str) -> int:
  """An integer of at least 1; argparse names the flag in its error."""
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f"must be >= 1, got {number}")
  return number
