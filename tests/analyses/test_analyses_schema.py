"""docs/results_schema.md names every array that an analysis writes."""

import re
from pathlib import Path

import pytest
import toy_analyses

from gencls.analyses import REGISTRY
from gencls.analyses.out_of_distribution import MADE

SETTINGS = {
  "interpolation": {"num_pairs": 5, "num_steps": 5, "detector": "marginal"},
  "class_gap": {},
  "ambiguous": {"num_pairs": 5},
  "out_of_distribution": {"sets": [next(iter(MADE))]},
}
# What stands for a name in the schema: of a detector, a score of a label, or a set.
NAMES = {"name": toy_analyses.examined().detectors, "score": ("log_posterior", "log_lik"),
         "set": tuple(MADE)}  # fmt: skip


def patterns(name):
  """The arrays of an analysis in the schema, as regular expressions."""
  text = (Path(__file__).resolve().parents[2] / "docs" / "results_schema.md").read_text()
  rows, own = re.findall(r"^\| (\S*) ?\| (.*?) \|", text.split("## Analyses")[1], re.M), ""
  found = []
  for first, arrays in rows:
    own = first.strip("`") or own
    if own == name:
      found += re.findall(r"`([^`]+)`", arrays)
  return [re.sub(r"<(\w+)>", lambda m: f"({'|'.join(NAMES[m[1]])})", each) for each in found]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_the_schema_names_the_arrays_of_an_analysis(name):
  arrays, numbers = REGISTRY[name].analyse(toy_analyses.inputs(), SETTINGS[name])
  assert arrays, numbers
  named = patterns(name)
  for each in arrays:
    assert any(re.fullmatch(pattern, each) for pattern in named), (each, named)
  for pattern in named:
    assert any(re.fullmatch(pattern, each) for each in arrays), (pattern, list(arrays))
