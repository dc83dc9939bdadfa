import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gencls
from gencls import workdir
from gencls.statements import title

RECORD = {"config": {"seed": 0, "train": {"lr": 0.1, "epochs": 2}, "data": {"dir": None}}, "x": 1}


def changed(**train):
  return RECORD | {"config": RECORD["config"] | {"train": {"lr": 0.1, "epochs": 2} | train}}


def saved(folder):
  """The folder with a checkpoint in it, from which on it belongs to its config."""
  (folder / "checkpoints" / "100").mkdir(parents=True)
  return folder


def test_the_same_config_continues_and_keeps_the_first_record(tmp_path):
  workdir.claim(tmp_path, RECORD)
  elsewhere = {**RECORD["config"], "data": {"dir": "/elsewhere"}}  # where the data lies may differ
  assert workdir.claim(tmp_path, {"config": elsewhere, "x": 2})["x"] == 1
  assert workdir.read_config(tmp_path) == RECORD


def test_a_field_that_came_later_and_changes_nothing_is_no_other_config(tmp_path):
  older = {"config": {"adversarial": {"attack": "pgd"}, "model": {"name": "cnn"}}}
  workdir.claim(tmp_path, older)
  saved(tmp_path)

  def later(**adversarial):
    return {"config": {**older["config"], "adversarial": {"attack": "pgd", **adversarial}}}

  assert workdir.claim(tmp_path, later(warmup_steps=0)) == older
  with pytest.raises(ValueError, match=r"adversarial\.warmup_steps: 0 -> 5"):
    workdir.claim(tmp_path, later(warmup_steps=5))
  for other in (0, None, False):  # off is not what it was before
    with pytest.raises(ValueError, match=r"adversarial.new: '\(absent\)' -> "):
      workdir.claim(tmp_path, later(new=other))


def test_a_run_that_saved_nothing_leaves_the_folder_free(tmp_path):
  workdir.claim(tmp_path, RECORD)
  assert workdir.claim(tmp_path, changed(epochs=3)) == changed(epochs=3)
  assert workdir.read_config(tmp_path) == changed(epochs=3)


def test_another_config_is_refused_unless_told(tmp_path):
  workdir.claim(tmp_path, RECORD)
  saved(tmp_path)
  with pytest.raises(ValueError, match=r"train.epochs: 2 -> 3; train.new: '\(absent\)' -> 1"):
    workdir.claim(tmp_path, changed(epochs=3, new=1))
  assert workdir.read_config(tmp_path) == RECORD
  workdir.claim(tmp_path, changed(epochs=3), override=True)
  assert workdir.read_config(tmp_path)["config"]["train"]["epochs"] == 3


def test_the_same_config_on_other_data_is_refused(tmp_path):
  data = {"source": "idx files in a", "num_train": 55000}
  workdir.claim(tmp_path, RECORD | {"data": data})
  saved(tmp_path)
  workdir.claim(tmp_path, RECORD | {"data": data | {"source": "tfds"}})
  with pytest.raises(ValueError, match=r"data.num_train: 55000 -> 100"):
    workdir.claim(tmp_path, RECORD | {"data": data | {"num_train": 100}})


def test_checkpoints_of_an_unknown_config_are_refused_unless_told(tmp_path):
  saved(tmp_path)
  with pytest.raises(ValueError, match=r"has checkpoints but no config.json"):
    workdir.claim(tmp_path, RECORD)
  workdir.claim(tmp_path, RECORD, override=True)
  assert workdir.read_config(tmp_path) == RECORD


def test_tuples_equal_the_lists_json_makes_of_them(tmp_path):
  workdir.claim(tmp_path, {"config": {"channels": (64, 64)}})
  workdir.claim(tmp_path, {"config": {"channels": (64, 64)}})


def test_no_run_and_a_damaged_record(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
    workdir.read_config(tmp_path)
  (tmp_path / "config.json").write_text('{"config": ')
  with pytest.raises(ValueError, match="not valid JSON"):
    workdir.claim(tmp_path, RECORD)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, broken):
  path = tmp_path / "folder" / "results.json"
  workdir.atomic_write(path, "old")

  def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, broken, full)
  with pytest.raises(OSError, match="No space left"):
    workdir.atomic_write(path, b"new")
  assert path.read_text() == "old"
  assert [p.name for p in path.parent.iterdir()] == ["results.json"]  # no litter
  monkeypatch.undo()
  workdir.atomic_write(path, b"new")
  assert path.read_text() == "new"


def test_json_refuses_nan():
  with pytest.raises(ValueError, match="Out of range float"):
    workdir.to_json({"loss": float("nan")})


def test_provenance_is_complete():
  found = json.loads(workdir.to_json(workdir.provenance()))
  assert set(found["versions"]) == {"python", *workdir.PACKAGES}
  assert "not installed" not in found["versions"].values()
  assert found["devices"]["count"] >= 1
  assert set(found["git"]) == {"revision", "dirty"}


def test_the_digest_of_the_source_is_of_its_files_and_names(tmp_path):
  (tmp_path / "inner").mkdir()
  (tmp_path / "a.py").write_text("x = 1")
  (tmp_path / "inner" / "b.py").write_text("y = 2")
  before = workdir.source_digest(tmp_path)
  (tmp_path / "notes.txt").write_text("no code")
  assert workdir.source_digest(tmp_path) == before
  (tmp_path / "inner" / "b.py").write_text("y = 3")
  changed = workdir.source_digest(tmp_path)
  (tmp_path / "inner" / "b.py").rename(tmp_path / "inner" / "c.py")
  assert len({before, changed, workdir.source_digest(tmp_path), workdir.source_digest()}) == 4


def test_absent_git_is_fine(monkeypatch):
  monkeypatch.setenv("PATH", "/nonexistent")
  assert workdir.git_revision() == {"revision": None, "dirty": None}


def test_importing_the_library_alone_is_light():
  code = (
    "import gencls, sys; gencls.load, gencls.models, gencls.data, gencls.example_keys;"
    "assert callable(gencls.straight_through.binarize) and callable(gencls.interop.to_foolbox);"
    "heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'sklearn', 'foolbox'};"
    "heavy &= set(sys.modules);"
    "assert not heavy, heavy;"
    "assert callable(gencls.load)"
  )
  root = Path(__file__).resolve().parent.parent
  done = subprocess.run(
    [sys.executable, "-c", code], check=False, cwd=root, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


def test_unknown_public_name():
  with pytest.raises(AttributeError, match=r"no attribute 'lod'\. Public: "):
    gencls.lod  # noqa: B018


def test_titles_of_models():
  assert title("gfz", {"num_samples": 100}) == "GFZ K=100"
  assert title("cvae", {"rule": "nearest"}) == "CVAE nearest"
  assert title("gaussian_naive_bayes", {}) == "Gaussian naive Bayes"
  assert title("pretrained_vae_classifier", {}) == "Pretrained VAE classifier"
