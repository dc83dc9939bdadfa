"""What all tests share: a JAX that refuses to broadcast arrays of different ranks."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
