"""Minimal hyperparameters of every registered attack: the tests of test_attack_table.py go over it.

A new attack adds one row. Keep it small (few steps) and strong enough to succeed on some of the
images of test_attack_table.py: rows are compiled once, and every shared property uses that program.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Row(NamedTuple):
  """One attack of the shared tests."""

  options: dict[str, Any]  # hyperparameters; those of a fixed budget need their eps
  other: dict[str, Any]  # other numbers, which must not compile again


def decode(keys, z, y):
  """A decoder of two latents and three classes for images of shape (2, 3, 1)."""
  del keys
  waves = jnp.arange(6)[None] * (1.0 + jnp.stack([y] * 6, axis=1))
  return jax.nn.sigmoid(z @ jnp.ones((2, 6)) + 2 * jnp.sin(waves)).reshape(-1, 2, 3, 1)


DECODER = {"decode_fn": decode, "latent_size": 2, "num_classes": 3}

TABLE: dict[str, Row] = {
  "fgm": Row({"eps": 0.15}, {"eps": 0.05}),
  "fgsm": Row({"eps": 0.08}, {"eps": 0.02}),
  "latent_descent": Row(
    DECODER | {"num_steps": 4, "binary_search_steps": 2, "num_restarts": 2, "num_draws": 3},
    DECODER | {"num_steps": 5, "binary_search_steps": 3, "num_restarts": 2, "step_size": 0.3},
  ),
  "pgd": Row({"eps": 0.08, "num_steps": 3}, {"eps": 0.02, "num_steps": 4, "step_size": 0.01}),
}
