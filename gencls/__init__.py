"""Robust classification with generative models, in JAX.

  run = gencls.load(workdir)                   .classifier .params .config .dataset .logits_fn
  gencls.models.build(...)   gencls.attacks.build(...)   gencls.attacks.run(...)
  gencls.data.load(...)      gencls.example_keys(seed, indices)
  gencls.straight_through.binarize(...)        gencls.interop.to_foolbox(...)
  gencls.load_results(workdir, name)           per-example results as columns

Names are imported when they are first used, so that `import gencls` needs nothing that one use of
it may not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from gencls import attacks, data, detect, interop, models, straight_through
  from gencls.keys import example_keys
  from gencls.runs import Run, load
  from gencls.summary.columns import load_results

__all__ = [
  "Run",
  "attacks",
  "data",
  "detect",
  "example_keys",
  "interop",
  "load",
  "load_results",
  "models",
  "straight_through",
]

_MODULES = ("attacks", "data", "detect", "interop", "models", "straight_through")
_NAMES = {
  "Run": "gencls.runs",
  "load": "gencls.runs",
  "load_results": "gencls.summary.columns",
  "example_keys": "gencls.keys",
}


def __getattr__(name: str) -> Any:
  """Imports a public name at its first use."""
  if name in _MODULES:
    return importlib.import_module(f"gencls.{name}")
  if name in _NAMES:
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value
  raise AttributeError(f"module 'gencls' has no attribute {name!r}. Public: {', '.join(__all__)}")


def __dir__() -> list[str]:
  """The public names."""
  return __all__
