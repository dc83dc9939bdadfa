"""What all tests share: strict JAX, and a place for compiled programs."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
