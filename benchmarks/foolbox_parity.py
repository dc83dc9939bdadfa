"""foolbox's FGSM and PGD against ours: the same model, keys, images, steps and random starts.

    python benchmarks/foolbox_parity.py --workdir=runs/gfz_mnist [--num_images=50 --num_samples=10]

Both attack the first test images in the linf ball and never learn how they are graded: what they
return is brought back into box and ball and predicted again under the same keys by one piece of
code (`gencls.evaluation.grading`). Ours runs with its default loss, the margin, and with
foolbox's, the cross-entropy. Writes docs/results/foolbox_parity_<run>.json and .md; exits 1 where
ours breaks fewer images than foolbox by more than one.

Seconds are of one run each without compilation, foolbox on all images at once as its users run it.
"""

# foolbox and eagerpy do not say what they export.
# pyright: reportPrivateImportUsage=false

import argparse
import importlib.metadata
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arguments import positive
from record import publish

import gencls
from gencls import attacks, data, runtime
from gencls.attacks import geometry
from gencls.evaluation import grading
from gencls.evaluation.cells import first_images
from gencls.evaluation.results import portable_command
from gencls.keys import fold
from gencls.types import Keys, LogitsFn
from gencls.workdir import provenance

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # foolbox imports deprecated modules
  import eagerpy as ep
  import foolbox

ROOT = Path(__file__).resolve().parent.parent
EPS = (0.1, 0.2, 0.3)
LOSSES = ("margin", "cross_entropy")
NUM_STEPS = 40
REL_STEP_SIZE = 1 / 30  # foolbox's default
TOLERANCE = 1  # images
START = time.perf_counter()


class Victim(NamedTuple):
  """The attacked model as one deterministic function, and the images."""

  logits_fn: LogitsFn
  keys: Keys  # [N], those of grading too
  x: np.ndarray  # [N, H, W, D] float32
  labels: np.ndarray  # [N]
  batch_size: int  # of our attacks and of grading


class Outcome(NamedTuple):
  """One attack at one eps."""

  broken: np.ndarray  # [N] bool
  seconds: float


def log(text: str) -> None:
  """Progress, with the time since the start."""
  print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def broken(victim: Victim, x: np.ndarray) -> np.ndarray:
  """[N] bool, whether the model's prediction under the keys of grading is wrong."""
  wrong = []
  for start in range(0, len(x), victim.batch_size):
    rows = np.minimum(np.arange(start, start + victim.batch_size), len(x) - 1)
    keys = jnp.asarray(victim.keys)[rows]
    logits = np.asarray(grading.forward(victim.logits_fn, keys, jnp.asarray(x[rows])))
    wrong.append(grading.predict(logits) != victim.labels[rows])
  return np.concatenate(wrong)[: len(x)]


def graded(victim: Victim, run: Callable[[], np.ndarray], eps: float) -> Outcome:
  """Times an attack and grades what it returns, whoever made it."""
  start = time.perf_counter()
  x_adv = run()
  seconds = time.perf_counter() - start
  x_adv, _ = grading.reclip(x_adv, victim.x, "linf", eps)
  return Outcome(broken(victim, x_adv), seconds)


def ours(victim: Victim, name: str, loss: str, eps: float, **numbers: Any) -> np.ndarray:
  """Our attack's images, [N, H, W, D]."""
  attack = attacks.build(name, victim.logits_fn, norm="linf", eps=eps, loss=loss, **numbers)
  # Without dropping finished examples: one program for each loss instead of four.
  result = attacks.run(
    attack,
    victim.keys,
    jnp.asarray(victim.x),
    jnp.asarray(victim.labels),
    batch_size=victim.batch_size,
    compact=False,
  )
  return np.asarray(result.x)


def theirs(victim: Victim, model: Any, attack: Any, eps: float) -> np.ndarray:
  """foolbox's images, [N, H, W, D]; the random start is ours, so that the comparison is paired."""
  begin = geometry.linf(eps).random(fold(victim.keys, "start", 0), jnp.asarray(victim.x))
  attack.get_random_start = lambda x0, epsilon: ep.astensor(begin)
  x, labels = ep.astensor(jnp.asarray(victim.x)), ep.astensor(jnp.asarray(victim.labels))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    images = attack(model, x, foolbox.criteria.Misclassification(labels), epsilons=eps)[1]
  return np.array(images.raw)


def numbers_of(name: str, num_steps: int) -> dict[str, Any]:
  """The hyperparameters of ours that foolbox's attack has too."""
  return {"num_steps": num_steps, "rel_step_size": REL_STEP_SIZE} if name == "pgd" else {}


def foolbox_attack(name: str, num_steps: int) -> Any:
  """foolbox's attack of that name."""
  if name == "fgsm":
    return foolbox.attacks.LinfFastGradientAttack()
  return foolbox.attacks.LinfPGD(rel_stepsize=REL_STEP_SIZE, steps=num_steps, random_start=True)


def compare(victim: Victim, model: Any, name: str, num_steps: int) -> list[dict[str, Any]]:
  """One row for each eps and loss of ours."""
  # One step of PGD compiles everything that forty need.
  theirs(victim, model, foolbox_attack(name, 1), EPS[0])
  for loss in LOSSES:
    ours(victim, name, loss, EPS[0], **numbers_of(name, 1))
  log(f"{name}: compiled")
  rows = []
  attack, numbers = foolbox_attack(name, num_steps), numbers_of(name, num_steps)
  for eps in EPS:
    peer = graded(victim, lambda eps=eps: theirs(victim, model, attack, eps), eps)
    log(f"{name} {eps}: foolbox broke {np.sum(peer.broken)} in {peer.seconds:.1f} s")
    for loss in LOSSES:
      run = lambda eps=eps, loss=loss: ours(victim, name, loss, eps, **numbers)  # noqa: E731
      mine = graded(victim, run, eps)
      log(f"{name} {eps}: ours ({loss}) broke {np.sum(mine.broken)} in {mine.seconds:.1f} s")
      rows.append(row(name, eps, loss, mine, peer))
  return rows


def row(name: str, eps: float, loss: str, mine: Outcome, peer: Outcome) -> dict[str, Any]:
  """What is written of one comparison."""
  difference = int(np.sum(mine.broken)) - int(np.sum(peer.broken))
  return {
    "attack": name,
    "eps": eps,
    "our_loss": loss,
    "ours": int(np.sum(mine.broken)),
    "foolbox": int(np.sum(peer.broken)),
    "difference": difference,
    "only_ours": int(np.sum(mine.broken & ~peer.broken)),
    "only_foolbox": int(np.sum(peer.broken & ~mine.broken)),
    "at_least_as_strong": difference >= -TOLERANCE,
    "our_seconds": mine.seconds,
    "foolbox_seconds": peer.seconds,
    "speed_ratio": peer.seconds / mine.seconds,
  }


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Everything that the JSON file holds."""
  run = gencls.load(args.workdir, **({"num_samples": k} if (k := args.num_samples) else {}))
  chosen = first_images(run.split("test"), args.num_images)
  victim = Victim(
    logits_fn=run.logits_fn,
    keys=grading.attack_keys("known_seed", args.seed, chosen.indices),
    x=np.asarray(data.to_float(chosen.images, chosen.num_levels)),
    labels=chosen.labels,
    batch_size=min(args.batch_size, args.num_images),
  )
  # foolbox wants a function of x alone: the whole batch goes in at once, so the keys fit.
  model = foolbox.JAXModel(jax.jit(lambda x: victim.logits_fn(victim.keys, x)), bounds=(0, 1))
  clean = int(np.sum(broken(victim, victim.x)))
  log(f"{clean} of {args.num_images} images are wrong before any attack")
  rows = [row for name in ("fgsm", "pgd") for row in compare(victim, model, name, args.num_steps)]
  made_with = provenance()
  made_with["command"] = portable_command(made_with["command"])
  for package in ("foolbox", "eagerpy"):
    made_with["versions"][package] = importlib.metadata.version(package)
  return {
    "benchmark": "foolbox_parity",
    "run": Path(args.workdir).resolve().name,
    "model": run.config["model"],
    "dataset": chosen.name,
    "checkpoint_step": run.step,
    "settings": {
      "num_images": args.num_images,
      "num_steps": args.num_steps,
      "rel_step_size": REL_STEP_SIZE,
      "seed": args.seed,
      "batch_size": victim.batch_size,
      "randomness": "known seed: attack and grading share each image's key",
      "start": "PGD: the same uniform point of the ball for both",
      "tolerance_images": TOLERANCE,
    },
    **made_with,
    "clean_errors": clean,
    "rows": rows,
  }


def markdown(record: dict[str, Any]) -> str:
  """The table of a record."""
  settings, versions, model = record["settings"], record["versions"], record["model"]
  samples = f", K = {model['num_samples']}" if "num_samples" in model else ""
  lines = [
    f"Misclassified of the first {settings['num_images']} test images of {record['dataset']} "
    f"({record['clean_errors']} before any attack); {record['run']}: {model['name']}{samples}, "
    f"step {record['checkpoint_step']}; linf, PGD-{settings['num_steps']} with steps of eps · "
    f"{settings['rel_step_size']:.4f}; {settings['randomness']}, seed {settings['seed']}; foolbox "
    f"{versions['foolbox']}, jax {versions['jax']}, {record['devices']['kind']}.",
    f"Command: `{record['command']}`",
    "",
    "| attack | eps | our loss | ours | foolbox | difference | only ours | only foolbox "
    "| ours s | foolbox s | speed ratio |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  lines += [
    f"| {r['attack']} | {r['eps']} | {r['our_loss']} | {r['ours']} | {r['foolbox']} "
    f"| {r['difference']:+d}{'' if r['at_least_as_strong'] else ' (weaker)'} | {r['only_ours']} "
    f"| {r['only_foolbox']} | {r['our_seconds']:.2f} | {r['foolbox_seconds']:.2f} "
    f"| {r['speed_ratio']:.1f} |"
    for r in record["rows"]
  ]
  return "\n".join(lines) + "\n"


def parse_args() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description="foolbox against ours on a trained run")
  parser.add_argument("--workdir", required=True, help="of a trained run")
  parser.add_argument("--num_images", type=positive, default=50)
  parser.add_argument("--num_samples", type=positive, default=None, help="K; default: the run's")
  parser.add_argument("--num_steps", type=positive, default=NUM_STEPS, help="of PGD")
  parser.add_argument(
    "--batch_size", type=positive, default=10, help="of our attacks and of grading"
  )
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  return parser.parse_args()


def main() -> None:
  """Compares, writes the JSON and the table made from it; exits 1 where ours is weaker."""
  args = parse_args()
  runtime.start(deterministic=False)
  record = measure(args)
  publish(record, markdown, args.out / f"foolbox_parity_{record['run']}.json")
  weaker = [r for r in record["rows"] if not r["at_least_as_strong"]]
  if weaker:
    sys.exit(f"ours is weaker than foolbox by more than {TOLERANCE} image in {len(weaker)} rows")


if __name__ == "__main__":
  main()
