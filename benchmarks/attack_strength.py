"""Every attack against its reference: the same weights, images, settings; paired, three seeds.

    python benchmarks/attack_strength.py --cnn=runs/cnn_mnist --gfz=runs/gfz_mnist
    python benchmarks/attack_strength.py --cnn=runs/cnn_mnist --only="deepfool l2" --seeds=1

On the CNN the peers (Foolbox; torchattacks for what is AutoAttack's) run on its PyTorch twin, on
the GFZ Foolbox runs on our function under fixed keys. What either returns is graded by one piece
of code (`gencls.grading`). A fixed budget compares success rates, a minimum norm median distances
(a failure is infinitely far). `--passes` scores every minimum-norm attack as AttackBench does, at
an equal number of forward and backward passes.

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
import numpy as np
import strength_peers as peers
import torch_cnn
from arguments import positive
from strength_report import markdown
from strength_rows import ROWS, Row

import gencls
from gencls import attacks, data, grading, runtime
from gencls.cells import first_images
from gencls.results import identity, params_digest, portable_command
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
  peer: Any  # the PyTorch twin, or None
  batch_size: int | None
  facts: dict[str, Any]  # run, dataset, step, digest of the parameters

  def first(self, num: int | None) -> "Victim":
    """The same with no more than the first `num` images."""
    cut = slice(None, num)
    return self._replace(keys=self.keys[cut], x=self.x[cut], labels=self.labels[cut])


class Outcome(NamedTuple):
  """What an attack returned, graded."""

  distance: np.ndarray  # [N] float64 in the row's norm, infinite where the prediction is right
  seconds: float
  passes: float  # forward and backward, mean over the images; NaN where nobody counted


def log(text: str) -> None:
  """Progress, with the time since the start."""
  print(f"[{time.perf_counter() - START:7.1f} s] {text}", file=sys.stderr, flush=True)


def distances(victim: Victim, x_adv: np.ndarray, norm: str) -> np.ndarray:
  """[N], the norm of each perturbation that our model misclassifies, else infinity."""
  x_adv = np.clip(np.where(np.isfinite(x_adv), x_adv, victim.x), 0, 1).astype(np.float32)
  size, wrong = victim.batch_size or 100, []
  for start in range(0, len(x_adv), size):
    rows = np.minimum(np.arange(start, start + size), len(x_adv) - 1)
    keys = jnp.asarray(victim.keys)[rows]
    logits = np.asarray(grading.forward(victim.logits_fn, keys, jnp.asarray(x_adv[rows])))
    wrong.append(grading.predict(logits) != victim.labels[rows])
  found = np.concatenate(wrong)[: len(x_adv)]
  return np.where(found, grading.perturbation_norm(x_adv, victim.x, norm), np.inf)


def ours(victim: Victim, row: Row, eps: float | None, seed: int, **run: Any) -> Outcome:
  """Our attack; a model without randomness lets the keys carry the seed of the attack."""
  settings = {**row.ours, **(row.budget or {})} if run else row.ours
  if attacks.takes(row.attack, "norm"):
    settings = {**settings, "norm": row.norm}
  if attacks.takes_eps(row.attack):
    settings = {**settings, "eps": eps}
  attack = attacks.build(row.attack, victim.logits_fn, **settings)
  keys = (
    victim.keys if victim.name == "gfz" else gencls.example_keys(seed, np.arange(len(victim.x)))
  )
  x, y = jnp.asarray(victim.x), jnp.asarray(victim.labels)
  start = time.perf_counter()
  result = attacks.run(attack, keys, x, y, batch_size=victim.batch_size, **run)
  seconds = time.perf_counter() - start
  passes = float(np.mean(np.asarray(result.info.forward) + np.asarray(result.info.backward)))
  return Outcome(distances(victim, np.asarray(result.x), row.norm), seconds, passes)


def theirs(victim: Victim, row: Row, eps: float | None, seed: int) -> Outcome:
  """The peer's attack."""
  start = time.perf_counter()
  if victim.peer is None:
    model = peers.jax_model(jax.jit(lambda x: victim.logits_fn(victim.keys, x)))
    attack = peers.foolbox_attack(row.peer, row.theirs)
    x, labels = jnp.asarray(victim.x), jnp.asarray(victim.labels)
    x_adv = np.asarray(peers.run_foolbox(model, attack, x, labels, eps))
    return Outcome(distances(victim, x_adv, row.norm), time.perf_counter() - start, np.nan)
  images, labels = peers.to_torch(victim.x), peers.torch.tensor(victim.labels).long()
  net = peers.Recording(victim.peer, images, labels, row.norm, budget=0)
  make = peers.build(row.library, row.peer, row.theirs, net, victim.x, victim.labels, seed)
  x_adv = make(eps)
  seconds = time.perf_counter() - start
  return Outcome(distances(victim, x_adv, row.norm), seconds, float(net.passes))


def compare(victim: Victim, row: Row, seeds: int) -> list[dict[str, Any]]:
  """One record for each eps, or one of the distances; seeds beyond the first only where drawn."""
  grid: tuple[float | None, ...] = row.eps or (None,)
  minimum = not attacks.takes_eps(row.attack)
  records = []
  for seed in range(seeds if row.random else 1):
    once: dict[str, Outcome] = {}
    for eps in grid:
      # A minimum-norm attack of ours runs once for every eps.
      if not minimum or not once:
        once["ours"] = ours(victim, row, eps, seed)
      peer = theirs(victim, row, eps, seed)
      records.append(record(row, eps, seed, once["ours"], peer))
      log(f"{victim.name}: {row.label} {'' if eps is None else eps} seed {seed}: "
          f"{records[-1]['ours']:.3g} (ours) {records[-1]['theirs']:.3g} ({row.library}); "
          f"{once['ours'].seconds:.1f} s, {peer.seconds:.1f} s")  # fmt: skip
  return records


def record(row: Row, eps: float | None, seed: int, mine: Outcome, peer: Outcome) -> dict[str, Any]:
  """Success rates in per cent at eps, or median distances."""
  if eps is None:
    values = [float(np.median(outcome.distance)) for outcome in (mine, peer)]
    passed = values[0] <= 1.01 * values[1] or bool(np.isinf(values[1]))
  else:
    inside = eps + grading.TOLERANCE
    values = [100 * float(np.mean(outcome.distance <= inside)) for outcome in (mine, peer)]
    passed = values[0] >= values[1] - max(100 / len(mine.distance), tolerance(row)) - 1e-9
  both = {"ours": mine, "theirs": peer}
  return {
    "eps": eps,
    "seed": seed,
    "ours": values[0],
    "theirs": values[1],
    "at_least_as_strong": passed,
    "share_found": {k: float(np.mean(np.isfinite(v.distance))) for k, v in both.items()},
    "seconds": {k: round(v.seconds, 3) for k, v in both.items()},
    "passes": {k: None if np.isnan(v.passes) else v.passes for k, v in both.items()},
  }


def tolerance(row: Row) -> float:
  """Points of success rate that may be missing, where that is more than one image."""
  return 1.0 if row.library == "torchattacks" else 0.5


def at_equal_passes(victim: Victim, row: Row, passes: int) -> dict[str, list[float]]:
  """[N] distances of ours and of the peer (where it asks for whole batches) within the budget."""
  found = {"ours": ours(victim, row, None, 0, max_queries=passes).distance.tolist()}
  if row.library == "foolbox":
    images, labels = peers.to_torch(victim.x), peers.torch.tensor(victim.labels).long()
    net = peers.Recording(victim.peer, images, labels, row.norm, budget=passes)
    peers.build(row.library, row.peer, row.theirs, net, victim.x, victim.labels, 0)(None)
    found["theirs"] = [float(d) for d in net.nearest]
  return {who: [d if np.isfinite(d) else -1.0 for d in values] for who, values in found.items()}


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


def jobs(victim: Victim, args: argparse.Namespace) -> list[tuple[Row, str, int]]:
  """(row, "compare" or "passes", number of images) for everything asked of one victim."""
  rows = [row for row in ROWS if victim.name == "cnn" or row.gfz]
  if args.only:
    rows = [row for row in rows if args.only in row.label]
  most = len(victim.x)
  found = [(row, "compare", min(row.num_images or most, most)) for row in rows]
  if victim.name == "cnn" and args.passes:
    scored = [
      row for row in rows if not attacks.takes_eps(row.attack) and row.norm in ("l2", "linf")
    ]
    found += [(row, "passes", min(args.passes_images, most)) for row in scored]
  return found


def do(victim: Victim, row: Row, kind: str, num: int, args: argparse.Namespace) -> None:
  """Makes and writes one comparison, unless it is there."""
  facts = {**victim.facts, "kind": kind, "row": row._asdict(), "num_images": num}
  facts |= {"seeds": args.seeds} if kind == "compare" else {"passes": args.passes}
  name = f"{row.label}-{kind}-{identity(facts)}.json".replace(" ", "_")
  path = folder(args, victim.name) / name
  if path.exists():
    return
  chosen = victim.first(num)
  made_with = provenance()
  made_with["command"] = portable_command(made_with["command"])
  for package in ("foolbox", "torch", "torchattacks"):
    made_with["versions"][package] = importlib.metadata.version(package)
  if kind == "compare":
    found: Any = compare(chosen, row, args.seeds)
  else:
    found = at_equal_passes(chosen, row, args.passes)
    log(f"{row.label} at {args.passes} passes")
  result = {**facts, "label": row.label, "victim": victim.name, "found": found}
  atomic_write(path, to_json({**result, **made_with}))


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
  parser.add_argument("--only", help="rows whose label contains this")
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  args = parser.parse_args()
  if not (args.cnn or args.gfz):
    parser.error("name a trained run: --cnn=runs/cnn_mnist, --gfz=runs/gfz_mnist, or both")
  return args


def main() -> None:
  """Compares, writes the JSON and the table made from it; exits 1 where ours is weaker."""
  args = parse_args()
  runtime.start(deterministic=False)
  every = []
  for name in ("cnn", "gfz"):
    if getattr(args, name):
      num = getattr(args, f"{name}_images")
      victim = load(getattr(args, name), name, num, twin=name == "cnn")
      for row, kind, images in jobs(victim, args):
        do(victim, row, kind, images, args)
      every += sorted(folder(args, name).glob("*.json"))
  records = [json.loads(path.read_text()) for path in every]
  order = {row.label: i for i, row in enumerate(ROWS)}
  records.sort(key=lambda r: (r["victim"], r["kind"], order.get(r["label"], len(order))))
  path = args.out / "attack_strength.json"
  atomic_write(path, to_json({"benchmark": "attack_strength", "comparisons": records}))
  table = markdown(json.loads(path.read_text()))
  atomic_write(path.with_suffix(".md"), table)
  print(table)
  weaker = [
    f"{r['victim']} {r['label']}"
    for r in records
    if r["kind"] == "compare" and not all(f["at_least_as_strong"] for f in r["found"])
  ]
  if weaker:
    sys.exit(f"ours is weaker than its reference in {len(weaker)} rows: {'; '.join(weaker)}")


if __name__ == "__main__":
  main()
