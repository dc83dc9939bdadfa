"""One small linear problem of sixteen images for the attacks on few pixels."""

import jax.numpy as jnp
import numpy as np
from attack_models import images, keys, linear_logits, predictions
from jax.tree_util import Partial

from gencls import attacks

NUM, SHAPE = 16, (6, 6, 1)
KEYS = keys(NUM)
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(36, 3)), jnp.float32)
MODEL = Partial(linear_logits, WEIGHTS, -0.5 * jnp.sum(WEIGHTS, axis=0))
X = images(NUM, shape=SHAPE, low=0.0, high=1.0)
CLEAN = predictions(MODEL, X)
Y = np.where(np.arange(NUM) % 8 == 7, (CLEAN + 1) % 3, CLEAN)  # two are wrong already


def attacked(name, logits_fn=MODEL, *, x=X, y=Y, k=KEYS, target=None, start=None, **options):
  attack = attacks.build(name, logits_fn, **options)
  return attacks.run(attack, k, x, y, target=target, start=start, compact=False)
