"""The choice between fits, on toy candidates."""

import jax.numpy as jnp
import pytest

from gencls.models import fitting
from gencls.types import FitData, Fitted

X, Y = jnp.zeros((4, 2, 2, 1)), jnp.array([0, 0, 0, 1])
DATA = FitData(X, Y, X, Y)


def logits(favourite, keys, x):
  return jnp.tile(1.0 * (jnp.arange(2) == favourite), (len(x), 1))


@pytest.mark.parametrize(("best", "told"), [("large", True), ("middle", False)])
def test_an_edge_is_told_among_the_values_beside_the_chosen_one(best, told, caplog):
  """0.1 is the largest of its own three, whatever was tried elsewhere."""
  floors = {"large": 0.1, "middle": 0.01, "elsewhere": 1.0}
  candidates = {
    name: lambda name=name: Fitted(int(name != best), {"floor": floors[name]}) for name in floors
  }

  def axes(chosen):
    return {"floor": (1.0, 2.0, 3.0) if chosen == "elsewhere" else (0.001, 0.01, 0.1)}

  found = fitting.most_accurate(candidates, logits, DATA, axes=axes)
  assert found.metrics["floor"] == floors[best] and found.metrics["validation_accuracy"] == 0.75
  assert ("floor=0.1 of the best validation accuracy is the largest" in caplog.text) == told
