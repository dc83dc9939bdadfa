"""Speed of the attacks beside Foolbox (on JAX and PyTorch), ART and torchattacks, on one CNN.

    python benchmarks/attack_speed.py                  # all rows, about 15 minutes on 2 quiet cores
    python benchmarks/attack_speed.py --only=fgsm,pgd_l2      # prints; writes only with --out

Every library attacks the same weights (a plain CNN, trained here for a minute) on the same images.
Each call is warm and the libraries take turns; what the first call took longer is shown as compile
time. Rows of fixed steps make the same steps everywhere. Minimum-norm rows compare the time to the
same median distance: ours takes the fewest steps of the row's ladder whose median distance is at
most that of the fastest peer, and whose successes are as many (one image less is taken as equal).
Ours runs its batches one at a time or one on each core, whichever is faster beforehand.
Then the attacks run on the GFZ (K = 10), with the operations it needs over the machine's peak.
Writes docs/results/attack_speed.json and the table made from it, attack_speed.md.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attack_gfz
import attack_peers
import jax.numpy as jnp
import numpy as np
import plain_cnn
from arguments import positive
from attack_rows import ROWS, Row
from plain_cnn import Victim

from gencls import attacks, runtime
from gencls.evaluation.results import portable_command
from gencls.workdir import atomic_write, provenance, to_json

ROOT = Path(__file__).resolve().parent.parent
OURS = "gencls"
PACKAGES = ("torch", "foolbox", "eagerpy", "adversarial-robustness-toolbox", "torchattacks")
CLEAR_SECONDS = 0.5  # one call of this length says enough
SHORT_SECONDS, SHORT_REPEATS = 0.1, 5  # rows of calls this short repeat so many times as often
START = time.perf_counter()

Run = Callable[[], np.ndarray]


def log(text: str) -> None:
  """Progress, with the time since the start of the process."""
  print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def timed(run: Run) -> tuple[np.ndarray, float]:
  """What a call returns, and its seconds."""
  start = time.perf_counter()
  result = run()
  return result, time.perf_counter() - start


def our_run(victim: Victim, row: Row, num_steps: int | None, num_workers: int = 1) -> Run:
  """Our attack of a row.

  Raises:
    ValueError: if it is not registered, or has no such hyperparameter.
  """
  size = min(row.num_images, len(victim.x))
  numbers = row.numbers if num_steps is None else {**row.numbers, "num_steps": num_steps}
  attack = attacks.build(row.attack, victim.logits_fn, loss=row.loss, **numbers)
  keys, x, y = victim.keys[:size], jnp.asarray(victim.x[:size]), jnp.asarray(victim.labels[:size])
  return lambda: np.asarray(attacks.run(attack, keys, x, y, num_workers=num_workers).x)


def grade(victim: Victim, row: Row, x_adv: np.ndarray) -> dict[str, float]:
  """Share of successes and median distance (inf where more than half fail), for any library."""
  size = min(row.num_images, len(victim.x))
  x_adv = np.clip(np.asarray(x_adv, np.float32), 0.0, 1.0)
  wrong = plain_cnn.predict(victim.weights, x_adv) != victim.labels[:size]
  delta = np.abs(x_adv - victim.x[:size]).reshape(size, -1)
  distance = delta.max(axis=1) if row.norm == "linf" else np.linalg.norm(delta, axis=1)
  return {
    "success": float(np.mean(wrong)),
    "median_distance": float(np.median(np.where(wrong, distance, np.inf))),
  }


def reaches(ours: dict[str, float], theirs: dict[str, float], num_images: int) -> bool:
  """Whether our result is as good as a peer's: distances to a millionth, successes to one image."""
  near = ours["median_distance"] <= theirs["median_distance"] * (1 + 1e-6)
  return near and ours["success"] >= theirs["success"] - 1.001 / num_images


def first_calls(victim: Victim, row: Row, runs: dict[str, Run], cap: float) -> dict[str, Any]:
  """{library: cold seconds, first warm seconds, grade}; beyond `cap` seconds there is no second."""
  sides = {}
  for name, run in runs.items():
    x_adv, cold = timed(run)
    warm = timed(run)[1] if cold <= cap else cold
    sides[name] = {"cold_seconds": cold, "warm_seconds": warm, **grade(victim, row, x_adv)}
    log(f"{row.title}: {name} {cold:.2f} s cold, {warm:.2f} s warm")
  return sides


def quickest(run: Run, first: dict[str, Any]) -> float:
  """Seconds of the best of a few warm calls; of the first alone where that is clear enough."""
  again = 4 if first["warm_seconds"] < CLEAR_SECONDS else 0
  return min([first["warm_seconds"], *(timed(run)[1] for _ in range(again))])


def climb(victim: Victim, row: Row, reference: dict[str, float] | None) -> tuple[int | None, bool]:
  """(steps of ours, whether they reach the reference): the first rung that does, else the last."""
  size = min(row.num_images, len(victim.x))
  for num_steps in row.ladder:
    ours = grade(victim, row, our_run(victim, row, num_steps)())
    log(f"{row.title}: {num_steps} steps of ours reach {ours['median_distance']:.4f}")
    if reference is not None and reaches(ours, reference, size):
      return num_steps, True
  return (row.ladder[-1] if row.ladder else None), not row.ladder or reference is None


def interleaved(
  runs: dict[str, Run], sides: dict[str, Any], repeats: int
) -> dict[str, list[float]]:
  """Seconds of each library, taking turns.

  Before a short call goes one that is not counted: the threads of the library before spin for a
  while when their work is done, and the caches are full of its data.
  """
  times: dict[str, list[float]] = {name: [] for name in runs}
  if max(sides[name]["warm_seconds"] for name in runs) < SHORT_SECONDS:
    repeats *= SHORT_REPEATS  # a millisecond of noise is an eighth of them
  for _ in range(repeats):
    for name, run in runs.items():
      if sides[name]["warm_seconds"] < CLEAR_SECONDS:
        run()
      times[name].append(timed(run)[1])
  return times


def measure(victim: Victim, key: str, peers: dict[str, dict[str, Run]], args: Any) -> dict:
  """One row; {"left_out": why} where ours is not to be had."""
  row = ROWS[key]
  try:
    our_run(victim, row, row.ladder[0] if row.ladder else None)
  except ValueError as error:
    log(f"{row.title}: left out, {error}")
    return {"title": row.title, "left_out": str(error)}
  runs = {name: library[key] for name, library in peers.items() if key in library}
  cap = args.max_seconds
  sides = first_calls(victim, row, runs, cap)
  fastest = min(sides, key=lambda name: sides[name]["warm_seconds"], default=None)
  num_steps, reached = climb(victim, row, sides[fastest] if fastest else None)
  variants = {n: our_run(victim, row, num_steps, n) for n in sorted({1, os.cpu_count() or 1})}
  first = first_calls(victim, row, {f"{n} workers": run for n, run in variants.items()}, cap)
  workers = min(variants, key=lambda n: quickest(variants[n], first[f"{n} workers"]))
  runs[OURS], sides[OURS] = variants[workers], first[f"{workers} workers"]
  warm = {name: run for name, run in runs.items() if sides[name]["cold_seconds"] <= cap}
  for name, seconds in interleaved(warm, sides, args.repeats).items():
    sides[name]["seconds"] = seconds
  return {
    "title": row.title,
    "images": min(row.num_images, len(victim.x)),
    "steps": num_steps,
    "num_workers": workers,
    "reaches_the_fastest_peer": reached,
    "least": row.least,
    "aim": row.aim,
    **summarise(sides),
  }


def summarise(sides: dict[str, Any]) -> dict[str, Any]:
  """Adds medians, minima and compile times, and our speed over the fastest peer's."""
  for side in sides.values():
    side.setdefault("seconds", [side["warm_seconds"]])
    side["median_seconds"] = statistics.median(side["seconds"])
    side["min_seconds"] = min(side["seconds"])
    side["compile_seconds"] = max(0.0, side["cold_seconds"] - side["median_seconds"])
    if not np.isfinite(side["median_distance"]):
      side["median_distance"] = None  # JSON has no infinity
  others = {name: side for name, side in sides.items() if name != OURS}
  if not others:
    return {"sides": sides}
  ratio = {}
  for kind in ("median", "min"):
    ratio[kind] = min(s[f"{kind}_seconds"] for s in others.values())
    ratio[kind] /= sides[OURS][f"{kind}_seconds"]
  fastest = min(others, key=lambda name: others[name]["median_seconds"])
  return {"sides": sides, "fastest_peer": fastest, "speed_ratio": ratio}


def measure_all(args: argparse.Namespace, keys: list[str]) -> dict[str, Any]:
  """Everything that the JSON file holds."""
  attack_peers.start(os.cpu_count() or 1)
  victim = plain_cnn.build(
    args.dataset, num_images=args.num_images, train_steps=args.train_steps, seed=args.seed
  )
  log(f"the CNN gets {100 * victim.accuracy:.2f}% of the {victim.dataset} test images")
  peers, missing = attack_peers.find(victim, slow=args.slow)
  for name, why in missing.items():
    log(f"{name} is left out, {why}")
  rows = {}
  for key in keys:
    rows[key] = measure(victim, key, peers, args)
  gfz = attack_gfz.measure(keys, args, log) if args.gfz else None
  made_with = provenance()
  made_with["command"] = portable_command(made_with["command"])
  for package in PACKAGES:
    try:
      made_with["versions"][package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      made_with["versions"][package] = "not installed"
  return {
    "benchmark": "attack_speed",
    "model": "conv 5x5x20, pool 2, conv 5x5x70, pool 2, dense 256, dense 10; ReLU",
    "dataset": victim.dataset,
    "test_accuracy": victim.accuracy,
    "num_images": len(victim.x),
    "settings": {k: v for k, v in vars(args).items() if k not in ("out", "gfz_workdir")},
    **made_with,
    "machine": {"cores": os.cpu_count()},
    "libraries_left_out": missing,
    "rows": rows,
    "gfz": gfz,
  }


def _cell(side: dict[str, Any] | None) -> str:
  if side is None:
    return "-"
  distance = side["median_distance"]
  reached = "-" if distance is None else f"{distance:.3f}"
  return (
    f"{side['median_seconds'] * 1e3:,.0f} / {side['min_seconds'] * 1e3:,.0f} "
    f"({100 * side['success']:.0f}%, {reached})"
  )


def _line(row: dict[str, Any], libraries: list[str]) -> str:
  if "left_out" in row:
    return f"| {row['title']} | left out: {row['left_out']} |" + " |" * (len(libraries) + 2)
  cells = [_cell(row["sides"].get(name)) for name in libraries]
  steps = "" if row["steps"] is None else f", {row['steps']} steps of ours"
  ratio = row.get("speed_ratio")
  last = "- | -"
  if ratio:
    note = "" if row["reaches_the_fastest_peer"] else " (does not reach its distance)"
    met = "yes" if ratio["median"] >= row["least"] and not note else "no"
    last = f"{ratio['median']:.2f} / {ratio['min']:.2f}{note} | {row['least']} {met}"
  compile_seconds = row["sides"][OURS]["compile_seconds"]
  return f"| {row['title']}{steps} | {' | '.join(cells)} | {compile_seconds:.1f} | {last} |"


def markdown(record: dict[str, Any]) -> str:
  """The tables of a record, as attack_speed.md holds them."""
  settings, versions, left = record["settings"], record["versions"], record["libraries_left_out"]
  libraries = [OURS, *(name for name in attack_peers.LIBRARIES if name not in left)]
  packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", *PACKAGES))
  columns = ["attack", *libraries, "our compile s", "ratio (median / min)", "asked for"]
  lines = [
    f"{record['model']} ({100 * record['test_accuracy']:.2f}% on {record['dataset']}); the first "
    f"{record['num_images']} test images that it gets right; milliseconds, median / minimum of "
    f"{settings['repeats']} warm calls in turns, {SHORT_REPEATS} times as many where all take less "
    f"than {SHORT_SECONDS} s (success, median distance; - where more than half fail). Ratio: the "
    "fastest peer's time over ours. "
    f"{record['devices']['kind']}, {record['machine']['cores']} cores; {packages}; seed "
    f"{settings['seed']}. Revision {record['git']['revision']}.",
    f"Command: `{record['command']}`",
    *(f"{name} is left out: {why}." for name, why in left.items()),
    "",
    f"| {' | '.join(columns)} |",
    f"| {' | '.join('---' for _ in columns)} |",
    *(_line(row, libraries) for row in record["rows"].values()),
  ]
  table = "\n".join(lines) + "\n"
  return table + (attack_gfz.markdown(record["gfz"]) if record["gfz"] else "")


def row_names(text: str) -> list[str]:
  """Comma-separated rows; argparse names the flag in its error."""
  names = text.split(",")
  unknown = [name for name in names if name not in ROWS]
  if unknown:
    raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
  return names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description="times the attacks beside their peers")
  parser.add_argument("--only", type=row_names, default=None, help="rows, separated by commas")
  parser.add_argument("--dataset", default="mnist", choices=("mnist", "digits"))
  parser.add_argument("--num_images", type=positive, default=128)
  parser.add_argument("--train_steps", type=positive, default=469, help="of the CNN, 128 images")
  parser.add_argument("--repeats", type=positive, default=5)
  parser.add_argument("--max_seconds", type=float, default=40.0, help="no repeats beyond")
  parser.add_argument("--slow", action="store_true", help="peers that take minutes, too")
  parser.add_argument("--gfz", action=argparse.BooleanOptionalAction, default=True)
  parser.add_argument("--gfz_workdir", default=None, help="of a trained GFZ; default: untrained")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=Path, default=None, help="default: docs/results, for all rows")
  return parser.parse_args(argv)


def main() -> None:
  """Measures, writes the JSON, and prints the tables made from it."""
  args = parse_args()
  runtime.start(deterministic=False)
  record = to_json(measure_all(args, args.only or list(ROWS)))
  out = args.out or (None if args.only else ROOT / "docs" / "results")
  table = markdown(json.loads(record))
  if out is not None:
    atomic_write(out / "attack_speed.json", record)
    atomic_write(out / "attack_speed.md", table)
  log("done")
  print(table)


if __name__ == "__main__":
  main()
