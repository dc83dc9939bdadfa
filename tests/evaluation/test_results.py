"""Result cells as files: whole or not at all, one for each identity."""

import errno
import itertools
import json
import shlex

import numpy as np
import pytest
from toy_evaluation import toy_images

from gencls.evaluation.results import (
  Cell,
  check_same_evaluation,
  data_digest,
  portable_command,
  read_cell,
  write_cell,
)


def test_a_full_disk_leaves_old_results_whole(tmp_path, monkeypatch):
  path = tmp_path / "cell.npz"
  old = Cell({"label": "old"}, {"correct": np.ones(3)})
  write_cell(path, old)

  def full(*args):
    del args
    raise OSError(errno.ENOSPC, "No space left on device")

  with pytest.raises(OSError, match="No space"):
    write_cell(path, Cell({"label": "new"}, {"correct": np.zeros(3)}), full)
  monkeypatch.setattr("os.fsync", full)  # the disk is full only when the bytes shall reach it
  with pytest.raises(OSError, match="No space"):
    write_cell(path, Cell({"label": "new"}, {"correct": np.zeros(3)}))
  found = read_cell(path)
  assert found.header == {"label": "old"}
  np.testing.assert_array_equal(found.arrays["correct"], np.ones(3))
  assert [p.name for p in tmp_path.iterdir()] == ["cell.npz"]


def test_a_damaged_cell_is_named(tmp_path):
  path = tmp_path / "cell.npz"
  write_cell(path, Cell({}, {"correct": np.random.default_rng(0).random(1000)}))
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(ValueError, match=r"cell\.npz is damaged.*delete it"):
    read_cell(path)


def test_no_flipped_bit_hides_an_array(tmp_path):
  path = tmp_path / "cell.npz"
  write_cell(path, Cell({"label": "fgsm"}, {"x_adv": np.ones(9), "correct": np.ones(3, bool)}))
  whole = path.read_bytes()
  assert np.load(path)["x_adv"].shape == (9,)  # other readers open it too
  for at, bit in itertools.product(range(len(whole) - 66), range(8)):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"cell\.npz is damaged"):
      read_cell(path)


def test_cells_without_a_seal_are_read(tmp_path):
  np.savez(tmp_path / "old.npz", header=np.frombuffer(b'{"label": "old"}', np.uint8), x=np.ones(2))
  assert read_cell(tmp_path / "old.npz").header == {"label": "old"}


def test_another_evaluation_is_not_overwritten(tmp_path):
  path = tmp_path / "table.json"
  old = {"name": "e", "seed": 0, "batch_size": None, "model": {"num_samples": None}}
  old["attacks"] = {"pgd": {"eps": (0.1, 0.2), "num_steps": 40}}
  check_same_evaluation(path, old)  # nothing there yet
  path.write_text(json.dumps({"config": old}))
  more = {"pgd": {"eps": (0.1, 0.2, 0.3), "num_steps": 40}, "fgsm": {"eps": (0.1,)}}
  unset = {"pgd": {**old["attacks"]["pgd"], "max_seconds": None, "grade_as": None}}
  later = {"model": {"num_samples": None, "rule": None}}  # a field that older configs do not have
  for same in ({}, {"batch_size": 7}, {"attacks": more}, {"attacks": unset}, later):
    check_same_evaluation(path, {**old, **same})
  fewer, longer = ({"pgd": {"eps": e, "num_steps": n}} for e, n in (((0.1,), 40), ((0.1, 0.2), 80)))
  for other, match in (
    ({"model": {"num_samples": 100}}, "model.num_samples: .* -> 100"),
    ({"seed": 1}, r"seed: 0 -> 1.*--config\.name="),
    ({"attacks": longer}, "num_steps: 40 -> 80"),
    ({"attacks": {"pgd": {**old["attacks"]["pgd"], "max_seconds": 3.0}}}, "max_seconds"),
    ({"attacks": fewer}, "eps"),
    ({"attacks": {}}, "attacks.pgd"),
  ):
    with pytest.raises(ValueError, match=match):
      check_same_evaluation(path, {**old, **other})


def test_the_data_digest_sees_one_pixel():
  images, labels = toy_images(4).images, toy_images(4).labels
  changed = images.copy()
  changed[0, 0, 0, 0] ^= 1
  found = {data_digest(*d) for d in ((images, labels), (changed, labels), (images, labels[::-1]))}
  assert len(found) == 3


def test_commands_lose_the_folders_of_this_machine(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  command = f"{tmp_path}/launch/evaluate.py --workdir={tmp_path}/runs/gfz --data=/mnt/x/mnist --n=3"
  assert portable_command(command) == "launch/evaluate.py --workdir=runs/gfz --data=mnist --n=3"


def test_folders_in_a_tuple_are_left_out_too(tmp_path):
  folder = f"{tmp_path}/runs/gfz"
  command = shlex.join(["a.py", f"--config.transfer_from=('{folder}:sanity', 'runs/cnn')"])
  short = shlex.split(portable_command(command))
  assert short == ["a.py", "--config.transfer_from=('gfz:sanity', 'runs/cnn')"]
