"""Models whose robustness is an illusion: the sanity checks have to catch each of them.

The sound model is the class-conditional Gaussian; each broken one computes the same prediction (or
nearly) in a way that starves gradient attacks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import (
  CLASSES,
  SCALE,
  log_joint,
  protocol,
  record,
  toy_images,
  toy_subject,
)

from gencls.evaluate import evaluate
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.gradient_cell import probe
from gencls.evaluation.probes import Probes
from gencls.evaluation.surface_cell import Surface
from gencls.summary.regraded import NAME as MORE_SAMPLES
from gencls.summary.summarise import summarise

EPS = (0.1, 0.2, 0.5)
FITS = "the gradient is that of the loss"
RISES = "the loss surface rises along the gradient"
NOT_PROBABILITIES = "logits are not probabilities"
NO_ZERO_INPUT = "no zero input gradient at any step"
MOVES = "every attack moves every image it should"
NOTHING_NEW = "a gradient-free attack finds nothing new"
# What has nothing to compare here; test_transfer.py and test_regrade.py let these fail.
ELSEWHERE = {"white-box beats transfer", "transfer finds nothing new", MORE_SAMPLES}


def sound(params, keys, x):
  del keys
  return log_joint(params, x)


def softmax_outputs(params, keys, x):
  return jax.nn.softmax(sound(params, keys, x))


def detached_target(params, keys, x):
  """log p(x | y) with a reconstruction that leans on x, and the target x detached."""
  del keys
  reconstruction = params["mean"][None] + 0.3 * (x[:, None] - params["mean"][None])
  gap = (jax.lax.stop_gradient(x)[:, None] - reconstruction) / SCALE
  return -np.log(CLASSES) - 0.5 * jnp.sum(gap**2, axis=(2, 3, 4))


def detached_aside(params, keys, x):
  """A detached term in each class whose gradient is orthogonal to the rest, and three times it."""
  rows, cols = jnp.indices(x.shape[1:3])
  half = ((rows + cols) % 2)[None, ..., None].astype(x.dtype)  # the pixels of a chessboard
  seen = half * x + (1 - half) * params["mean"][:1]
  hidden = jax.lax.stop_gradient((1 - half) * x + half * params["mean"][:1])
  return sound(params, keys, seen) + 3 * sound(params, keys, hidden)


def quantised_input(params, keys, x):
  return sound(params, keys, jnp.round(16 * x) / 16)


def _attack(label, name="pgd", **hyperparameters):
  return AttackSpec(label, name, "linf", EPS, "margin", 1, hyperparameters)


# The margin over three classes has local maxima: one start may end in one.
PGD = {"rel_step_size": 0.3, "num_steps": 6, "num_restarts": 5}
FEW = [_attack("pgd", **PGD), _attack("square", "square", num_steps=150)]
AUTO = [_attack("aa", "auto_attack", num_classes=CLASSES, num_steps=6, num_queries=150)]
ALL = [
  *FEW,
  _attack("fgsm", "fgsm"),
  _attack("pgd_12", **PGD | {"num_steps": 12}),
  _attack("pgd_25", **PGD | {"num_restarts": 25}),
]


def checks(tmp_path, logits, specs):
  """{what: (status, detail)} of an evaluation."""
  cells = evaluate(
    toy_subject(score="unnormalised", logits=logits),
    toy_images(60),
    protocol(clean=("accuracy",), batch_size=60),
    specs,
    folder=tmp_path,
    identity={"data": {"name": "toy"}, "params": logits.__name__, "step": 5},
    record=record(),
    progress=False,
    probes=Probes(gradient=True, surface=Surface(20, 0.3, 5)),
  )
  return {c["name"]: (c["status"], c["detail"]) for c in summarise(cells)["checks"]}


@pytest.mark.slow
def test_a_sound_model_passes_every_check(tmp_path):
  found = checks(tmp_path, sound, ALL)
  assert {name for name, (status, _) in found.items() if status != "pass"} == ELSEWHERE, found
  assert "median 1.00" in found[FITS][1]
  assert "norm zero for 0 of 60, not finite for 0" in found[FITS][1]


@pytest.mark.parametrize(
  ("logits", "specs", "caught"),
  [
    (softmax_outputs, FEW[:1], {NOT_PROBABILITIES}),
    (detached_target, FEW, {FITS, NOTHING_NEW}),
    (detached_aside, FEW, {FITS, NOTHING_NEW}),
    (quantised_input, FEW, {FITS, RISES, NO_ZERO_INPUT, NOTHING_NEW}),
    (quantised_input, AUTO, {FITS, RISES, NOTHING_NEW}),  # its own Square
  ],
)
@pytest.mark.filterwarnings("ignore:.*takes the loss margin")  # for three classes
@pytest.mark.filterwarnings("ignore:.*gradients may be masked")
@pytest.mark.filterwarnings("ignore:.*standing examples had an input gradient of exactly")
def test_a_broken_model_is_caught(tmp_path, logits, specs, caught):
  found = checks(tmp_path, logits, specs)
  failed = {name for name, (status, _) in found.items() if status == "fail"}
  assert caught <= failed


def test_the_probe_measures_what_it_predicts():
  """Two classes of a common scale have a linear margin: differences are exact inside the box."""
  two = jax.tree_util.Partial(lambda params, keys, x: sound(params, keys, x)[:, :2])
  fn = jax.tree_util.Partial(two, toy_subject().params)
  images = toy_images(20)
  x = jnp.asarray(0.1 + 0.8 * images.images / 16, jnp.float32)
  keys = jax.random.split(jax.random.key(0), 20)
  found = probe(fn, keys, x, jnp.asarray(images.labels % 2))
  np.testing.assert_allclose(found["measured"], found["predicted"], rtol=1e-3)
  np.testing.assert_allclose(found["predicted"], 0.04 * found["gradient_norm"], rtol=1e-3)
