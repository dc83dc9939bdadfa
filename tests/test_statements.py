"""What is said of a run beside its numbers."""

import json
import types

from gencls.statements import training


def run_of(folder):
  """A run whose config.json says the least, as `training` reads it."""
  record = {
    "config": {"data": {"name": "toy", "dir": str(folder / "images")}},
    "command": "train.py",
    **{key: {} for key in ("versions", "git", "devices")},
    "data": {"source": f"IDX files in {folder / 'images'}"},
  }
  return types.SimpleNamespace(record=record, step=1)


def test_a_training_tells_what_its_fit_chose_and_no_folder_of_this_machine(tmp_path):
  row = {"step": 1, "fit/l2": 10.0, "fit/validation_accuracy/l2=10": 0.9, "eval/accuracy": 0.8}
  (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
  found = training(run_of(tmp_path), tmp_path)
  assert found["fit"] == {"l2": 10.0, "validation_accuracy/l2=10": 0.9}
  assert str(tmp_path) not in json.dumps(found)


def test_a_damaged_log_costs_no_evaluation(tmp_path, caplog):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "fit/l2": 1.0}\n{"st\n{"step": 2}\n')
  assert "fit" not in training(run_of(tmp_path), tmp_path)
  assert "line 2 is damaged" in caplog.text


def test_steps_of_a_gradient_are_no_fit(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss_nats": 1.0}\n')
  assert "fit" not in training(run_of(tmp_path), tmp_path)
  assert "fit" not in training(run_of(tmp_path), tmp_path / "without metrics")
