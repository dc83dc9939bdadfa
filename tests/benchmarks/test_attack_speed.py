"""The pure parts of benchmarks/attack_speed.py: the shared network, grading, ladders and tables."""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
  """(attack_speed, plain_cnn, attack_peers, attack_rows)."""
  sys.path.insert(0, str(BENCHMARKS))
  import attack_peers
  import attack_rows
  import attack_speed
  import plain_cnn

  yield attack_speed, plain_cnn, attack_peers, attack_rows
  sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def victim(benchmark):
  """Random weights; the labels are the predictions."""
  plain_cnn = benchmark[1]
  rng = np.random.default_rng(0)
  weights = plain_cnn.initial(rng)
  weights = {k: w + 0.1 * rng.standard_normal(w.shape, np.float32) for k, w in weights.items()}
  x = rng.random((4, 28, 28, 1), np.float32)
  labels = plain_cnn.predict(weights, x).astype(np.int32)
  return plain_cnn.Victim(weights, x, labels, plain_cnn.example_keys(0, np.arange(4)), "none", 1.0)


def test_our_form_of_the_network_is_the_plain_one(benchmark, victim):
  plain_cnn = benchmark[1]
  wanted = jnp.asarray(np.random.default_rng(1).standard_normal((4, 10)), jnp.float32)

  @jax.jit
  def both(x):
    ours, pull = jax.vjp(lambda x: victim.logits_fn(victim.keys, x), x)
    plain, pull_plain = jax.vjp(lambda x: plain_cnn.plain_logits(victim.weights, x), x)
    return (ours, pull(wanted)[0]), (plain, pull_plain(wanted)[0])

  for one, other in zip(*both(jnp.asarray(victim.x)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_pytorch_has_the_same_network(benchmark, victim):
  torch = pytest.importorskip("torch")
  plain_cnn, attack_peers = benchmark[1:3]
  with torch.no_grad():
    theirs = attack_peers.torch_network(victim)(attack_peers.to_torch(victim.x)).numpy()
  plain = plain_cnn.plain_logits(victim.weights, jnp.asarray(victim.x))
  np.testing.assert_allclose(theirs, plain, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(attack_peers.from_torch(attack_peers.to_torch(victim.x)), victim.x)


def test_every_peer_attacks_known_rows_and_every_row_is_consistent(benchmark):
  attack_peers, attack_rows = benchmark[2:]
  source = (BENCHMARKS / "attack_peers.py").read_text()
  assert all(f'"{key}"' in source for key in attack_rows.ROWS)
  for row in attack_rows.ROWS.values():
    assert row.aim >= row.least >= 1 and list(row.ladder) == sorted(row.ladder)
    assert not (row.ladder and "num_steps" in row.numbers)


def test_grading_counts_failures_and_their_median_distance(benchmark, victim):
  attack_speed, plain_cnn, _, attack_rows = benchmark
  row = attack_rows.ROWS["ddn"]
  same = attack_speed.grade(victim, row, victim.x)
  assert same == {"success": 0.0, "median_distance": float("inf")}
  x_adv = 1 - victim.x
  labels = plain_cnn.predict(victim.weights, x_adv).astype(np.int32)
  wrong = victim._replace(labels=(labels + np.asarray([1, 1, 1, 0], np.int32)) % 10)
  distances = np.linalg.norm((x_adv - victim.x).reshape(4, -1), axis=1)
  found = attack_speed.grade(wrong, row, x_adv)
  assert found["success"] == 0.75
  expected = np.median([*distances[:3], np.inf])
  np.testing.assert_allclose(found["median_distance"], expected, rtol=1e-6)


def test_ours_takes_the_first_rung_that_reaches_the_peer(benchmark, victim, monkeypatch):
  attack_speed, _, _, attack_rows = benchmark
  row = attack_rows.ROWS["ddn"]._replace(ladder=(10, 20, 30))
  monkeypatch.setattr(attack_speed, "our_run", lambda victim, row, steps: lambda: steps)
  graded = lambda v, r, steps: {"success": 1.0, "median_distance": 40.0 / steps}  # noqa: E731
  monkeypatch.setattr(attack_speed, "grade", graded)

  def reference(distance, success=1.0):
    return {"success": success, "median_distance": distance}

  assert attack_speed.climb(victim, row, reference(2.0)) == (20, True)
  assert attack_speed.climb(victim, row, reference(4.0)) == (10, True)
  assert attack_speed.climb(victim, row, reference(1.0)) == (30, False)
  assert attack_speed.climb(victim, row, None) == (30, True)
  assert attack_speed.climb(victim, row._replace(ladder=()), reference(0.1)) == (None, True)
  assert not attack_speed.reaches(reference(1.0, 0.5), reference(1.0, 0.8), 4)
  assert attack_speed.reaches(reference(1.0, 0.55), reference(1.0, 0.8), 4)


def _side(seconds, cold):
  graded = {"success": 1.0, "median_distance": 1.25}
  return {"cold_seconds": cold, "warm_seconds": seconds[0], "seconds": seconds, **graded}


def _record(attack_speed):
  sides = {
    "foolbox_torch": _side([0.4, 0.6, 0.5], 0.5),
    "art": _side([0.9, 0.8, 1.0], 2.0) | {"success": 0.25, "median_distance": np.inf},
    "gencls": _side([0.2, 0.3, 0.25], 1.25),
  }
  row = {
    "title": "DDN",
    "images": 4,
    "steps": 50,
    "reaches_the_fastest_peer": True,
    "least": 1.5,
    "aim": 4.0,
    **attack_speed.summarise(sides),
  }
  missing = {"title": "Odd", "left_out": "unknown attack"}
  versions = dict.fromkeys(("jax", *attack_speed.PACKAGES), "1")
  return {
    "model": "m",
    "dataset": "d",
    "test_accuracy": 0.5,
    "num_images": 4,
    "settings": {"repeats": 3, "seed": 0},
    "versions": versions,
    "devices": {"kind": "cpu"},
    "machine": {"cores": 2},
    "git": {"revision": "r"},
    "command": "c",
    "libraries_left_out": {"torchattacks": "not installed: x", "foolbox_jax": "not installed: y"},
    "rows": {"ddn": row, "odd": missing},
    "gfz": None,
  }


def test_summary_and_table(benchmark):
  attack_speed = benchmark[0]
  record = _record(attack_speed)
  row = record["rows"]["ddn"]
  assert row["fastest_peer"] == "foolbox_torch"
  np.testing.assert_allclose([row["speed_ratio"][k] for k in ("median", "min")], [2.0, 2.0])
  assert row["sides"]["gencls"]["compile_seconds"] == 1.0
  table = attack_speed.markdown(json.loads(attack_speed.to_json(record)))
  assert "| 900 / 800 (25%, -) |" in table
  ours = "250 / 200 (100%, 1.250)"
  assert f"| DDN, 50 steps of ours | {ours} | 500 / 400 (100%, 1.250) |" in table
  assert "| 1.0 | 2.00 / 2.00 | 1.5 yes |" in table
  assert "| Odd | left out: unknown attack |" in table and "torchattacks is left out" in table
  body = [line for line in table.splitlines() if line.startswith("|")]
  assert len({line.count("|") for line in body}) == 1
  row["reaches_the_fastest_peer"] = False
  assert "(does not reach its distance) | 1.5 no |" in attack_speed.markdown(record)


def test_rows_are_chosen_by_name_and_strangers_refused(benchmark, victim):
  attack_speed = benchmark[0]
  assert attack_speed.parse_args(["--only=fgsm,blur"]).only == ["fgsm", "blur"]
  with pytest.raises(argparse.ArgumentTypeError, match="no row pdg"):
    attack_speed.row_names("fgsm,pdg")


def test_a_row_without_its_attack_is_left_out(benchmark, victim, monkeypatch):
  attack_speed = benchmark[0]
  monkeypatch.setattr(attack_speed.attacks, "REGISTRY", {})
  row = attack_speed.measure(victim, "fgsm", {}, None)
  assert row["left_out"].startswith("unknown attack 'fgsm'")


def test_digits_are_enlarged_to_the_size_of_mnist(benchmark):
  plain_cnn = benchmark[1]
  small = np.arange(64.0).reshape(1, 8, 8, 1)
  large = plain_cnn.digits_as_mnist(small)
  assert large.shape == (1, 28, 28, 1) and np.all(large[:, :2] == 0) and np.all(large[:, 26:] == 0)
  np.testing.assert_array_equal(large[:, 2:26:3, 4:26:3], small)
