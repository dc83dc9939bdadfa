"""Attacks and an evaluation on every device of a process that has two; started by a test.

Prints the accuracies of the evaluation's cells, as JSON.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import toy_evaluation as toy
from attack_models import curved, images, keys, predictions

from gencls import attacks
from gencls.attacks import objective, programs, workers

NUM = 24


def spy(name, seen):
  """Notes where the program runs; parameters, keys and state have to be on one device."""
  plain = getattr(programs, name)

  def call(step, keys, state, *rest):
    where = {each for leaf in jax.tree.leaves((step, keys, state)) for each in leaf.devices()}
    assert len(where) == 1, where
    seen.update(where)
    return plain(step, keys, state, *rest)

  setattr(programs, name, call)


def main(folder):
  assert workers.local(NUM) == (2, jax.devices())
  x = images(NUM)
  y = predictions(curved(), x)
  seen = set()
  for name in ("one_step", "many_steps"):
    spy(name, seen)
  pgd = attacks.build("pgd", curved(), eps=0.06, num_steps=10, num_restarts=2)
  fgsm = attacks.build("fgsm", curved(), eps=0.06)
  judge = objective.build(curved())
  both = attacks.sequence([("fgsm", fgsm), ("pgd", pgd)], judge, norm="linf", eps=0.06)
  for attack, loop in ((pgd, "device"), (both, "python")):
    one = attacks.run(attack, keys(NUM), x, y, loop=loop)
    seen.clear()
    two = attacks.run(attack, keys(NUM), x, y, loop=loop, devices=jax.devices())
    assert seen == set(jax.devices()), seen
    np.testing.assert_allclose(two.x, one.x, atol=1e-5)
    np.testing.assert_array_equal(two.info.success, one.info.success)
    assert len(two.x.devices()) == 1
  seen.clear()
  cells = toy.run(folder)
  assert seen == set(jax.devices()), seen
  print(json.dumps(toy.accuracies(cells)))


if __name__ == "__main__":
  main(Path(sys.argv[1]))
