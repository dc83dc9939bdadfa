"""launch/analyse.py, from a run to its page, its figures and the report."""

import importlib
import json
import re
import shutil
import sys
from io import BytesIO

import numpy as np
import pytest
import toy_analyses
from absl import flags
from html_tags import Tags
from PIL import Image
from processes import ROOT, command, finish, start
from toy_evaluation import record, toy_images, toy_subject
from toy_report import write_run

from gencls import data, runs
from gencls.analyses import REGISTRY, inputs
from gencls.analyses import run as running
from gencls.evaluation import stored
from gencls.report import analysed, compare, html, views
from gencls.workdir import atomic_write


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))


def config_of(arg="smoke", **changes):
  config = importlib.import_module("configs.analyses.all").get_config(arg)
  config.update(changes)
  return config.to_dict()


def command_module():
  """launch.analyse; its flags have the names of launch.evaluate's, which other tests import."""

  def forget():
    for name in {"config", "workdir", "progress", "out"} & set(flags.FLAGS):
      delattr(flags.FLAGS, name)

  if "launch.analyse" not in sys.modules:
    forget()
    importlib.import_module("launch.analyse")
    forget()
  return sys.modules["launch.analyse"]


def analyse(workdir, **changes):
  return command_module().run(config_of(**changes), str(workdir), progress=False)


def toy(monkeypatch, subject=None):
  found = toy_analyses.toy_run(subject)
  splits = {"validation": toy_images(80, seed=3), "test": toy_images(60)}
  monkeypatch.setattr(runs, "load", lambda *_, **__: found)
  monkeypatch.setattr(runs.Run, "split", lambda self, name: splits[name]._replace(split=name))
  monkeypatch.setattr(data, "on_disk", lambda *_: None)


@pytest.fixture
def without_figures(monkeypatch):
  """Drawing them takes most of the time."""
  monkeypatch.setattr(running.figures, "save", lambda figure, path: None)


def files(workdir):
  return {p.name: p.stat().st_mtime_ns for p in (workdir / running.FOLDER).glob("*.npz")}


def small(figure, path):
  """Draws a figure with few pixels."""
  content = BytesIO()
  figure.savefig(content, format="png", dpi=25)
  atomic_write(path, content.getvalue())


def test_everything_is_written_and_nothing_is_computed_twice(tmp_path, monkeypatch):
  toy(monkeypatch)
  monkeypatch.setattr(running.figures, "save", small)
  page = analyse(tmp_path)
  for name in REGISTRY:
    found = json.loads((tmp_path / running.FOLDER / f"{name}.json").read_text())
    assert found["num_images"] == 16 and found["settings"]["seed"] == 0
    assert found["record"]["versions"] and found["record"]["config"]["run"]
    assert found["data"]["source"] and (tmp_path / running.FOLDER / found["file"]).is_file()
    assert f"## {running.title(name)}" in page
  assert page == (tmp_path / running.FOLDER / "page.md").read_text()
  shown = {line.split("(../../")[1][:-1] for line in page.splitlines() if "![" in line}
  assert len(shown) == 7
  assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in shown)
  assert stored.names(tmp_path) == []  # the folder is no evaluation

  before = files(tmp_path)
  assert len(before) == len(REGISTRY) + 2
  monkeypatch.setattr(running.figures, "save", lambda figure, path: None)
  monkeypatch.setattr(inputs, "forward", None)  # nothing may be predicted again
  assert analyse(tmp_path) == page
  assert files(tmp_path) == before


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_published_page_has_its_figures_and_numbers_beside_it(tmp_path, monkeypatch):
  toy(monkeypatch)
  monkeypatch.setattr(running.figures, "save", small)
  page = analyse(tmp_path / "run", run=("class_gap", "ambiguous"))
  running.publish(page, tmp_path / "run", tmp_path / "out")
  text = (tmp_path / "out" / "page.md").read_text()
  links = set(re.findall(r"\]\(([^)]+)\)", text))
  assert links == {p.name for p in (tmp_path / "out").iterdir()} - {"page.md"}
  assert {"class_gap.json", "ambiguous.json"} < links and any(x.endswith(".png") for x in links)
  for link in links - {"class_gap.json", "ambiguous.json"}:
    original = tmp_path / "run" / "figures" / link
    assert (tmp_path / "out" / link).read_bytes() == original.read_bytes()


@pytest.mark.slow
def test_what_is_missing_is_made_and_other_settings_are_another_result(tmp_path, monkeypatch):
  toy(monkeypatch)
  names = ("interpolation", "class_gap")
  analyse(tmp_path, run=names)
  before = files(tmp_path)
  gone = next(name for name in before if name.startswith("interpolation"))
  (tmp_path / running.FOLDER / gone).unlink()
  analyse(tmp_path, run=names)
  after = files(tmp_path)
  assert after.keys() == before.keys()
  assert {name for name in before if after[name] != before[name]} == {gone}
  analyse(tmp_path, run=names, interpolation={"num_pairs": 3})
  assert len(files(tmp_path)) == len(before) + 1
  analyse(tmp_path, run=("class_gap",), seed=1)
  assert len(files(tmp_path)) == len(before) + 4  # its logits are others too


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_the_page_keeps_the_other_analyses_of_the_model(tmp_path, monkeypatch):
  toy(monkeypatch)
  both = analyse(tmp_path, run=("interpolation", "class_gap"))
  assert analyse(tmp_path, run=("interpolation",)) == both
  assert (tmp_path / running.FOLDER / "page.md").read_text() == both
  page = analyse(tmp_path, run=("interpolation",), seed=1)  # says what the other section is of
  assert "known seed 1." in page.split("##")[0] and page.count("known seed 0.") == 1
  assert page.split("## Class gap")[1].strip().startswith("First 16 test images, known seed 0.")
  other = toy_analyses.toy_run()
  other.config["model"] = {"name": "toy", "hidden": 2}
  monkeypatch.setattr(runs, "load", lambda *_, **__: other)
  assert "Class gap" not in analyse(tmp_path, run=("interpolation",))


@pytest.mark.usefixtures("without_figures")
def test_a_model_without_densities_has_a_page(tmp_path, monkeypatch):
  toy(monkeypatch, toy_subject(score="posterior"))
  page = analyse(tmp_path)
  assert "it has no p(x | y)" in page and page.count("No detector marginal") == 1


@pytest.mark.usefixtures("without_figures")
def test_robustness_reads_the_evaluations_that_there_are(tmp_path, monkeypatch):
  toy(monkeypatch)
  folder = write_run(tmp_path, "TOY", attacks=("fgsm", "pgd"), n=60, shape=(4, 4, 1))
  monkeypatch.setattr(runs.Run, "split", lambda self, name: evaluated(folder))
  page = analyse(tmp_path, run=("robustness",))
  assert "| toy " in page and "worst case" in page and "Without" not in page
  count = len(files(tmp_path))
  (cell,) = (folder / "cells").glob("pgd*0.5-*.npz")
  cell.unlink()
  analyse(tmp_path, run=("robustness",))
  assert len(files(tmp_path)) == count + 1
  monkeypatch.setattr(runs.Run, "split", lambda self, name: toy_images(60))
  assert "Without toy: it is of other images" in analyse(tmp_path, run=("robustness",))


@pytest.mark.usefixtures("without_figures")
def test_robustness_marks_what_is_not_run(tmp_path, monkeypatch):
  toy(monkeypatch)
  left = [("pgd", 0.5), "grey"]
  folder = write_run(
    tmp_path, "TOY", attacks=("fgsm", "pgd"), n=60, shape=(4, 4, 1), leave_out=left
  )
  monkeypatch.setattr(runs.Run, "split", lambda self, name: evaluated(folder))
  page = analyse(tmp_path, run=("robustness",))
  assert "Not run yet in toy" in page and "pgd linf 0.5." in page
  starred = [
    line.split("|")[2].strip() for line in page.splitlines() if " * " in line and "|" in line
  ]
  assert starred == ["pgd", "worst case"]
  found = json.loads((tmp_path / running.FOLDER / "robustness.json").read_text())["numbers"]
  assert found["missing"] == {"toy": [{"label": "pgd", "norm": "linf", "eps": 0.5}]}
  assert [row["missing"] for row in found["rows"]] == [False, True, True]


@pytest.mark.usefixtures("without_figures")
def test_a_cell_that_is_finished_meanwhile_is_not_read(tmp_path, monkeypatch):
  """Its numbers would lie under the identity of the cells before."""
  toy(monkeypatch)
  made = {"attacks": ("fgsm", "pgd"), "n": 60, "shape": (4, 4, 1)}
  folder = write_run(tmp_path, "TOY", **made, leave_out=["pgd"])
  monkeypatch.setattr(runs.Run, "split", lambda self, name: evaluated(folder))
  plans = running.make_plans

  def then_finished(*args):
    found = plans(*args)
    write_run(tmp_path, "TOY", **made)
    return found

  monkeypatch.setattr(running, "make_plans", then_finished)
  page = analyse(tmp_path, run=("robustness",))
  assert "| pgd" not in page and "pgd linf 0.5" in page
  monkeypatch.setattr(running, "make_plans", plans)
  assert "| pgd" in analyse(tmp_path, run=("robustness",))


def evaluated(folder):
  """The images of `write_run`, n = 60."""
  images = np.random.default_rng(99).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
  labels = (np.arange(60) % 10).astype(np.int32)
  found = toy_images(60)._replace(images=images, labels=labels, num_levels=256)
  source = json.loads((folder / stored.PLAN).read_text())["data"]
  assert running.describe(found)["digest"] == source["digest"]
  return found


def test_settings_that_do_not_fit_are_refused(tmp_path, monkeypatch):
  toy(monkeypatch)
  with pytest.raises(ValueError, match="did you mean 'class_gap'"):
    analyse(tmp_path, run=("class_gpa",))
  with pytest.raises(ValueError, match="num_steps must be >= 3"):
    analyse(tmp_path, interpolation={"num_steps": 2})
  with pytest.raises(ValueError, match="did you mean 'validation'"):
    analyse(tmp_path, fitted_on="validaton")


def test_the_report_shows_the_figures(tmp_path):
  for model in ("GFZ", "CNN"):
    write_run(tmp_path / model, model, attacks=("fgsm",), n=20)
  for name, endings in (("class_gap", [""]), ("ambiguous", ["", "_images"])):
    atomic_write(tmp_path / "GFZ" / running.FOLDER / f"{name}.json", '{"title": "GFZ on toys"}')
    for ending in endings:
      picture, content = Image.fromarray(np.full((9, 9, 3), 99 + len(ending), np.uint8)), BytesIO()
      picture.save(content, format="png")
      atomic_write(
        tmp_path / "GFZ" / "figures" / f"analyses_{name}{ending}.png", content.getvalue()
      )
  entries = compare.gather([tmp_path / "GFZ", tmp_path / "CNN"], "toy")
  page = html.page({"toy": entries}, views.record(record()))
  parser = Tags()
  parser.feed(page)
  assert not parser.open and not parser.outside
  assert "GFZ/figures/analyses_class_gap.png" in page and "CNN/figures" not in page
  figures = [f for section in analysed.sections([tmp_path / "GFZ"]) for f in section["figures"]]
  assert len(figures) == 3 and all(f["src"] in page for f in figures)
  small = analysed.sections([tmp_path / "GFZ"], budget=len(figures[0]["src"]))
  assert [f["src"] is not None for s in small for f in s["figures"]] == [True, False, False]
  assert analysed.sections([tmp_path / "CNN"]) == []


def test_the_config_names_every_analysis():
  for arg in ("", "full", "cpu", "smoke"):
    config = config_of(arg)
    assert config["run"] == tuple(REGISTRY) and all(name in config for name in REGISTRY)
  sizes = [config_of(arg)["interpolation"]["num_pairs"] for arg in ("", "cpu", "smoke")]
  assert sizes == sorted(sizes, reverse=True)
  with pytest.raises(ValueError, match="did you mean 'smoke'"):
    config_of("smoek")


@pytest.mark.slow
def test_a_trained_run_from_the_command_line(tmp_path):
  workdir = tmp_path / "gfz"
  finish(start(command(workdir, config="gfz_digits.py:smoke"), tmp_path / "cache"))
  script = [*command(workdir, config="analyses/all.py:smoke"), "--noprogress"]
  script[1] = str(ROOT / "launch" / "analyse.py")
  output = finish(start(script, tmp_path / "cache"))
  assert "## Class gap" in output and "Traceback" not in output
  shutil.rmtree(workdir / "figures")
  assert finish(start(script, tmp_path / "cache")).count("##") == output.count("##")
  assert len(list((workdir / "figures").glob("analyses_*.png"))) >= 5
