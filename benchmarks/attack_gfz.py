"""The attacks of `attack_speed.py` on the GFZ at MNIST size: images per second, share of the peak.

The operations are those of the passes that the attack reports, each as `operations.py` counts it.
The gradients of all classes at one image (DeepFool) count as one pass: a class has decodings of its
own, so that together they cost what the gradient of the sum of the logits costs.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import operations
from attack_rows import ROWS, Row
from jax.tree_util import Partial
from throughput import matmul_peak

import gencls
from gencls import attacks, data, models
from gencls.keys import example_keys, purpose_key
from gencls.types import Keys, LogitsFn

NUM_SAMPLES = 10
SHAPE = (28, 28, 1)
CLASS_GRADIENTS = ("deepfool",)  # take the gradient of every class at each of their images


def load(workdir: str | None, num_images: int, seed: int) -> tuple[str, LogitsFn, Keys, np.ndarray]:
  """(what it is, logits_fn, keys, images): of a trained run, or of untrained weights."""
  indices = np.arange(num_images, dtype=np.int32)
  keys = example_keys(seed, indices)
  if workdir is not None:
    run = gencls.load(workdir, num_samples=NUM_SAMPLES)
    chosen = run.split("test")
    x = np.asarray(data.to_float(chosen.images[:num_images], chosen.num_levels))
    return Path(workdir).resolve().name, run.logits_fn, keys, x
  classifier = models.build("gfz", image_shape=SHAPE, num_classes=10, num_samples=NUM_SAMPLES)
  x = np.random.default_rng(seed).random((num_images, *SHAPE), np.float32)
  y = jnp.zeros(num_images, jnp.int32)
  params = jax.jit(classifier.init)(purpose_key(seed, "init"), jnp.asarray(x), y)
  return "initial weights, random images", Partial(classifier.logits, params), keys, x


def measure(keys: list[str], args: argparse.Namespace, log: Callable[[str], None]) -> dict:
  """Every row that has a GFZ form, once and warm."""
  most = max(row.gfz_images for row in ROWS.values())
  model, logits_fn, all_keys, images = load(args.gfz_workdir, most, args.seed)
  predicted = np.argmax(np.asarray(jax.jit(logits_fn)(all_keys, jnp.asarray(images))), axis=1)
  peak = matmul_peak(None, 5)["jax"]
  rows: dict[str, Any] = {}
  for key in keys:
    row = ROWS[key]
    if row.gfz is None or row.attack not in attacks.REGISTRY:
      continue
    num = row.gfz_images
    rows[key] = _measure(row, logits_fn, all_keys[:num], images[:num], predicted[:num])
    log(f"GFZ, {row.title}: {rows[key]['seconds']:.2f} s")
  return {"model": model, "num_samples": NUM_SAMPLES, "matmul_peak_gflops": peak, "rows": rows}


def _measure(
  row: Row, logits_fn: LogitsFn, keys: Keys, x: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
  numbers = {**row.numbers, **(row.gfz or {})}
  attack = attacks.build(row.attack, logits_fn, loss=row.loss, **numbers)

  def run() -> tuple[Any, float]:
    start = time.perf_counter()
    result = jax.block_until_ready(attacks.run(attack, keys, jnp.asarray(x), jnp.asarray(y)))
    return result, time.perf_counter() - start

  cold = run()[1]
  result, seconds = run()
  passes = int(np.sum(result.info.forward)), int(np.sum(result.info.backward))
  return {
    "title": row.title,
    "attack": row.attack,
    "settings": numbers,
    "images": len(x),
    "forward_passes": passes[0],
    "backward_passes": passes[1],
    "seconds": seconds,
    "compile_seconds": max(0.0, cold - seconds),
  }


def gflops(row: dict[str, Any]) -> float:
  """Billions of operations a second that the passes of a row need."""
  backward = row["forward_passes" if row["attack"] in CLASS_GRADIENTS else "backward_passes"]
  count = (row["forward_passes"] + backward) * operations.logits(1, NUM_SAMPLES)
  return 1e-9 * count / row["seconds"]


def markdown(record: dict[str, Any]) -> str:
  """The table of the GFZ's rows."""
  lines = [
    "",
    f"GFZ at MNIST size, K = {record['num_samples']} ({record['model']}), settings as in the JSON; "
    f"the peak is that of a matrix product, {record['matmul_peak_gflops']:.0f} GFLOP/s. Passes are "
    "of one image each; in the operations DeepFool's gradients of all classes count as one.",
    "",
    "| attack | images | passes forward, backward | s | compile s | images/s | passes/s "
    "| GFLOP/s (of peak) |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for row in record["rows"].values():
    forward, backward = row["forward_passes"], row["backward_passes"]
    lines.append(
      f"| {row['title']} | {row['images']} | {forward:,}, {backward:,} | {row['seconds']:.2f} "
      f"| {row['compile_seconds']:.1f} | {row['images'] / row['seconds']:.2f} "
      f"| {(forward + backward) / row['seconds']:,.0f} "
      f"| {gflops(row):.0f} ({100 * gflops(row) / record['matmul_peak_gflops']:.0f}%) |"
    )
  return "\n".join(lines) + "\n"
