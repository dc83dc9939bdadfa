"""How large the HTML report of a sweep is, and how long it takes to open.

    python benchmarks/report_page.py [--out=docs/results]

Seven models, six attacks and every eps, with a detector and adversarial images, as the tests make
them up, in headless Chromium (which has to be installed): from the start of loading until the
curves are drawn. Writes report_page.json and .md.
"""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from arguments import positive
from record import publish

from gencls.evaluation.results import portable_command
from gencls.workdir import provenance

ROOT = Path(__file__).resolve().parent.parent
READY = "Number(document.documentElement.dataset.ready)"  # ms, set by the page itself


def measure(repeats: int) -> dict[str, Any]:
  """Makes the page and opens it in a new browser each time."""
  sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "report")]
  browser, pages = (importlib.import_module(n) for n in ("browser", "test_report_browser"))
  if browser.chromium() is None:
    sys.exit("no Chromium here: apt-get install chromium, or name it by CHROMIUM")

  async def ready(page: Any) -> float:
    return await page.js(READY)

  with tempfile.TemporaryDirectory() as folder:
    path = pages.made_page(Path(folder), pages.MODELS, pages.ATTACKS)
    times = [browser.visit(Path(folder) / f"profile{i}", path, ready) for i in range(repeats)]
    size = path.stat().st_size
  record = provenance()
  record["command"] = portable_command(record["command"])
  return {
    "models": len(pages.MODELS),
    "attacks": len(pages.ATTACKS),
    "megabytes": size / 1e6,
    "milliseconds": times,
    "cores": os.cpu_count(),
    "record": record,
  }


def markdown(found: Mapping[str, Any]) -> str:
  """The numbers in a sentence."""
  made_by, times = found["record"], found["milliseconds"]
  return (
    "# The HTML report of a sweep\n\n"
    f"{found['models']} models and {found['attacks']} attacks, with a detector: "
    f"{found['megabytes']:.1f} MB (aimed at: less than 5); in headless Chromium the curves are "
    f"drawn after {median(times) / 1e3:.2f} s in the median, {max(times) / 1e3:.2f} at most "
    f"({len(times)} starts, {found['cores']} cores; aimed at: less than 2).\n\n"
    f"`{made_by['command']}`, revision {made_by['git']['revision']}.\n"
  )


def main() -> None:
  """Measures, and writes the numbers."""
  parser = argparse.ArgumentParser(description="times the HTML report of a sweep")
  parser.add_argument("--repeats", type=positive, default=5)
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  args = parser.parse_args()
  publish(measure(args.repeats), markdown, args.out / "report_page.json")


if __name__ == "__main__":
  main()
