"""A class-conditional Gaussian whose log p(x, y) is known, and its evaluation in a few lines."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gencls import data
from gencls.evaluate import evaluate
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.batch_loop import Protocol
from gencls.evaluation.clean import METRICS, Subject
from gencls.types import Classifier, Decoder, Loss

SHAPE, CLASSES, LEVELS, SCALE = (4, 4, 1), 3, 17, 0.25


def toy_images(n=30, seed=0):
  """Images around three class means, as integer levels."""
  rng = np.random.default_rng(seed)
  means = np.random.default_rng(7).uniform(0.2, 0.8, (CLASSES, *SHAPE))
  labels = rng.permutation(np.arange(n) % CLASSES).astype(np.int32)
  x = np.clip(means[labels] + SCALE * rng.standard_normal((n, *SHAPE)), 0, 1)
  levels = np.round(x * (LEVELS - 1)).astype(np.uint8)
  indices = np.arange(n, dtype=np.int32)
  return data.Dataset("toy", "test", "made", levels, labels, indices, CLASSES, LEVELS)


def log_joint(params, x):
  """[B, C] log p(x, y), x | y normal with a common scale, uniform prior."""
  gap = (x[:, None] - params["mean"][None]) / SCALE
  dims = int(np.prod(SHAPE))
  constant = -dims * (0.5 * jnp.log(2 * jnp.pi) + jnp.log(SCALE)) - jnp.log(CLASSES)
  return constant - 0.5 * jnp.sum(gap**2, axis=(2, 3, 4))


@functools.cache  # the same functions, so that nothing compiles twice
def toy_subject(noise=0.0, score="exact", logits=None):
  """The Gaussian classifier; `noise` is added to the logits, drawn from the example's key."""
  params = {
    "mean": jnp.asarray(np.random.default_rng(7).uniform(0.2, 0.8, (CLASSES, *SHAPE)), jnp.float32)
  }

  def noisy(params, keys, x):
    z = log_joint(params, x)
    return z + noise * jax.vmap(lambda key: jax.random.normal(key, (CLASSES,)))(keys)

  def loss(params, keys, x, y, step):
    del keys, step
    own = jnp.take_along_axis(log_joint(params, x), y[:, None], axis=1)[:, 0]
    return Loss(-own, {"elbo": own})

  logits = logits or noisy
  classifier = Classifier(init=lambda key, x, y: params, loss=loss, logits=logits, score=score)
  fn = jax.tree_util.Partial(logits, params)
  return Subject(classifier, params, fn, fn, 5)


def log_weights(params, keys, x):
  """Two samples around the logits of the toy, whose merged prediction is the toy's."""
  logits = log_joint(params, x)
  return jnp.stack([logits + 3.0, logits - 3.0], axis=2)


def reconstruct(params, keys, x, y):
  return params["mean"][y]


def decode(params, keys, z, y):
  return params["mean"][y] + z[:, :1, None, None]


def offering_subject():
  """The Gaussian classifier as a model with a latent that offers all it can."""
  plain = toy_subject()
  offered = plain.classifier._replace(
    log_weights=log_weights, reconstruct=reconstruct, decoder=Decoder(decode, 2, CLASSES)
  )
  return plain._replace(attacked=(offered, plain.params))


def protocol(threat="known_seed", **changes):
  """A protocol with every metric."""
  fresh = threat == "fresh_seed"
  base = Protocol(threat, 0, 3 if fresh else 1, 20 if fresh else 1, 2, METRICS, 8, 4)
  return base._replace(**changes)


def specs(eps=(0.1, 0.5)):
  """FGSM and a short PGD."""
  return [
    AttackSpec("fgsm", "fgsm", "linf", eps, "margin", 1, {}),
    AttackSpec("pgd", "pgd", "linf", eps, "margin", 1, {"num_steps": 6, "rel_step_size": 0.3}),
  ]


IDENTITY = {"data": {"name": "toy"}, "params": "abc", "step": 5}


def record():
  """What launch/evaluate.py would record."""
  versions = {"jax": jax.__version__, "gencls": "0"}
  devices = {"kind": "cpu", "platform": "cpu"}
  git = {"revision": "0" * 40, "dirty": False}
  return {"config": {}, "versions": versions, "devices": devices, "git": git, "command": "test"}


def run(folder, subject=None, the_protocol=None, the_specs=None, n=30, **identity):
  """Evaluates; by default FGSM and PGD on the deterministic classifier."""
  return evaluate(
    subject or toy_subject(),
    toy_images(n),
    the_protocol or protocol(),
    specs() if the_specs is None else the_specs,
    folder=folder,
    identity={**IDENTITY, **identity},
    record=record(),
    progress=False,
  )


def accuracies(cells):
  """{"pgd 0.1": share of images that are right} of the cells that grade images."""
  graded = [cell for cell in cells if "correct" in cell.arrays]
  return {
    f"{cell.header['label']} {cell.header['eps']}": float(np.mean(cell.arrays["correct"]))
    for cell in graded
  }


def full_summary(summary, the_protocol, name="toy", title="TOY"):
  """With the fields that launch/evaluate.py adds."""
  return {
    "name": name,
    "title": title,
    "data": {"name": "toy", "split": "test", "num_images": summary["num_images"]},
    "step": 5,
    "protocol": the_protocol._asdict(),
    "attacks": {spec.label: spec._asdict() for spec in specs()},
    **summary,
    "model": {"name": "toy", "num_samples": 10},
    "attack_model": {"name": "toy", "num_samples": 10},
    "config": {"model": {"num_samples": None}, "attack_model": {"num_samples": None}},
    "record": record(),
  }


def cell_files(folder: Path):
  """Cell files and when each was last written."""
  return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
