"""Evaluations on disk, whole and not, and their columns."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from toy_evaluation import (
  IDENTITY,
  LEVELS,
  full_summary,
  protocol,
  record,
  run,
  specs,
  toy_images,
  toy_subject,
)
from toy_report import ATTACKS, EPS, write_run

import gencls
from gencls.evaluate import evaluate
from gencls.evaluation import stored
from gencls.evaluation.attack_specs import AttackSpec
from gencls.report import reading
from gencls.summary import columns
from gencls.summary.summarise import summarise
from gencls.workdir import to_json

MINIMUM = AttackSpec("deepfool", "deepfool", "l2", (0.2, 0.6), "margin", 1, {"num_steps": 5})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  """A real evaluation with a plan: FGSM, PGD and DeepFool."""
  workdir = tmp_path_factory.mktemp("run")
  folder = workdir / "results" / "toy"
  data = toy_images()
  x = np.asarray(data.images[:4] / (LEVELS - 1), np.float32)
  statement = {"title": "TOY", "name": "toy", "data": IDENTITY["data"]}
  cells = evaluate(
    toy_subject(),
    data,
    protocol(),
    [*specs(), MINIMUM],
    folder=folder / "cells",
    identity=IDENTITY,
    record=record(),
    progress=False,
    announce=lambda plans: stored.write_plan(folder, statement, plans, x),
  )
  return workdir, cells


def test_what_was_written_is_read(evaluated):
  workdir, cells = evaluated
  found = stored.read(workdir, "toy")
  assert [c.header for c in found.cells] == [json.loads(json.dumps(c.header)) for c in cells]
  assert {p.state for p in found.planned} == {"finished"}
  assert all((found.folder / "cells" / file).is_file() for file in found.files())
  x = stored.clean_images(found.folder, {"name": "toy"})
  np.testing.assert_array_equal(x, toy_images().images[:4] / np.float32(LEVELS - 1))
  assert stored.clean_images(found.folder, {"name": "other"}) is None


def test_columns_give_the_accuracies_of_the_table(evaluated):
  workdir, cells = evaluated
  results, table = gencls.load_results(workdir, "toy"), summarise(cells)
  for row in [*table["rows"], *table["worst"]]:
    own = columns.at(results, row["label"], row["norm"], row["eps"])
    assert np.mean(own.counted) == pytest.approx(row["accuracy"]["mean"], abs=1e-12)
    np.testing.assert_array_equal(own.example, np.arange(30))
  assert np.mean(columns.at(results, "clean").counted) == table["clean"]["accuracy"]["mean"]
  worst = columns.at(results, "worst case", "linf", 0.1)
  both = [columns.at(results, label, "linf", 0.1).counted for label in ("fgsm", "pgd", "grey")]
  np.testing.assert_array_equal(worst.correct, np.min(both, axis=0))
  assert set(worst.chosen) <= {"fgsm", "pgd", "grey", "untouched"}


def test_columns_are_those_of_the_cells(evaluated):
  workdir, cells = evaluated
  results = gencls.load_results(workdir, "toy")
  assert {len(column) for column in results} == {len(results.eps)}
  cell = next(c for c in cells if (c.header["label"], c.header["eps"]) == ("pgd", 0.1))
  own = columns.at(results, "pgd", "linf", 0.1)
  for column, name in (("label", "label"), ("correct", "correct"), ("distance", "norm"),
                       ("forward", "forward"), ("margin", "select_margin")):  # fmt: skip
    np.testing.assert_array_equal(getattr(own, column), cell.arrays[name])
  minimum = columns.at(results, "deepfool", "l2", 0.6)
  assert set(minimum.derived) == {"distance"}
  assert set(minimum.file) == {p.name for p in (workdir / "results/toy/cells").glob("deepfool*")}
  assert np.all(minimum.distance <= 0.6 + 1e-6)
  with pytest.raises(ValueError, match=r"no results of pgd linf 0.7; there are .*pgd linf 0.5"):
    columns.at(results, "pgd", "linf", 0.7)


def test_cells_of_other_settings_do_not_count(evaluated):
  """A second PGD in the same folder, of another seed, is in no plan."""
  workdir, _ = evaluated
  before = gencls.load_results(workdir, "toy")
  run(workdir / "results/toy/cells", the_protocol=protocol()._replace(seed=9))
  after = gencls.load_results(workdir, "toy")
  for old, new in zip(before, after, strict=True):
    np.testing.assert_array_equal(old, new)


def test_without_a_plan_the_table_says_which_cells_count(tmp_path):
  folder = tmp_path / "results" / "toy"
  settings = {**IDENTITY, "model": {"K": 1}, "attack_model": {"K": 1}}
  cells = run(folder / "cells", **settings)
  run(folder / "cells", the_protocol=protocol()._replace(seed=9), **settings)
  summary = full_summary(summarise(cells), protocol())
  attacks = {spec.label: {"eps": list(spec.eps)} for spec in specs()}
  table = {**summary, **settings, "attacks": attacks}
  (folder / "table.json").write_text(to_json(table))
  found = stored.read(tmp_path, "toy")
  assert [c.header["settings"] for c in found.cells] == [
    json.loads(json.dumps(c.header["settings"])) for c in cells
  ]
  (folder / "cells" / found.files()[-1]).unlink()
  assert [p.state for p in stored.read(tmp_path, "toy").planned].count("not run") == 1


def test_half_finished(tmp_path):
  """Missing, unfinished and damaged cells are said to be so, and the rest has its numbers."""
  folder = write_run(tmp_path, "GFZ", attacks=ATTACKS[:2], leave_out=(("pgd", 0.1), "clean"))
  with pytest.raises(ValueError, match="no finished cell called clean yet"):
    gencls.load_results(tmp_path, "toy")
  assert reading.read(tmp_path, "toy").summary["clean"] is None

  folder = write_run(tmp_path, "GFZ", attacks=ATTACKS[:2], leave_out=(("pgd", 0.1),))
  cells = folder / "cells"
  planned = {(p.label, p.eps): p for p in stored.read(tmp_path, "toy").planned}
  (cells / planned["pgd", 0.1].file).with_suffix(".partial").write_bytes(b"")
  (cells / planned["fgsm", 0.5].file).write_bytes(b"half a file")
  summary = reading.read(tmp_path, "toy").summary
  states = {(m["label"], m["eps"]): m["state"] for m in summary["missing"]}
  assert states == {("pgd", 0.1): "unfinished", ("fgsm", 0.5): "damaged"}
  missing = {row["eps"]: row["missing"] for row in summary["worst"]}
  assert missing == {0.05: [], 0.1: ["pgd"], 0.2: ["pgd"], 0.3: ["pgd"], 0.5: ["pgd", "fgsm"]}
  assert len(gencls.load_results(tmp_path, "toy").eps) == 100 * (2 + 5 + 4 + 4 + 5)


def test_clean_errors_are_errors_in_what_is_counted(tmp_path):
  write_run(tmp_path, "GFZ", attacks=("pgd",), n=400)
  results = gencls.load_results(tmp_path, "toy")
  own, clean = columns.at(results, "pgd", "linf", 0.05), columns.at(results, "untouched")
  assert np.any(own.correct > clean.correct)
  np.testing.assert_array_equal(own.counted, np.minimum(own.correct, clean.correct))


def test_an_eps_without_any_cell_is_listed(tmp_path):
  gone = tuple((label, 0.3) for label in ("grey", "pgd"))
  write_run(tmp_path, "GFZ", attacks=("pgd",), leave_out=gone)
  worst = {row["eps"]: row for row in reading.read(tmp_path, "toy").summary["worst"]}
  assert sorted(worst) == sorted(EPS)
  assert worst[0.3]["accuracy"] is None
  assert worst[0.3]["missing"] == ["all"]


def test_names_that_are_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="no evaluation there yet"):
    gencls.load_results(tmp_path, "toy")
  folder = write_run(tmp_path, "GFZ", attacks=("pgd",))
  with pytest.raises(FileNotFoundError, match="did you mean 'toy'"):
    gencls.load_results(tmp_path, "tou")
  (folder / "plan.json").write_text("{")
  with pytest.raises(ValueError, match=r"plan.json is damaged .* run the same launch/evaluate.py"):
    gencls.load_results(tmp_path, "toy")


def test_the_schema_names_every_array_and_column(evaluated):
  text = (Path(__file__).resolve().parents[2] / "docs" / "results_schema.md").read_text()
  named = set(re.findall(r"`(\w+)`", text))
  arrays = {name for cell in evaluated[1] for name in cell.arrays}
  assert arrays - named <= {"importance_weighted_bound_nats", "loss_nats"}
  assert len(arrays) > 20
  assert set(columns.Results._fields) <= named


def test_what_is_planned_and_not_there_is_not_finished_yet(tmp_path):
  run_folder = tmp_path / "run"
  path = write_run(run_folder, "GFZ", attacks=ATTACKS[:1]) / "plan.json"
  plan = json.loads(path.read_text())
  for label in ("gradient", "surface", "regraded K=100 linf 0.1"):
    planned = {"label": label, "norm": "", "eps": 0.0, "file": f"{label}.npz", "grid": None}
    plan["cells"].append(planned)
  path.write_text(json.dumps({**plan, "model": {"name": "toy", "num_samples": 10}}))
  details = [check["detail"] for check in reading.read(run_folder, "toy").summary["checks"]]
  assert details.count("not finished yet") == 2  # these cells draw no samples
  assert "set config.probe_gradient=True" not in details
