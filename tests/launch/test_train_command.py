"""launch/train.py as a user meets it: kills, requests to stop, mistakes."""

import json
import random
import signal
import time

import jax
import numpy as np
import pytest
from processes import command, finish, losses, start

import gencls
from gencls.logs import read_metrics
from gencls.workdir import read_config

LONGER = (
  "--config.train.max_steps=1500",
  "--config.train.validate_every=60",
  "--config.train.log_every=10",
  "--config.train.ema_decay=0.99",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def last_state(workdir):
  run = gencls.load(workdir, step="latest")
  return run.step, [np.asarray(leaf) for leaf in jax.tree.leaves(run.params)]


def wait_for_rows(process, workdir, count):
  """Waits until a run has written so many rows."""
  deadline = time.monotonic() + 120
  while len(read_metrics(workdir)) < count:
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.mark.slow
def test_a_run_from_the_command_line_and_back(tmp_path, cache):
  output = finish(start(command(tmp_path), cache))
  assert "training finished at step 12" in output
  record = read_config(tmp_path)
  assert record["config"]["model"]["name"] == "cnn"
  assert record["data"]["num_classes"] == 10
  assert {"split", "source", "image_shape", "num_levels"} <= record["data"].keys()
  assert sum(record["class_prior"]) == pytest.approx(1.0)
  assert record["command"].split()[0].endswith("train.py")
  run = gencls.load(tmp_path)
  logits = first_logits(run)
  assert logits.shape == (4, 10)
  assert run.dataset.split == "test"
  assert len(jax.tree.leaves(run.logits_fn)) == len(jax.tree.leaves(run.params))  # not constants
  np.testing.assert_array_equal(logits, first_logits(gencls.load(tmp_path, dropout_rate=0.5)))
  with pytest.raises(ValueError, match="did you mean 'hidden_size'"):
    gencls.load(tmp_path, hidden_sizes=17)
  with pytest.raises(ValueError, match="holds other arrays"):
    gencls.load(tmp_path, hidden_size=17)


def first_logits(run):
  keys = gencls.example_keys(0, run.dataset.indices[:4])
  return run.logits_fn(keys, gencls.data.to_float(run.dataset.images[:4], 17))


@pytest.mark.slow
def test_a_latent_model_tells_its_rungs_and_loads_with_another_k(tmp_path, cache):
  squared = "--config.model.likelihood=squared_error"
  output = finish(start(command(tmp_path, squared, config="gfz_digits.py:smoke"), cache))
  assert "rungs of the squared error" in output
  run = gencls.load(tmp_path, num_samples=3)
  assert run.config["model"]["num_samples"] == 3
  assert first_logits(run).shape == (4, 10)


@pytest.mark.slow
def test_templates_are_decoded_once_from_the_runs_seed(tmp_path, cache):
  small = ("--config.data.name=digits", "--config.model.num_samples=4")
  finish(start(command(tmp_path, *small, config="cvae_mnist.py:smoke"), cache))
  run, again = gencls.load(tmp_path), gencls.load(tmp_path)
  assert run.params["templates"].shape == (10, 4, 64)
  np.testing.assert_array_equal(run.params["templates"], again.params["templates"])
  assert gencls.load(tmp_path, num_samples=7).params["templates"].shape == (10, 7, 64)


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_bits(tmp_path, cache):
  began = time.monotonic()
  finish(start(command(tmp_path / "straight", *LONGER), cache))
  finish(start(command(tmp_path / "again", *LONGER), cache))
  duration = time.monotonic() - began
  step, expected = last_state(tmp_path / "straight")
  assert step == 1500
  workdir, rng, killed_at = tmp_path / "killed", random.Random(0), []
  for rows in (1, 10, 60):
    process = start(command(workdir, *LONGER), cache)
    wait_for_rows(process, workdir, rows)
    time.sleep(rng.uniform(0, min(0.3, duration / 20)))
    process.send_signal(signal.SIGKILL)
    finish(process, code=-signal.SIGKILL)
    killed_at.append(max(losses(workdir)))
  finish(start(command(workdir, *LONGER), cache))
  assert killed_at[-1] < 1500
  for name in ("killed", "again"):
    got_step, got = last_state(tmp_path / name)
    assert got_step == step
    for x, y in zip(got, expected, strict=True):
      np.testing.assert_array_equal(x, y)
  assert losses(workdir) == losses(tmp_path / "straight")


@pytest.mark.slow
def test_sigterm_saves_first(tmp_path, cache):
  process = start(command(tmp_path, *LONGER, "--config.train.validate_every=1500"), cache)
  wait_for_rows(process, tmp_path, 3)
  process.send_signal(signal.SIGTERM)
  output = finish(process, code=143)
  assert "asked to stop: saved step" in output
  assert "run the same command to continue" in output
  run = gencls.load(tmp_path, step="latest")
  assert 30 <= run.step < 1500


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--config.train.num_epoch=3", 'Did you mean "num_epochs"'),
    ("--config.train.num_epochs=0.5", "invalid literal for int"),
    ("--config.data.name=mnits", "did you mean 'mnist'"),
  ],
)
@pytest.mark.slow
def test_mistakes_are_named(tmp_path, cache, argument, message):
  assert message in finish(start(command(tmp_path, argument), cache), code=1)
  assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_a_work_directory_of_another_config(tmp_path, cache):
  finish(start(command(tmp_path), cache))
  longer = "--config.train.max_steps=16"
  output = finish(start(command(tmp_path, longer), cache), code=1)
  assert "train.max_steps: 12 -> 16" in output
  finish(start(command(tmp_path, longer, "--override_config"), cache))
  assert max(losses(tmp_path)) == 16
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
