"""How much quicker an attack is on every device or core of this host than by one worker.

    python benchmarks/workers.py [--workdir=runs/gfz_mnist] [--images=100] [--out=docs/results]

PGD on GFZ at MNIST size (untrained unless a run is given), as an evaluation runs it:
`workers.local` says how many workers, and batches are shared. Of all images in every step, and of
those that still stand. Both numbers of workers are compiled first and take turns; what is quoted is
the median of the turns and their spread. Writes workers.json and .md.
"""

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attack_gfz
import jax
import jax.numpy as jnp
import numpy as np
from arguments import positive
from record import publish

from gencls import attacks, runtime
from gencls.attacks import workers
from gencls.evaluation.results import portable_command
from gencls.types import Attack
from gencls.workdir import provenance

ROOT = Path(__file__).resolve().parent.parent
EPS = 0.3
CASES = {  # title -> PGD's settings
  "every image, every step": {"num_steps": 5, "early_stop": False},
  "until each image is broken": {"num_steps": 20, "early_stop": True},
}


def measure(workdir: str | None, num: int, repeats: int, seed: int) -> dict[str, Any]:
  """Seconds of every turn of every case, by one worker and by all."""
  model, logits_fn, keys, images = attack_gfz.load(workdir, num, seed)
  y = np.argmax(np.asarray(jax.jit(logits_fn)(keys, jnp.asarray(images))), axis=1)
  every, devices = workers.local(num)
  crews = {1: None, every: devices}

  def turn(attack: Attack, num_workers: int) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    crew = crews[num_workers]
    size, x, given = math.ceil(num / num_workers), jnp.asarray(images), jnp.asarray(y)
    result = attacks.run(
      attack, keys, x, given, batch_size=size, num_workers=num_workers, devices=crew
    )
    found = np.asarray(result.x)
    return time.perf_counter() - start, found

  cases = {}
  for title, settings in CASES.items():
    attack = attacks.build("pgd", logits_fn, eps=EPS, **settings)
    compiled = [turn(attack, crew)[1] for crew in crews]
    times: dict[int, list[float]] = {crew: [] for crew in crews}
    for repeat in range(repeats):  # the other one first each time
      for crew in list(crews)[:: 1 if repeat % 2 else -1]:
        times[crew].append(turn(attack, crew)[0])
    cases[title] = {
      "settings": settings,
      "seconds": {str(crew): seconds for crew, seconds in times.items()},
      "largest_difference": float(np.max(np.abs(compiled[0] - compiled[-1]))),
    }
  record = provenance()
  record["command"] = portable_command(record["command"])
  return {
    "model": model,
    "images": num,
    "eps": EPS,
    "cases": cases,
    "record": record,
  }


def markdown(found: Mapping[str, Any]) -> str:
  """A row for each case and number of workers."""
  made_by, devices = found["record"], found["record"]["devices"]
  differ = max(case["largest_difference"] for case in found["cases"].values())
  lines = [
    "# Attacks on every device or core\n",
    f"PGD (linf {found['eps']:g}) on GFZ ({found['model']}), {found['images']} images, "
    f"{devices['kind']} ({devices['platform']}, {devices.get('cores')} cores); one worker and all "
    f"take turns. What they find {_told(differ)}.\n",
    "| attacked | steps at most | workers | s, median | s, least to most | times as quick |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for title, case in found["cases"].items():
    one = float(np.median(case["seconds"]["1"]))
    for crew, times in case["seconds"].items():
      middle, steps = float(np.median(times)), case["settings"]["num_steps"]
      spread = f"{min(times):.2f} to {max(times):.2f}"
      lines.append(f"| {title} | {steps} | {crew} | {middle:.2f} | {spread} | {one / middle:.2f} |")
  lines.append(f"\n`{made_by['command']}`, revision {made_by['git']['revision']}.\n")
  return "\n".join(lines)


def _told(difference: float) -> str:
  return f"differs by at most {difference:.1g} in a pixel" if difference else "is the same"


def main() -> None:
  """Measures, and writes the numbers."""
  parser = argparse.ArgumentParser(description="times an attack by one worker and by all")
  parser.add_argument("--workdir", help="of a trained GFZ; untrained weights without")
  parser.add_argument("--images", type=positive, default=100)
  parser.add_argument("--repeats", type=positive, default=6)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  args = parser.parse_args()
  runtime.start_reading()
  found = measure(args.workdir, args.images, args.repeats, args.seed)
  publish(found, markdown, args.out / "workers.json")


if __name__ == "__main__":
  main()
