"""The stored record of benchmarks/gaussian_mixture.py, which the results page quotes."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def record():
  return json.loads((ROOT / "docs" / "results" / "gaussian_mixture_speed.json").read_text())


def test_it_is_of_the_whole_training_split_and_of_equal_fits(record):
  assert record["num_images"] == 60_000 and record["settings"]["num_components"] == 60
  assert record["largest_relative_difference"] < 1e-4 and not record["git"]["dirty"]


def test_ours_takes_less_than_half_of_scikit_learns_time(record):
  """Of the whole fit compilation included; of EM from the same start, against its float32."""
  seconds = record["summary"]["fit_seconds"]
  with_compilation = seconds["ours"] + record["first_fit_with_compilation_seconds"]
  assert with_compilation < 0.5 * seconds["sklearn"]
  em = record["summary"]["em_seconds"]
  assert em["ours"] < 0.5 * min(em["sklearn_float32"], em["sklearn_float64"])
