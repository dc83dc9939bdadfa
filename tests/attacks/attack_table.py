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
  "apgd": Row({"eps": 0.06, "num_steps": 5}, {"eps": 0.02, "num_steps": 4}),
  "binary_search_contrast": Row(
    {"binary_search_steps": 5}, {"binary_search_steps": 7, "level": 0.4}
  ),
  "boundary": Row(
    {"num_steps": 12, "directions": 4, "blend_steps": 10},
    {"num_steps": 15, "directions": 4, "blend_steps": 10, "spherical_step": 0.1},
  ),
  "carlini_wagner": Row(
    {"binary_search_steps": 2, "num_steps": 6, "step_size": 0.1, "initial_const": 1.0},
    {"binary_search_steps": 3, "num_steps": 5, "step_size": 0.2, "initial_const": 2.0},
  ),
  "ddn": Row({"num_steps": 6}, {"num_steps": 7, "init_eps": 0.5}),
  "deepfool": Row({"num_steps": 6}, {"num_steps": 5, "overshoot": 0.1}),
  "fab": Row({"num_steps": 5}, {"num_steps": 6, "eta": 1.2}),
  "fgm": Row({"eps": 0.15}, {"eps": 0.05}),
  "fgsm": Row({"eps": 0.08}, {"eps": 0.02}),
  "fmn": Row({"num_steps": 8}, {"num_steps": 7, "step_size": 0.5}),
  "gaussian_blur": Row(
    {"num_steps": 20, "block_size": 5}, {"num_steps": 20, "block_size": 5, "rel_max_sigma": 0.5}
  ),
  "gaussian_noise": Row(
    {"eps": 0.4, "num_repeats": 20, "block_size": 10},
    {"eps": 0.2, "num_repeats": 30, "block_size": 10},
  ),
  "hop_skip_jump": Row(
    {"num_steps": 2, "initial_num_evals": 8, "directions": 4, "blend_steps": 10},
    {"num_steps": 3, "initial_num_evals": 12, "directions": 4, "blend_steps": 10},
  ),
  "latent_descent": Row(
    DECODER | {"num_steps": 4, "binary_search_steps": 2, "num_restarts": 2, "num_draws": 3},
    DECODER | {"num_steps": 5, "binary_search_steps": 3, "num_restarts": 2, "step_size": 0.3},
  ),
  "linear_search_contrast": Row(
    {"num_steps": 20, "block_size": 5}, {"num_steps": 20, "block_size": 5, "level": 0.4}
  ),
  "mim": Row({"eps": 0.08, "num_steps": 3}, {"eps": 0.02, "num_steps": 4}),
  "pgd": Row({"eps": 0.08, "num_steps": 3}, {"eps": 0.02, "num_steps": 4, "step_size": 0.01}),
  "pixel_flips": Row(
    {"eps": 0.25, "num_steps": 6, "num_targets": 2}, {"eps": 0.1, "num_steps": 5, "num_targets": 1}
  ),
  "pointwise": Row(
    {"num_restarts": 2, "noise_steps": 10, "num_steps": 40, "block_size": 2},
    {"num_restarts": 2, "noise_steps": 12, "num_steps": 50, "block_size": 2},
  ),
  "salt_and_pepper": Row({"num_steps": 20, "block_size": 5}, {"num_steps": 30, "block_size": 5}),
  "separable": Row({"eps": 0.06, "num_steps": 3}, {"eps": 0.02, "num_steps": 3}),
  "spsa": Row(
    {"eps": 0.08, "num_steps": 3, "num_samples": 40, "step_size": 0.05},
    {"eps": 0.02, "num_steps": 4, "num_samples": 60, "step_size": 0.02},
  ),
  "square": Row({"eps": 0.1, "num_steps": 20}, {"eps": 0.05, "num_steps": 15}),
  "uniform_noise": Row(
    {"eps": 0.15, "num_repeats": 20, "block_size": 10},
    {"eps": 0.1, "num_repeats": 30, "block_size": 10},
  ),
}
