"""Images, labels and keys that attacks and classifiers cannot take, and numbers of attacks."""

import bad_input
import jax
import jax.numpy as jnp
import numpy as np
from bad_input import Case
from bad_training import INF, NAN
from finished import Scene

import gencls
from gencls import attacks, data

NUM = 4
X = np.full((NUM, 4, 4, 1), 0.5, np.float32)
Y = np.array([0, 1, 2, 0])
_NAN = X.copy()
_NAN[1, 0, 0, 0] = NAN
_RUN = [
  ("x", X * 255, "x must be finite and in [0, 1]", "127.5"),
  ("x", X - 1, "x must be finite and in [0, 1]", "-0.5"),
  ("x", _NAN, "x must be finite", "NaN in 1 of 4 images, first in 1"),
  ("x", (X * 255).astype(np.uint8), "float32", "dtype uint8"),
  ("x", X.astype(np.float64), "float32", "dtype float64"),
  ("x", X[..., 0], "[B, H, W, D]", "shape (4, 4, 4)"),
  ("x", X[:, :3], "x must be [B, 4, 4, 1]", "got shape (1, 3, 4, 1)"),
  ("x", X.tolist(), "x must be an array", "got list"),
  ("y", Y[:2], "y must be [4] integers", "shape (2,)"),
  ("y", Y.astype(np.float32), "y must be [4] integers", "float32"),
  ("y", Y + 3, "y must be < 3", "got 5 at 2"),
  ("y", Y - 1, "y must be >= 0", "got -1 at 0"),
  ("target", Y, "target must differ from the label", "first at 0 (class 0)"),
  ("target", np.full(NUM, 7), "target must be < 3", "got 7"),
  ("target", np.full(NUM, -2), "target must be >= -1", "got -2"),
  ("start", X[:1], "start must have the shape of x", "(1, 4, 4, 1)"),
  ("start", X * 9, "start must be finite and in [0, 1]", "4.5"),
  ("keys", gencls.example_keys(0, np.arange(3)), "keys must be [4] typed keys", "(3,)"),
  ("keys", jnp.zeros((NUM, 2), jnp.uint32), "typed keys", "uint32"),
  ("loop", "scan", "unknown loop 'scan'"),
  ("batch_size", 0, "batch_size >= 1", "and 0"),
  ("record_every", -1, "record_every must be >= 0", "got -1"),
  ("num_workers", 0),
  ("max_queries", 0),
  ("max_seconds", NAN),
]
_BUILD = [
  ("eps", NAN),
  ("eps", -0.1),
  ("eps", "0.1"),
  ("eps", INF),
  ("norm", "l7", "unknown norm 'l7'"),
  ("num_steps", "many"),
  ("num_steps", True),
  ("step_size", INF, "step size", "inf"),
  ("rule", "adm", "unknown rule 'adm'", "did you mean 'adam'"),
  ("randomness", "frsh", "unknown randomness 'frsh'", "did you mean 'fresh'"),
  ("eot_samples", 1.5),
  ("accept_weight", NAN),
  ("num_stepz", 3, "'num_stepz'", "did you mean 'num_steps'"),
]
_MODEL = [
  ("x", (X * 255).astype(np.uint8), "x must be [B, 4, 4, 1] floats", "uint8"),
  ("x", X[:, :3], "x must be [B, 4, 4, 1]", "(4, 3, 4, 1)"),
  ("x", X[0], "x must be [B, 4, 4, 1]", "(4, 4, 1)"),
  ("keys", gencls.example_keys(0, np.arange(3)), "keys must be [4] typed keys", "(3,)"),
  ("y", Y.astype(np.float32), "y must be [4] integers", "float32"),
  ("y", Y[:3], "y must be [4] integers", "(3,)"),
]


def _arguments(given: dict) -> tuple:
  return tuple(
    given.pop(name, value)
    for name, value in (("keys", gencls.example_keys(0, np.arange(NUM))), ("x", X), ("y", Y))
  )


def _run(at: Scene, **given: object) -> None:
  attack = attacks.build("fgsm", at.loaded.logits_fn, eps=0.1)
  attacks.run(attack, *_arguments(given), **given)


def _build(at: Scene, **given: object) -> None:
  attacks.build("pgd", at.loaded.logits_fn, **{"eps": 0.1, **given})


def _loss(at: Scene, **given: object) -> None:
  at.loaded.classifier.loss(at.loaded.params, *_arguments(given), 0)


def _logits(at: Scene, **given: object) -> None:
  jax.jit(at.loaded.logits_fn)(*_arguments(given)[:2])


def _of_arrays(kind: str, act, rows: list[tuple]) -> list[Case]:
  """The name says the words of the rule and not the array."""
  cases = bad_input.settings(kind, act, rows)
  return [
    case._replace(name=f"{row[0]}: {case.words[-1]}")
    if isinstance(row[1], list | np.ndarray | jax.Array)
    else case
    for case, row in zip(cases, rows, strict=True)
  ]


def _float(images: object, num_levels: int = 17):
  return lambda at: data.to_float(images, num_levels)


CASES: list[Case] = [
  *_of_arrays("attacks.run", _run, _RUN),
  *_of_arrays("attacks.build", _build, _BUILD),
  *_of_arrays("loss", _loss, _MODEL),
  *_of_arrays("logits", _logits, _MODEL[:4]),
  Case("attacks.build", "no eps", lambda at: attacks.build("pgd", at.loaded.logits_fn),
       ("pgd needs eps",)),
  Case("attacks.build", "a model of x alone", lambda at: attacks.build("pgd", lambda x: x, eps=0.1),
       ("logits_fn must take (keys, x)",)),
  Case("to_float", "levels beyond the last", _float(np.array([17])), ("[0, 16]", "17")),
  Case("to_float", "NaN", _float(np.array([NAN])), ("[0, 1]", "nan")),
  Case("to_float", "complex numbers", _float(np.array([1j])), ("complex128",)),
  Case("to_float", "one level", _float(np.array([0]), 1), ("num_levels must be >= 2", "got 1")),
  Case("example_keys", "fractions", lambda at: gencls.example_keys(0, [0.5]),
       ("indices must be integers", "float32")),
  Case("example_keys", "an unknown purpose", lambda at: gencls.example_keys(0, [0], "grad"),
       ("unknown purpose 'grad'", "did you mean 'grade'")),
]  # fmt: skip
