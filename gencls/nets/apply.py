"""Running a Linen module on a plain tree of parameters."""

from typing import Any, cast

import flax.linen as nn

from gencls.types import Array, Params


def apply(module: nn.Module, params: Params, *args: Any) -> Array:
  """The module's one output; `params` is what `module.init(...)["params"]` gave."""
  return cast(Array, module.apply({"params": params}, *args))
