"""Speed of the GFZ at MNIST size: prediction, input gradients and training step, beside PyTorch.

    python benchmarks/throughput.py            # about 5 minutes on 2 quiet cores

Each framework first chooses its fastest variant of each task (batch sizes, in
training micro-batches; PyTorch also its memory format), then both take turns. Writes
docs/results/throughput.json and the table made from it, throughput.md. Without PyTorch
(benchmarks/requirements.in), or where JAX runs on an accelerator (the peer is the CPU build), only
our side is timed. Where the two disagree about logits, gradients or losses nothing is timed.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contenders
import jax
import jax.numpy as jnp
import numpy as np
import operations
from arguments import positive
from contenders import TASKS, Contender, Problem
from record import publish

from gencls import models, runtime
from gencls.evaluation.results import portable_command
from gencls.keys import purpose_key
from gencls.workdir import provenance

ROOT = Path(__file__).resolve().parent.parent
PEAK_SIZE = 2048
TOLERANCE = 1e-3  # relative, between the frameworks' outputs
COUNT_TOLERANCE = 0.05  # relative, between our count of operations and XLA's
TRAIN_REPEATS = 4  # timed training steps per repeat of the longer tasks
SELECTION_TRIES = 1
START = time.perf_counter()


def log(text: str) -> None:
  """Progress, with the time since the start of the process."""
  print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def seconds(run: Callable[[], None]) -> float:
  """Wall time of one call."""
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def interleaved(sides: dict[str, Contender], repeats: int) -> dict[str, list[float]]:
  """Seconds of each contender's task, taking turns, after a warm-up."""
  for contender in sides.values():
    contender.warm_up()
  times: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(repeats):
    for name, contender in sides.items():
      times[name].append(seconds(contender.run))
  return times


def build_problem(args: argparse.Namespace) -> Problem:
  """The model with its initial weights, and random images."""
  rng = np.random.default_rng(args.seed)
  size = max(args.num_images, args.train_batch)
  images = rng.integers(0, 256, (size, 28, 28, 1), np.uint8)
  labels = rng.integers(0, 10, size).astype(np.int32)
  classifier = build_model(args.num_samples)
  x = jnp.asarray(images, jnp.float32) / 255
  params = jax.jit(classifier.init)(purpose_key(args.seed, "init"), x, jnp.asarray(labels))
  return Problem(
    classifier=classifier,
    params=params,
    images=images,
    labels=labels,
    num_images=args.num_images,
    train_batch=args.train_batch,
    num_samples=args.num_samples,
    batches=contenders.batch_sizes(args.num_images),
    seed=args.seed,
  )


def build_model(num_samples: int, **hyperparameters: Any) -> Any:
  """The GFZ at MNIST size."""
  shape = (28, 28, 1)
  return models.build(
    "gfz", image_shape=shape, num_classes=10, num_samples=num_samples, **hyperparameters
  )


def find_peer() -> tuple[Any, str]:
  """PyTorch's side, or None and why it is left out."""
  if jax.default_backend() != "cpu":
    return None, f"the peer is PyTorch's CPU build, but JAX runs on {jax.default_backend()}"
  if importlib.util.find_spec("torch") is None:
    return None, "torch is not installed (benchmarks/requirements.in)"
  peer = importlib.import_module("torch_contenders")
  peer.start(os.cpu_count() or 1)
  return peer, ""


def relative_errors(problem: Problem, peer: Any) -> dict[str, float]:
  """Largest relative difference of each output over PyTorch's memory formats.

  Raises:
    SystemExit: if one is above `TOLERANCE`: other functions must not be timed against each other.
  """
  loss, norm = contenders.our_mean_loss(problem)
  expected = {
    "logits": contenders.our_logits(problem),
    **{
      task: contenders.our_gradient(problem, loss)
      for task, loss in zip(contenders.GRADIENTS, contenders.LOSSES, strict=True)
    },
    "training loss": np.asarray(loss),
    "norm of the parameters' gradient": np.asarray(norm),
  }
  errors = dict.fromkeys(expected, 0.0)
  for layout in peer.FORMATS:
    for name, value in peer.outputs(problem, layout).items():
      size = np.linalg.norm(expected[name])
      error = float(np.linalg.norm(value - expected[name]) / size)
      errors[name] = max(errors[name], error) if np.isfinite(error) else float("inf")
  wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE}
  if wrong:
    sys.exit(
      f"the two GFZ compute different functions, relative differences {wrong} must be <= "
      f"{TOLERANCE}: no timings. Compare benchmarks/torch_gfz.py with gencls/models/latent.py"
    )
  return errors


def matmul_peak(peer: Any, repeats: int) -> dict[str, float]:
  """GFLOP/s of one large float32 matrix product in each framework, at its fastest."""
  a = jnp.asarray(np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), np.float32))
  dot = jax.jit(jnp.matmul)
  sides = {"jax": Contender("", lambda i: jax.block_until_ready(dot(a, a)))}
  if peer is not None:
    sides["torch"] = Contender("", peer.matmul(PEAK_SIZE))
  times = interleaved(sides, repeats)
  return {name: 2e-9 * PEAK_SIZE**3 / min(values) for name, values in times.items()}


def choose(candidates: list[Contender]) -> tuple[Contender, dict[str, float]]:
  """The fastest variant, and the seconds of all."""
  if len(candidates) == 1:
    return candidates[0], {}
  times = interleaved({c.variant: c for c in candidates}, SELECTION_TRIES)
  fastest = {variant: min(values) for variant, values in times.items()}
  return min(candidates, key=lambda c: fastest[c.variant]), fastest


def measure(task: str, sides: dict[str, list[Contender]], repeats: int) -> dict[str, Any]:
  """Chooses each framework's variant, then times them in turns; {framework: measurements}."""
  chosen, tried = {}, {}
  for framework, candidates in sides.items():
    chosen[framework], tried[framework] = choose(candidates)
    log(f"{task}: {framework} uses {chosen[framework].variant}")
  times = interleaved(chosen, repeats)
  return {
    name: {
      "variant": chosen[name].variant,
      "seconds": values,
      "variants_tried_seconds": tried[name],
    }
    for name, values in times.items()
  }


def work(args: argparse.Namespace) -> dict[str, tuple[int, dict[str, int]]]:
  """{task: (images, {framework: operations})} of one call."""
  n, k, batch = args.num_images, args.num_samples, args.train_batch
  forward, every = operations.logits(n, k), operations.input_gradient(n, k)
  few, step = operations.margin_gradient(n, k), operations.training_step(batch)
  counts = ((n, forward, forward), (n, every, every), (n, few, every), (batch, step, step))
  return {
    task: (images, {"jax": ours, "torch": theirs})
    for task, (images, ours, theirs) in zip(TASKS, counts, strict=True)
  }


def summarise(
  sides: dict[str, Any], images: int, counts: dict[str, int], peak: float
) -> dict[str, Any]:
  """Adds speeds to the measurements of a task, and our speed over PyTorch's."""
  for name, side in sides.items():
    side["operations"] = counts[name]
    side["median_seconds"] = statistics.median(side["seconds"])
    side["min_seconds"] = min(side["seconds"])
    side["images_per_second"] = images / side["median_seconds"]
    side["gflops"] = 1e-9 * counts[name] / side["median_seconds"]
    side["share_of_peak"] = side["gflops"] / peak
  task: dict[str, Any] = {"images": images, **sides}
  if "torch" in sides:
    ours, theirs = sides["jax"], sides["torch"]
    pairs = zip(theirs["seconds"], ours["seconds"], strict=True)
    paired = sorted(theirs / ours for theirs, ours in pairs)
    task["speed_ratio"] = {
      "medians": theirs["median_seconds"] / ours["median_seconds"],
      "minima": theirs["min_seconds"] / ours["min_seconds"],
      "lowest_pair": paired[0],
      "highest_pair": paired[-1],
    }
  return task


def check_counts(args: argparse.Namespace) -> dict[str, float]:
  """XLA's operations over ours, with the decoder in one piece.

  Raises:
    SystemExit: if they differ by more than `COUNT_TOLERANCE`.
  """
  samples = min(2, args.num_samples)
  classifier = build_model(samples, max_rows=10**9)
  ratios = operations.ratios_to_xla(classifier, batch=2, num_samples=samples)
  if any(abs(ratio - 1) > COUNT_TOLERANCE for ratio in ratios.values()):
    sys.exit(
      f"operations counted by XLA over those of benchmarks/operations.py are {ratios}, more than "
      f"{COUNT_TOLERANCE} from 1: no speeds. Mend the count"
    )
  return ratios


def versions(record: dict[str, Any]) -> dict[str, Any]:
  """Adds the peer's version and makes the command portable."""
  if importlib.util.find_spec("torch") is not None:
    record["versions"]["torch"] = importlib.metadata.version("torch")
  record["command"] = portable_command(record["command"])
  return record


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
  """Everything that the JSON file holds."""
  peer, without = find_peer()
  log(without or "both frameworks are here")
  problem = build_problem(args)
  errors = relative_errors(problem, peer) if peer is not None else {}
  log(f"outputs agree: {errors}" if errors else "no peer: outputs are not compared")
  ratios = check_counts(args)
  log(f"XLA's count of operations over ours: {ratios}")
  peaks = matmul_peak(peer, 10)
  log(f"matrix product: {peaks} GFLOP/s")
  sides = {"jax": contenders.ours(problem)}
  if peer is not None:
    sides["torch"] = peer.contenders(problem)
  tasks = {}
  for task, (images, counts) in work(args).items():
    repeats = args.repeats * (TRAIN_REPEATS if task == "training step" else 1)
    measured = measure(task, {name: side[task] for name, side in sides.items()}, repeats)
    tasks[task] = summarise(measured, images, counts, max(peaks.values()))
  settings = {name: value for name, value in vars(args).items() if name != "out"}
  return {
    "benchmark": "throughput",
    "model": "gfz, 28x28x1, 10 classes, the factory's defaults, initial weights, random images",
    "settings": settings,
    **versions(provenance()),
    "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
    "peer": without or "PyTorch, eager, all cores",
    "relative_differences": errors,
    "xla_operations_over_ours": ratios,
    "matmul_peak_gflops": peaks,
    "tasks": tasks,
  }


def _side(side: dict[str, Any] | None) -> str:
  if side is None:
    return "- | - | -"
  return (
    f"{side['images_per_second']:,.0f} ({side['variant']}) | {side['min_seconds'] * 1e3:,.0f} "
    f"| {side['gflops']:.0f} ({100 * side['share_of_peak']:.0f}%)"
  )


def markdown(record: dict[str, Any]) -> str:
  """The table of a record, as throughput.md holds it."""
  settings, devices, versions = record["settings"], record["devices"], record["versions"]
  head = ("images/s (batches)", "min ms", "GFLOP/s (of peak)")
  columns = ["task", *(f"ours {name}" for name in head), *(f"PyTorch {name}" for name in head)]
  columns += ["ratio of medians", "of minima"]
  rows = []
  for name, task in record["tasks"].items():
    ratio = task.get("speed_ratio")
    last = f"{ratio['medians']:.2f} | {ratio['minima']:.2f}" if ratio else "- | -"
    title = f"{name}, {task['images']} images"
    rows.append(f"| {title} | {_side(task['jax'])} | {_side(task.get('torch'))} | {last} |")
  peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in record["matmul_peak_gflops"].items())
  lines = [
    f"GFZ at MNIST size, C = 10, K = {settings['num_samples']}; {devices['kind']}, "
    f"{record['machine']['cores']} cores; jax {versions['jax']}, "
    f"torch {versions.get('torch', 'not installed')}; medians of {settings['repeats']} repeats in "
    f"turns ({TRAIN_REPEATS} times as many training steps), seed {settings['seed']}. Ratio: "
    f"our speed over PyTorch's. Matrix-product peak, GFLOP/s: {peaks}; shares are of the larger. "
    "Through a margin ours goes back in two classes, PyTorch in all; each side's GFLOP/s are of "
    "what it has to compute.",
    f"Peer: {record['peer']}. Command: `{record['command']}`",
    "",
    f"| {' | '.join(columns)} |",
    f"| {' | '.join('---' for _ in columns)} |",
    *rows,
  ]
  return "\n".join(lines) + "\n"


def parse_args() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description="times the GFZ beside PyTorch")
  parser.add_argument("--num_images", type=positive, default=100, help="of prediction and gradient")
  parser.add_argument("--num_samples", type=positive, default=10, help="K")
  parser.add_argument("--train_batch", type=positive, default=100)
  parser.add_argument("--repeats", type=positive, default=5)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  return parser.parse_args()


def main() -> None:
  """Measures, writes the numbers and the table made from them, and prints it."""
  args = parse_args()
  runtime.start(deterministic=False)
  publish(measure_all(args), markdown, args.out / "throughput.json")


if __name__ == "__main__":
  main()
