"""Starts of attacks on generative classifiers: the image as a wrong class would have it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gencls.attacks.broadcast import choose, pixels
from gencls.types import Array, Keys, LogitsFn

ReconstructFn = Callable[[Keys, Array, Array], Array]  # (keys, x, y [B]) -> images


def wrong_reconstructions(
  logits_fn: LogitsFn,
  reconstruct_fn: ReconstructFn,
  keys: Keys,
  x: Array,
  y: Array,
  target: Array | None = None,
) -> Array:
  """Each image's reconstruction under the wrong class with the largest logit.

  To be given to `run` as `start`: an attack with a ball projects it there.

  Args:
    logits_fn: (keys, x) -> [B, C].
    reconstruct_fn: (keys, x, y [B]) -> images, a `Partial` of its parameters or a plain function;
      `Classifier.reconstruct` with its parameters bound.
    keys: [B] typed keys.
    x: [B, H, W, D] float32 in [0, 1].
    y: [B] integers, the true labels.
    target: [B] integers, the class to reconstruct under instead; -1 for the strongest wrong one.

  Returns:
    [B, H, W, D] float32 in [0, 1]; x itself where the reconstruction is not finite.
  """
  logits_fn, reconstruct_fn = (
    f if isinstance(f, Partial) else Partial(f) for f in (logits_fn, reconstruct_fn)
  )
  aim = jnp.full(len(x), -1) if target is None else jnp.asarray(target)
  return _reconstruct(logits_fn, reconstruct_fn, keys, jnp.asarray(x), jnp.asarray(y), aim)


@jax.jit
def _reconstruct(
  logits_fn: LogitsFn, reconstruct_fn: ReconstructFn, keys: Keys, x: Array, y: Array, aim: Array
) -> Array:
  logits = logits_fn(keys, x)
  own = jnp.arange(logits.shape[1])[None, :] == y[:, None]
  rival = jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=1)
  images = reconstruct_fn(keys, x, jnp.where(aim >= 0, aim, rival).astype(jnp.int32))
  finite = jnp.all(jnp.isfinite(images), axis=pixels(images))
  return choose(finite, jnp.clip(images, 0.0, 1.0), x)
