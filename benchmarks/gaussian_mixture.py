"""Speed of fitting a Gaussian mixture to every class of MNIST, beside scikit-learn.

    python benchmarks/gaussian_mixture.py            # about 10 minutes on 2 quiet cores

Two comparisons, class after class in turns, in one process:

  EM    both start from the same components and run the same number of iterations
  fit   k-means++, k-means and EM to the same tolerance, each in its own way

In the first both compute the same thing, and their log-likelihoods are compared; in the second the
random starts differ, and the log-likelihoods that were reached stand beside the times. Compilation
is timed apart. scikit-learn gets float64 and float32 images, and its faster time counts. Writes
docs/results/gaussian_mixture_speed.json and the table made from it, gaussian_mixture_speed.md.
"""

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from arguments import positive
from record import publish
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gencls import data, runtime
from gencls.evaluation.results import portable_command
from gencls.keys import purpose_key
from gencls.models import covariance_names, fitting, mixture_em
from gencls.workdir import provenance

ROOT = Path(__file__).resolve().parent.parent
REG_COVAR, TOL, LLOYD_ITERATIONS = 1e-6, 1e-3, 10
TOLERANCE = (
  1e-4  # relative, to float64 scikit-learn, between the log-likelihoods after the same iterations
)
SPHERICAL = covariance_names.build("spherical", 1)
START = time.perf_counter()


def log(text: str) -> None:
  """Progress, with the time since the start of the process."""
  print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
  """What a call returns, and its wall time."""
  start = time.perf_counter()
  result = jax.block_until_ready(run())
  return result, time.perf_counter() - start


def classes(args: argparse.Namespace) -> list[np.ndarray]:
  """The training images of every class, [N, D] float32, all 60,000."""
  splits = [data.load(args.data, split=split) for split in ("train", "validation")]
  x = np.concatenate([split.images for split in splits]).astype(np.float32) / 255
  y = np.concatenate([split.labels for split in splits])
  x = x.reshape(len(x), -1)
  return [x[y == c][: args.images_per_class] for c in range(int(y.max()) + 1)]


class Ours(NamedTuple):
  """Our side of one class: the images on the device, filled up to the size of all classes."""

  x: Any  # [N, D], centred
  weights: Any  # [N]
  args: argparse.Namespace

  def blocks(self) -> mixture_em.Blocks:
    """The features that EM reads."""
    block = fitting.even_block(len(self.x))
    return mixture_em.in_blocks(self.x, self.weights, covariance=SPHERICAL, block=block)

  def start(self, blocks: mixture_em.Blocks, seed: int) -> Any:
    """The components of the clusters of k-means."""
    return mixture_em.start(
      purpose_key(seed, "init"),
      self.x,
      self.weights,
      blocks,
      REG_COVAR,
      covariance=SPHERICAL,
      num_components=self.args.num_components,
      kmeans_iterations=LLOYD_ITERATIONS,
    )

  def em(self, blocks: mixture_em.Blocks, params: Any, tol: float) -> mixture_em.Mixture:
    """EM from there; a negative tolerance is never met."""
    most = self.args.iterations if tol < 0 else self.args.max_iterations
    return mixture_em.maximize_likelihood(
      params, blocks, REG_COVAR, covariance=SPHERICAL, tol=tol, max_iterations=most
    )

  def same_iterations(self, params: Any) -> mixture_em.Mixture:
    """The iterations that scikit-learn runs too."""
    return self.em(self.blocks(), params, -1.0)

  def fit(self) -> mixture_em.Mixture:
    """The whole fit."""
    blocks = self.blocks()
    return self.em(blocks, self.start(blocks, self.args.seed), TOL)


def filled(x: np.ndarray, size: int, args: argparse.Namespace) -> Ours:
  """Our side, of centred images."""
  weights = jnp.asarray(np.arange(size) < len(x), jnp.float32)
  return Ours(jnp.pad(jnp.asarray(x), ((0, size - len(x)), (0, 0))), weights, args)


def peer(x: np.ndarray, args: argparse.Namespace, **settings: Any) -> GaussianMixture:
  """scikit-learn's fit of one class."""
  model = GaussianMixture(
    args.num_components,
    covariance_type="spherical",
    reg_covar=REG_COVAR,
    random_state=args.seed,
    **settings,
  )
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    return model.fit(x)


def peer_from(x: np.ndarray, params: Any, args: argparse.Namespace) -> GaussianMixture:
  """scikit-learn's EM from our start, as many iterations."""
  log_weights = np.float64(params["log_weights"])
  weights = np.exp(log_weights - log_weights.max())
  given = {
    "weights_init": weights / weights.sum(),
    "means_init": np.float64(params["mean"]),
    "precisions_init": np.exp(-2 * np.float64(params["log_scale"])),
  }
  given = {name: value.astype(x.dtype) for name, value in given.items()}
  # Its own start is overwritten by the given one; the cheapest costs nothing beside EM.
  return peer(x, args, tol=0.0, max_iter=args.iterations, init_params="random_from_data", **given)


def measure_class(x: np.ndarray, size: int, args: argparse.Namespace) -> dict[str, Any]:
  """Seconds and log-likelihoods of both sides for one class."""
  centred = x - x.mean(axis=0)
  ours, record = filled(centred, size, args), {}
  params = jax.block_until_ready(ours.start(ours.blocks(), args.seed))
  mixture, record["em_ours"] = timed(lambda: ours.same_iterations(params))
  double = centred.astype(np.float64)
  _, record["em_sklearn_float32"] = timed(lambda: peer_from(centred, params, args))
  reference, record["em_sklearn_float64"] = timed(lambda: peer_from(double, params, args))
  record["em_log_lik_ours"] = mixture.log_lik
  record["em_log_lik_sklearn"] = float(reference.lower_bound_)
  if not args.em_only:
    fitted, record["fit_ours"] = timed(ours.fit)
    record |= {"fit_log_lik_ours": fitted.log_lik, "fit_iterations_ours": fitted.iterations}
    found, record["fit_sklearn"] = timed(
      lambda: peer(centred, args, tol=TOL, max_iter=args.max_iterations)
    )
    record["fit_log_lik_sklearn"] = float(found.lower_bound_)
    record["fit_iterations_sklearn"] = int(found.n_iter_)
  return record


def check(classes: list[dict[str, Any]]) -> float:
  """The largest relative difference of the log-likelihoods after the same iterations.

  Raises:
    SystemExit: if it is above `TOLERANCE`: two different fits must not be timed.
  """
  pairs = [(c["em_log_lik_ours"], c["em_log_lik_sklearn"]) for c in classes]
  worst = max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)
  if not worst <= TOLERANCE:
    sys.exit(
      f"after the same iterations the log-likelihoods differ by {worst:.1e} relative, must be <= "
      f"{TOLERANCE}: no timings"
    )
  return worst


def summarise(classes: list[dict[str, Any]], em_only: bool) -> dict[str, Any]:
  """Seconds over all classes, and ours over scikit-learn's faster ones."""
  total = lambda name: sum(c[name] for c in classes)  # noqa: E731
  theirs = {kind: total(f"em_sklearn_{kind}") for kind in ("float32", "float64")}
  em = {"ours": total("em_ours"), **{f"sklearn_{k}": v for k, v in theirs.items()}}
  summary = {"em_seconds": em, "em_share": em["ours"] / min(theirs.values())}
  if not em_only:
    seconds = {"ours": total("fit_ours"), "sklearn": total("fit_sklearn")}
    summary |= {"fit_seconds": seconds, "fit_share": seconds["ours"] / seconds["sklearn"]}
  return summary


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
  """Everything that the JSON file holds."""
  images = classes(args)
  block = fitting.even_block(max(map(len, images)))
  size = -(-max(map(len, images)) // block) * block
  _, compilation = timed(filled(images[0] - images[0].mean(axis=0), size, args).fit)
  log(f"the first fit, with compilation: {compilation:.1f} s")
  records = []
  for c, x in enumerate(images):
    records.append(measure_class(x, size, args))
    log(f"class {c}: {records[-1]}")
  record = provenance()
  record["versions"]["scikit-learn"] = sklearn.__version__
  record["command"] = portable_command(record["command"])
  return {
    "benchmark": "gaussian_mixture_speed",
    "model": "a spherical Gaussian mixture per class",
    "settings": {name: value for name, value in vars(args).items() if name != "out"},
    **record,
    "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
    "num_images": sum(map(len, images)),
    "first_fit_with_compilation_seconds": compilation,
    "largest_relative_difference": check(records),
    "summary": summarise(records, args.em_only),
    "classes": records,
  }


def markdown(record: dict[str, Any]) -> str:
  """The table of a record, as gaussian_mixture_speed.md holds it."""
  settings, summary, versions = record["settings"], record["summary"], record["versions"]
  em = summary["em_seconds"]
  theirs = f"{min(em['sklearn_float32'], em['sklearn_float64']):.1f} (float32 "
  theirs += f"{em['sklearn_float32']:.1f}, float64 {em['sklearn_float64']:.1f})"
  rows = [
    f"| EM, {settings['iterations']} iterations from the same start | {em['ours']:.1f} | {theirs} "
    f"| {summary['em_share']:.2f} |"
  ]
  if "fit_seconds" in summary:
    fit = summary["fit_seconds"]
    most = settings["max_iterations"]
    ended = [
      sum(each[f"fit_iterations_{side}"] < most for each in record["classes"])
      for side in ("ours", "sklearn")
    ]
    rows.append(
      f"| whole fit, to the tolerance {TOL:g} (reached before iteration {most} in {ended[0]} "
      f"classes by ours, in {ended[1]} by scikit-learn) | {fit['ours']:.1f} | {fit['sklearn']:.1f} "
      f"| {summary['fit_share']:.2f} |"
    )
  lines = [
    f"{len(record['classes'])} classes x {settings['num_components']} spherical components, "
    f"{record['num_images']:,} images of {settings['data']}; {record['devices']['kind']}, "
    f"{record['machine']['cores']} cores; jax {versions['jax']}, scikit-learn "
    f"{versions['scikit-learn']}; seed {settings['seed']}; sums over the classes, in turns. "
    f"Log-likelihoods after the same iterations differ by at most "
    f"{record['largest_relative_difference']:.0e} relative. Compilation is not in these times: "
    f"the first fit of one class took {record['first_fit_with_compilation_seconds']:.1f} s.",
    f"Command: `{record['command']}`",
    "",
    "| task | ours, s | scikit-learn, s | ours / scikit-learn |",
    "| --- | --- | --- | --- |",
    *rows,
  ]
  return "\n".join(lines) + "\n"


def parse_args() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description="times Gaussian mixtures beside scikit-learn")
  parser.add_argument("--data", default="mnist")
  parser.add_argument("--num_components", type=positive, default=60)
  parser.add_argument("--iterations", type=positive, default=20, help="of EM from the same start")
  parser.add_argument("--max_iterations", type=positive, default=100, help="of EM in a whole fit")
  parser.add_argument("--images_per_class", type=positive, default=None, help="default: all")
  parser.add_argument("--em_only", action="store_true", help="leave out the whole fits")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
  return parser.parse_args()


def main() -> None:
  """Measures, writes the numbers and the table made from them, and prints it."""
  args = parse_args()
  runtime.start(deterministic=False)
  publish(measure_all(args), markdown, args.out / "gaussian_mixture_speed.json")


if __name__ == "__main__":
  main()
