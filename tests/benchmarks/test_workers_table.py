"""The table of benchmarks/workers.py."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
  sys.path.insert(0, str(BENCHMARKS))
  import workers

  yield workers
  sys.path.remove(str(BENCHMARKS))


def test_the_table_has_medians_spreads_and_ratios(benchmark):
  case = {
    "settings": {"num_steps": 5},
    "seconds": {"1": [6.0, 4.0, 5.0], "2": [2.0, 2.5, 9.0]},
    "largest_difference": 0.0,
  }
  devices = {"kind": "cpu", "platform": "cpu", "cores": 2}
  record = {"devices": devices, "command": "benchmarks/workers.py", "git": {"revision": "abc"}}
  found = {"model": "gfz", "images": 50, "eps": 0.3, "cases": {"all": case}, "record": record}
  text = benchmark.markdown(found)
  assert "| all | 5 | 1 | 5.00 | 4.00 to 6.00 | 1.00 |" in text
  assert "| all | 5 | 2 | 2.50 | 2.00 to 9.00 | 2.00 |" in text
  assert "What they find is the same." in text and "(cpu, 2 cores)" in text
  case["largest_difference"] = 2e-6
  assert "differs by at most 2e-06 in a pixel." in benchmark.markdown(found)
