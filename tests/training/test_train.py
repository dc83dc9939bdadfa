import contextlib
import json
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gencls import checkpoint, sharding, train
from gencls.keys import example_keys, fold
from gencls.logs import read_metrics
from gencls.training import loop, optimizers
from gencls.training.rungs import StuckError
from gencls.training.step import TrainState, initial_state, merge_updates, train_step


def run(workdir, classifier=None, **settings):
  return train.train(
    classifier or toy.classifier(),
    toy.dataset(),
    toy.dataset(30, "validation", seed=1),
    workdir=workdir,
    **(toy.SETTINGS | settings),
  )


def stop_at(step):
  @contextlib.contextmanager
  def requests():
    yield lambda now: now == step

  return requests


def rows_without_rate(workdir):
  return [
    {k: v for k, v in row.items() if k != "train/images_per_s"} for row in read_metrics(workdir)
  ]


def assert_same_bits(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A run of 20 steps that nothing interrupts: (workdir, outcome)."""
  workdir = tmp_path_factory.mktemp("straight")
  return workdir, run(workdir, ema_decay=0.9)


def test_training_learns_and_writes_rows_with_units(straight):
  workdir, outcome = straight
  assert outcome.reason == train.FINISHED
  assert int(outcome.state.step) == 20
  rows = read_metrics(workdir)
  assert [row["step"] for row in rows] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
  last = rows[-1]
  assert last["eval/accuracy"] > 0.9
  assert last["train/loss_nats"] < 0.6 * rows[0]["train/loss_nats"]
  assert last["train/loss_nats"] == pytest.approx(-last["train/log_p_y_nats"])
  assert last["train/a_term_nats"] == 1.0  # a mean over steps and examples, not a sum
  assert last["eval/a_term_nats"] == 1.0  # 25 images in batches of 12: the padding has no weight
  assert {"train/grad_norm", "train/images_per_s", "eval/loss_nats"} <= last.keys()


def test_the_best_step_is_that_of_the_accuracy_under_attack(tmp_path):
  plain = toy.classifier()

  def loss(params, keys, x, y, step):
    found = plain.loss(params, keys, x, y, step)
    robust = jnp.full(len(x), jnp.where(step == 10, 0.9, 0.2))
    return found._replace(terms={**found.terms, "robust_accuracy": robust})

  run(tmp_path, plain._replace(loss=loss))
  rows = {row["step"]: row for row in read_metrics(tmp_path) if "eval/accuracy" in row}
  assert rows[20]["eval/accuracy"] >= rows[10]["eval/accuracy"]  # of two alike the later is best
  assert rows[10]["eval/robust_accuracy"] == pytest.approx(0.9)
  manager = checkpoint.open_manager(tmp_path / "checkpoints", read_only=True)
  assert manager.best_step() == 10


@pytest.mark.slow
def test_tensorboard_events_hold_the_same_numbers(straight):
  workdir, _ = straight
  events = EventAccumulator(str(workdir / "tensorboard"))
  events.Reload()
  found = {event.step: event.value for event in events.Scalars("eval/accuracy")}
  wanted = {r["step"]: r["eval/accuracy"] for r in read_metrics(workdir) if "eval/accuracy" in r}
  assert found == pytest.approx(wanted)


def test_updates_reach_the_parameters_and_the_average_follows(straight):
  state = straight[1].state
  assert float(state.params["seen"]) == 20.0
  assert 0 < float(state.ema["seen"]) < 20.0
  assert state.evaluated() is state.ema


def test_a_stopped_run_continues_bit_for_bit(straight, tmp_path, monkeypatch):
  monkeypatch.setattr(loop, "stop_requests", stop_at(7))
  outcome = run(tmp_path, ema_decay=0.9)
  assert (outcome.reason, int(outcome.state.step)) == (train.INTERRUPTED, 7)
  # What a kill leaves behind: rows after the checkpoint, the last one half-written.
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": 8, "train/loss_nats": -1.0}) + '\n{"step": 9, "tr')
  monkeypatch.undo()
  again = run(tmp_path, ema_decay=0.9)
  assert_same_bits(again.state, straight[1].state)
  # The stop wrote one more row and cut the mean of the next; the others are the same.
  rows = {row["step"]: row for row in rows_without_rate(tmp_path)}
  expected = {row["step"]: row for row in rows_without_rate(straight[0])}
  assert [row["step"] for row in read_metrics(tmp_path)] == sorted(rows)  # none twice
  assert set(rows) - set(expected) == {7}
  assert all(rows[step] == expected[step] for step in expected if step != 8)


def test_a_finished_run_is_left_as_it_is(straight):
  workdir, outcome = straight
  before = (workdir / "metrics.jsonl").read_bytes()
  again = run(workdir, ema_decay=0.9)
  assert_same_bits(again.state, outcome.state)
  assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_non_finite_term_stops_and_is_named_with_its_step(tmp_path):
  with pytest.raises(
    FloatingPointError, match=r"train/log_p_y_nats is not finite at step 9 \(step"
  ):
    run(tmp_path, toy.classifier(bad_term_from=9), log_every=100)
  manager = checkpoint.open_manager(tmp_path / "checkpoints")
  assert list(manager.all_steps()) == [5]
  manager.close()


def test_non_finite_logits_are_not_graded_nor_saved(tmp_path):
  with pytest.raises(FloatingPointError, match="eval/logits not finite at step 10"):
    run(tmp_path, toy.classifier(bad_logits_from=10))
  manager = checkpoint.open_manager(tmp_path / "checkpoints")
  assert list(manager.all_steps()) == [5]
  manager.close()


def test_early_stop_and_its_restart(tmp_path):
  settings = {"learning_rate": 1e-9, "early_stop_patience": 2}  # the accuracy cannot move
  first = run(tmp_path, **settings)
  assert (first.reason, int(first.state.step)) == (train.STOPPED_EARLY, 15)
  again = run(tmp_path, **settings)
  assert (again.reason, int(again.state.step)) == (train.STOPPED_EARLY, 15)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("error", "rung"), [("squared_error", "black image"), ("pixel_cross_entropy", "grey image")]
)
def test_a_stuck_decoder_stops_and_names_its_rung(tmp_path, error, rung):
  with pytest.raises(StuckError, match=rf"step 15.*stuck at the rung '{rung}'"):
    run(tmp_path, toy.classifier(error=(error, 1e4)), stuck_after=11)
  outcome = run(tmp_path / "fine", toy.classifier(error=(error, 0.01)), stuck_after=11)
  assert outcome.reason == train.FINISHED


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"batch_size": 61}, "batch_size must be in 1 .. 60, got 61"),
    ({"batch_size": 0}, "batch_size"),
    ({"num_epochs": 0}, "num_epochs must be >= 1"),
    ({"max_steps": 0}, "max_steps must be >= 1"),
    ({"log_every": 0}, "log_every must be >= 1"),
    ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ({"learning_rate": -1.0}, "learning_rate must be > 0"),
    ({"ema_decay": 1.0}, "ema_decay must be in"),
    ({"micro_batch_size": 0}, "train.micro_batch_size must be at least the number of devices"),
    ({"grad_clip": 0.0}, "grad_clip must be > 0"),
    ({"keep": 0}, "keep must be >= 1"),
  ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, message):
  with pytest.raises(ValueError, match=message):
    run(tmp_path, **settings)


def one_step(state, indices, x, y, classifier, **changes):
  settings = {"seed": 0, "steps_per_epoch": 5, "ema_decay": None}
  return train_step(
    state, x, y, indices, classifier=classifier, optimizer=optimizers.build(learning_rate=0.1),
    **(settings | changes),
  )  # fmt: skip


@pytest.mark.slow
def test_micro_batches_stay_on_their_devices():
  code = """
import jax, jax.numpy as jnp, numpy as np
from gencls import sharding
from gencls.keys import example_keys
from gencls.training.step import mean_over_parts
x, w = np.random.default_rng(0).random((16, 6), np.float32), np.ones((6, 3), np.float32)
@jax.jit
def step(w, x, indices):
  def loss(w, keys, x):
    noise = jax.vmap(lambda key: jax.random.normal(key, (6,)))(keys)
    return jnp.mean(jnp.tanh((x + noise) @ w))
  keys = example_keys(0, indices, "train")
  return mean_over_parts(lambda *a: jax.value_and_grad(loss)(w, *a), (keys, x), 4)
mesh = sharding.data_mesh()
assert mesh.size == 4
one = jax.tree.leaves(step(w, x, np.arange(16)))
args = (sharding.put(w, sharding.replicated(mesh)), *sharding.put((x, np.arange(16)), sharding.split(mesh)))
assert "all-gather" not in step.lower(*args).compile().as_text()
for a, b in zip(one, jax.tree.leaves(step(*args)), strict=True):
  np.testing.assert_allclose(a, b, rtol=1e-5)
"""  # noqa: E501
  env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  done = subprocess.run(
    [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def test_a_checkpoint_of_another_config_is_continued_with_a_warning(tmp_path, caplog):
  run(tmp_path, config={"seed": 0}, max_steps=5)
  run(tmp_path, config={"seed": 0}, max_steps=10)
  assert "another config" not in caplog.text
  run(tmp_path, config={"seed": 1}, max_steps=15)
  assert "another config: seed: 0 -> 1" in caplog.text


def test_noise_is_new_each_epoch_and_follows_the_example():
  seen = []
  classifier = toy.classifier()

  def spy(params, keys, x, y, step):
    seen.append(np.asarray(jax.random.key_data(keys)))
    return classifier.loss(params, keys, x, y, step)

  data = toy.dataset(6)
  x, y, indices = jnp.asarray(data.images / 255.0, jnp.float32), data.labels, data.indices
  spied = classifier._replace(loss=spy)
  tx = optimizers.build(learning_rate=0.1)
  state = initial_state(classifier, tx, jax.random.key(0), x, y, ema=False)
  for step, order in ((0, [0, 1, 2, 3, 4, 5]), (4, [5, 4, 3, 2, 1, 0]), (5, [0, 1, 2, 3, 4, 5])):
    at = np.asarray(order)
    one_step(state._replace(step=jnp.int32(step)), indices[at], x[at], y[at], spied)
  first, reversed_, next_epoch = seen
  np.testing.assert_array_equal(first, reversed_[::-1])
  assert not np.any(np.all(first == next_epoch, axis=-1))
  expected = fold(example_keys(0, indices, "train"), 1)
  np.testing.assert_array_equal(next_epoch, jax.random.key_data(expected))


def test_micro_batches_are_the_largest_that_fit():
  def mesh(devices):
    return jax.sharding.AbstractMesh((devices,), (sharding.AXIS,))

  found = [sharding.part_size(50, 25, mesh(n)) for n in (1, 2, 5, 25)]
  assert found == [25, 10, 25, 25]
  assert sharding.part_size(64, 25, mesh(1)) == 16
  with pytest.raises(ValueError, match="at least the number of devices"):
    sharding.part_size(52, 25, mesh(26))


def test_micro_batches_change_no_step():
  classifier, data = toy.classifier(), toy.dataset(6)
  x, y = jnp.asarray(data.images / 255.0, jnp.float32), data.labels
  tx = optimizers.build(learning_rate=0.1)
  state = initial_state(classifier, tx, jax.random.key(0), x, y, ema=False)
  whole, metrics = one_step(state, data.indices, x, y, classifier)
  for size in (1, 2, 3):
    parts, means = one_step(state, data.indices, x, y, classifier, micro_batch_size=size)
    chex.assert_trees_all_close(parts.params, whole.params, rtol=1e-5)
    chex.assert_trees_all_close(means, metrics, rtol=1e-5)


def test_the_step_is_adam_on_the_mean_loss():
  classifier, data = toy.classifier(), toy.dataset(6)
  x, y = jnp.asarray(data.images / 255.0, jnp.float32), data.labels
  tx = optimizers.build(learning_rate=0.1)
  state = initial_state(classifier, tx, jax.random.key(0), x, y, ema=False)
  keys = fold(example_keys(0, data.indices, "train"), 0)

  def mean(linear):
    return classifier.loss(state.params | {"linear": linear}, keys, x, y, state.step).total.mean()

  grads = jax.grad(mean)(state.params["linear"])
  after, metrics = one_step(state, data.indices, x, y, classifier)
  # Adam's first step is lr * g / (|g| + eps).
  expected = jax.tree.map(
    lambda p, g: p - 0.1 * g / (jnp.abs(g) + 1e-8), state.params["linear"], grads
  )
  for got, want in zip(
    jax.tree.leaves(after.params["linear"]), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics["loss"], mean(state.params["linear"]), rtol=1e-6)
  norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads)))
  np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)


def test_merge_updates_by_path():
  params = {"a": {"mean": jnp.zeros(3), "w": jnp.ones(2)}, "state": TrainState(1, 2, None, 3)}
  params = jax.tree.map(jnp.asarray, params)
  merged = merge_updates(params, {"a": {"mean": jnp.arange(3)}, "state": {"params": 9}})
  np.testing.assert_array_equal(merged["a"]["mean"], [0.0, 1.0, 2.0])
  assert merged["a"]["mean"].dtype == jnp.float32
  assert int(merged["state"].params) == 9
  assert int(merged["state"].step) == 1
  with pytest.raises(ValueError, match="did you mean 'a/mean'"):
    merge_updates(params, {"a": {"means": jnp.zeros(3)}})
  with pytest.raises(ValueError, match=r"a/mean is \(3,\), got \(2,\)"):
    merge_updates(params, {"a": {"mean": jnp.zeros(2)}})
