"""Every attack against its reference: the same weights, images, settings; paired, three seeds.

    python benchmarks/attack_strength.py --cnn=runs/cnn_mnist --gfz=runs/gfz_mnist
    python benchmarks/attack_strength.py --cnn=runs/cnn_mnist --only="deepfool l2" --seeds=1

On the CNN the peers (Foolbox; torchattacks for what is AutoAttack's) run on its PyTorch twin, on
the GFZ Foolbox runs on our function under fixed keys. What either returns is graded by one piece
of code (`gencls.evaluation.grading`). A fixed budget compares success rates, a minimum norm median
distances (a failure is infinitely far). `--passes` scores every minimum-norm attack as AttackBench
does, at an equal number of forward and backward passes.

Each comparison is written to <run>/results/attack_strength/ when it is done and not done again;
docs/results/attack_strength.json and .md are made from all that are there.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import kept_seeds
import numpy as np
import strength_peers as peers
import torch_cnn
from arguments import positive
from record import publish
from strength_report import Outcome, compared, markdown, verdicts
from strength_rows import ROWS, Row

import gencls
from gencls import attacks, data, runtime
from gencls.evaluation import grading
from gencls.evaluation.cells import first_images
from gencls.evaluation.minimum_norm import nearest_failure
from gencls.evaluation.results import identity, params_digest, portable_command
from gencls.types import Keys, LogitsFn
from gencls.workdir import atomic_write, provenance, to_json

ROOT = Path(__file__).resolve().parent.parent
START = time.perf_counter()


class Victim(NamedTuple):
  """The attacked model as one deterministic function, and the images."""

  name: str  # "cnn" or "gfz"
  logits_fn: LogitsFn
  keys: Keys  # [N], those of grading too
  x: np.ndarray  # [N, H, W, D] float32
  labels: np.ndarray  # [N]
  indices: np.ndarray  # [N] in the dataset
  peer: Any  # the PyTorch twin, or None
  batch_size: int | None
  facts: dict[str, Any]  # run, dataset, step, digest of the parameters

  def first(self, num: int) -> "Victim":
    """The same with no more than the first `num` images."""
    cut = slice(None, num)
    few = {name: getattr(self, name)[cut] for name in ("keys", "x", "labels", "indices")}
    return self._replace(**few)

  def seeded(self, seed: int) -> "Victim":
    """The same under the keys of another seed: those of model, attack and grading alike."""
    return self._replace(keys=grading.attack_keys("known_seed", seed, self.indices))


def log(text: str) -> None:
  """Progress, with the time since the start."""
  print(f"[{time.perf_counter() - START:7.1f} s] {text}", file=sys.stderr, flush=True)


def distances(victim: Victim, x_adv: np.ndarray, norm: str, *, minimum: bool) -> np.ndarray:
  """[N], the norm of each perturbation that our model misclassifies, else infinity.

  Those of a minimum-norm attack are on the boundary and lengthened as `launch/evaluate.py` does.
  """
  x_adv = np.clip(np.where(np.isfinite(x_adv), x_adv, victim.x), 0, 1).astype(np.float32)
  if minimum:
    x_adv = nearest_failure(x_adv, victim.x, lambda at: 1.0 - misclassified(victim, at))
  wrong = misclassified(victim, x_adv)
  return np.where(wrong, grading.perturbation_norm(x_adv, victim.x, norm), np.inf)


def misclassified(victim: Victim, x_adv: np.ndarray) -> np.ndarray:
  """[N] bool."""
  size, wrong = victim.batch_size or 100, []
  for start in range(0, len(x_adv), size):
    rows = np.minimum(np.arange(start, start + size), len(x_adv) - 1)
    keys = jnp.asarray(victim.keys)[rows]
    logits = np.asarray(grading.forward(victim.logits_fn, keys, jnp.asarray(x_adv[rows])))
    wrong.append(grading.predict(logits) != victim.labels[rows])
  return np.concatenate(wrong)[: len(x_adv)]


def ours(victim: Victim, row: Row, eps: float | None, **run: Any) -> Outcome:
  """Our attack."""
  settings = {**row.ours, **(row.budget or {})} if run else row.ours
  if attacks.takes(row.attack, "norm"):
    settings = {**settings, "norm": row.norm}
  if attacks.takes_eps(row.attack):
    settings = {**settings, "eps": eps}
  attack = attacks.build(row.attack, victim.logits_fn, **settings)
  x, y = jnp.asarray(victim.x), jnp.asarray(victim.labels)
  start = time.perf_counter()
  result = attacks.run(attack, victim.keys, x, y, batch_size=victim.batch_size, **run)
  seconds = time.perf_counter() - start
  passes = float(np.mean(np.asarray(result.info.forward) + np.asarray(result.info.backward)))
  found = distances(victim, np.asarray(result.x), row.norm, minimum=row.minimum)
  return Outcome(found, seconds, passes)


def theirs(victim: Victim, row: Row, eps: float | None, seed: int) -> Outcome:
  """The peer's attack."""
  start = time.perf_counter()
  if victim.peer is None:
    peers.seed_jax(seed)
    model = peers.jax_model(jax.jit(lambda x: victim.logits_fn(victim.keys, x)))
    attack = peers.foolbox_attack(row.peer, row.theirs)
    x, labels = jnp.asarray(victim.x), jnp.asarray(victim.labels)
    x_adv = np.asarray(peers.run_foolbox(model, attack, x, labels, eps))
    seconds = time.perf_counter() - start
    found = distances(victim, x_adv, row.norm, minimum=row.minimum)
    return Outcome(found, seconds, np.nan)
  images, labels = peers.to_torch(victim.x), peers.torch.tensor(victim.labels).long()
  net = peers.Recording(victim.peer, images, labels, row.norm, budget=0)
  make = peers.build(row.library, row.peer, row.theirs, net, victim.x, victim.labels, seed)
  x_adv = make(eps)
  seconds = time.perf_counter() - start
  found = distances(victim, x_adv, row.norm, minimum=row.minimum)
  return Outcome(found, seconds, float(net.passes))


def seeds_of(victim: Victim, row: Row, seeds: int) -> range:
  """Seeds beyond the first only where something is drawn: a model that draws differs from seed to
  seed, whatever the attack."""
  return range(seeds if row.random or victim.peer is None else 1)


def of_seed(victim: Victim, row: Row, seed: int) -> list[dict[str, Any]]:
  """The records of one seed."""
  grid: tuple[float | None, ...] = row.eps or (None,)
  records = []
  once: dict[str, Outcome] = {}
  for eps in grid:
    # A minimum-norm attack of ours runs once for every eps.
    if not row.minimum or not once:
      once["ours"] = ours(victim, row, eps)
    peer = theirs(victim, row, eps, seed)
    records.append(compared(eps, seed, once["ours"], peer))
    log(f"{victim.name}: {row.label} {'' if eps is None else eps} seed {seed}: "
        f"{records[-1]['ours']} (ours) {records[-1]['theirs']} ({row.library}); "
        f"{once['ours'].seconds:.1f} s, {peer.seconds:.1f} s")  # fmt: skip
  return records


def at_equal_passes(victim: Victim, row: Row, passes: int) -> dict[str, dict[str, Any]]:
  """Distances [N] within the budget, of ours and of the peer where it asks for whole batches."""
  mine = ours(victim, row, None, max_queries=passes)
  found = {"ours": scored(mine.distance, mine.passes)}
  if row.library == "foolbox":
    images, labels = peers.to_torch(victim.x), peers.torch.tensor(victim.labels).long()
    net = peers.Recording(victim.peer, images, labels, row.norm, budget=passes)
    settings = {**row.theirs, **(row.their_budget or {})}
    peers.build(row.library, row.peer, settings, net, victim.x, victim.labels, 0)(None)
    nearest = distances(victim, peers.from_torch(net.nearest), row.norm, minimum=True)
    found["theirs"] = scored(nearest, min(net.passes, passes))
  return found


def scored(distance: np.ndarray, passes: float) -> dict[str, Any]:
  """JSON-able; a failure is -1."""
  return {"distance": [float(d) if np.isfinite(d) else -1.0 for d in distance], "passes": passes}


def load(workdir: str, name: str, num_images: int, *, twin: bool) -> Victim:
  """A trained run and its first test images."""
  run = gencls.load(workdir)
  chosen = first_images(run.split("test"), num_images)
  return Victim(
    name=name,
    logits_fn=run.logits_fn,
    keys=grading.attack_keys("known_seed", 0, chosen.indices),
    x=np.asarray(data.to_float(chosen.images, chosen.num_levels)),
    labels=chosen.labels,
    indices=chosen.indices,
    peer=torch_cnn.from_ours(run.params) if twin else None,
    batch_size=None if twin else min(10, num_images),
    facts={
      "run": Path(workdir).resolve().name,
      "model": run.config["model"],
      "dataset": chosen.name,
      "checkpoint_step": run.step,
      "params": params_digest(run.params),
    },
  )


class Job(NamedTuple):
  """One comparison."""

  row: Row
  kind: str  # "compare" or "passes"
  num_images: int
  path: Path  # where it is kept
  facts: dict[str, Any]  # what decides it


def jobs(victim: Victim, args: argparse.Namespace) -> list[Job]:
  """Every comparison of one victim."""
  rows = [row for row in ROWS if victim.name == "cnn" or row.gfz]
  most = len(victim.x)
  found = [(row, "compare", min(row.num_images or most, most)) for row in rows]
  if victim.name == "cnn" and args.passes:
    scored = [row for row in rows if row.minimum and row.norm in ("l2", "linf")]
    found += [(row, "passes", min(args.passes_images, most)) for row in scored]
  return [job(victim, args, *each) for each in found]


def job(victim: Victim, args: argparse.Namespace, row: Row, kind: str, num: int) -> Job:
  """A comparison and its file."""
  facts = {**victim.facts, "kind": kind, "row": row._asdict(), "num_images": num}
  facts |= {"seeds": args.seeds} if kind == "compare" else {"passes": args.passes}
  name = f"{row.label}-{kind}-{identity(facts)}.json".replace(" ", "_")
  return Job(row, kind, num, folder(args, victim.name) / name, facts)


def do(victim: Victim, job: Job, args: argparse.Namespace) -> None:
  """Makes and writes one comparison."""
  chosen = victim.first(job.num_images)
  made_with = provenance()
  made_with["command"] = portable_command(made_with["command"])
  for package in ("foolbox", "torch", "torchattacks"):
    made_with["versions"][package] = importlib.metadata.version(package)
  seeds = seeds_of(chosen, job.row, args.seeds)
  if job.kind == "compare":
    found: Any = kept_seeds.records_of(
      job.path, seeds, lambda seed: of_seed(chosen.seeded(seed), job.row, seed)
    )
  else:
    found = at_equal_passes(chosen, job.row, args.passes)
    log(f"{job.row.label} at {args.passes} passes")
  result = {**job.facts, "label": job.row.label, "victim": victim.name, "found": found}
  atomic_write(job.path, to_json({**result, **made_with}))
  kept_seeds.forget(job.path, seeds)


def folder(args: argparse.Namespace, victim: str) -> Path:
  """Where the comparisons of one victim are kept."""
  return Path(getattr(args, victim)) / "results" / "attack_strength"


def parse_args() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description="our attacks against their references")
  parser.add_argument("--cnn", help="work directory of a trained CNN for MNIST images")
  parser.add_argument("--gfz", help="work directory of a trained GFZ")
  parser.add_argument("--cnn_images", type=positive, default=500)
  parser.add_argument("--gfz_images", type=positive, default=50)
  parser.add_argument("--seeds", type=positive, default=3)
  parser.add_argument("--passes", type=int, default=1000, help="AttackBench's budget; 0: no score")
  parser.add_argument("--passes_images", type=positive, default=100)
  parser.add_argument("--only", help="makes rows whose label contains this")
  parser.add_argument("--redo", action="store_true", help="also what is there")
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  args = parser.parse_args()
  if not (args.cnn or args.gfz):
    parser.error("name a trained run: --cnn=runs/cnn_mnist, --gfz=runs/gfz_mnist, or both")
  return args


def main() -> None:
  """Compares, writes the JSON and the table made from it; exits 1 where ours is weaker."""
  args = parse_args()
  runtime.start(deterministic=False)
  there = []
  for name in ("cnn", "gfz"):
    if getattr(args, name):
      num = getattr(args, f"{name}_images")
      victim = load(getattr(args, name), name, num, twin=name == "cnn")
      for one in jobs(victim, args):
        wanted = args.only is None or args.only in one.row.label
        if wanted and (args.redo or not one.path.exists()):
          do(victim, one, args)
        there += [one.path] * one.path.exists()
  records = [json.loads(each.read_text()) for each in there]
  path = args.out / "attack_strength.json"
  publish({"benchmark": "attack_strength", "comparisons": records}, markdown, path)
  weaker = [
    f"{r['victim']} {r['label']}"
    for r in records
    if r["kind"] == "compare" and not all(v.as_strong for v in verdicts(r))
  ]
  if weaker:
    sys.exit(f"ours is weaker than its reference in {len(weaker)} rows: {'; '.join(weaker)}")


if __name__ == "__main__":
  main()
