"""Tables and figures from result cells."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from toy_evaluation import (
  IDENTITY,
  LEVELS,
  full_summary,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from gencls.evaluate import evaluate
from gencls.report import (
  attack_curves,
  comparable,
  compare,
  figures,
  model_figures,
  pages,
  reading,
  results_file,
  table,
)
from gencls.sanity import ORIGIN
from gencls.summary.summarise import success_rate, summarise

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("toy")
  cells = evaluate(
    toy_subject(),
    toy_images(),
    protocol(),
    specs(),
    folder=workdir / "results" / "toy" / "cells",
    identity=IDENTITY,
    record=record(),
    progress=False,
  )
  summary = full_summary(summarise(cells), protocol())
  images = np.asarray(toy_images().images[:8] / (LEVELS - 1), np.float32)
  paths = pages.write(
    summary, cells, images, results=workdir / "results" / "toy", figure_folder=workdir / "figures"
  )
  return workdir, summary, paths


def test_everything_is_written(evaluated):
  workdir, summary, paths = evaluated
  assert [p.relative_to(workdir).as_posix() for p in paths] == [
    "results/toy/table.json",
    "results/toy/table.md",
    "figures/toy_accuracy_vs_eps.png",
    "figures/toy_images.png",
  ]
  assert json.loads(paths[0].read_text()) == json.loads(json.dumps(summary))
  assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[2:])


def test_the_table_says_what_the_summary_says(evaluated):
  _, summary, paths = evaluated
  text = paths[1].read_text()
  for row in [*summary["rows"], *summary["worst"]]:
    assert table.percent(row["accuracy"]) in text
  assert "**worst case**" in text
  assert "n = 30" in text
  assert "Known seed" in text
  assert "FAIL" not in text
  assert "not run" in text


def test_a_failed_check_stands_first_and_is_announced(evaluated):
  failed = {"name": "x", "status": "fail", "detail": "y"}
  summary = {**evaluated[1], "checks": [*evaluated[1]["checks"], failed]}
  text = table.markdown(summary)
  assert "1 sanity check(s) failed" in text
  assert table.checks_table(summary).splitlines()[2].split("|")[1:4] == [
    text_.ljust(len(found))
    for text_, found in zip(
      (" **FAIL** ", " x ", " y "),
      table.checks_table(summary).splitlines()[2].split("|")[1:4],
      strict=True,
    )
  ]


def test_the_attack_that_is_drawn_is_the_strongest_that_most_models_have_met():
  def row(label, eps, mean, norm="linf", **more):
    attack = {"against": "detector" if "detector" in label else None}
    return {"label": label, "attack": attack, "norm": norm, "eps": eps, "accuracy": {"mean": mean},
            **more}  # fmt: skip

  worst = [row("worst", 0.1, 0.5), row("worst", 0.2, 0.3), row("worst", 5.0, 0.0, "l2")]

  def summary(*rows, missing=()):
    return {"rows": rows, "worst": worst, "missing": [{"label": label} for label in missing]}

  far = row("square", 5.0, 0.2, "l2")  # the least of all, and 20 points above the worst case there
  apgd = [row("apgd", 0.1, 0.51), row("apgd", 0.2, 0.31)]
  pgd = [row("pgd", 0.1, 0.55), row("pgd", 0.2, 0.35)]
  seeing, searching = row("pgd_detector", 0.2, 0.3), row("cw", 0.2, 0.3, derived="distance")
  one, two = (summary(*apgd, *pgd, far, seeing, searching) for _ in range(2))
  assert model_figures.strongest({"A": one, "B": two}) == "apgd"
  assert model_figures.strongest({"A": one, "B": summary(*pgd)}) == "pgd"  # apgd has met one alone
  assert model_figures.strongest({"A": summary(*apgd, *pgd, missing=["apgd"])}) == "pgd"
  assert model_figures.strongest({"A": summary(seeing, searching)}) is None


def test_checks_that_were_not_run_are_counted_in_words(evaluated):
  def one(*statuses):
    checks = [{"name": str(i), "status": s, "detail": "y"} for i, s in enumerate(statuses)]
    return {**evaluated[1], "checks": checks}

  bad, open_, good = one("fail", "not run", "not run"), one("pass", "not run"), one("pass")
  assert "**1 sanity check(s) failed, 2 not run: see below.**" in table.markdown(bad)
  assert "\n\n1 sanity check(s) not run: see below." in table.markdown(open_)
  assert "see below" not in table.markdown(good)
  found = compare.not_run({"A": bad, "B": open_, "C": good, "D": open_})
  assert found == "Sanity checks: 1 not run (B, D); 2 not run (A).\n\n"
  assert "A (1 check(s) failed) |" in compare.headline({"A": bad})
  for detail, count in (("revision: a / b", 1), ("revision: a / b + changes", 2)):
    origin = {"name": ORIGIN, "status": "fail", "detail": detail}
    mixed = {**bad, "checks": [*bad["checks"], origin]}
    assert f"A ({count} check(s) failed) |" in compare.headline({"A": mixed})
    assert f"**{count} sanity check(s) failed" in table.markdown(mixed)
  assert compare.not_run({"C": good}) == ""


def test_success_rate_is_of_the_images_classified_right():
  untouched = np.repeat([1.0, 0.0], [80, 20])
  attacked = np.repeat([1.0, 0.0], [60, 40])
  rate = success_rate(attacked, untouched, 1)
  assert (rate["mean"], rate["n"]) == (0.25, 80)
  many = success_rate(attacked, untouched, 20)
  assert many["mean"] == pytest.approx(0.25)
  assert many["low"] < 0.25 < many["high"]
  assert success_rate(attacked, np.zeros(100), 1) is None


def test_models_side_by_side(evaluated, tmp_path):
  workdir, summary, _ = evaluated
  other = tmp_path / "other"
  path = other / "results" / "toy" / "table.json"
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(summary))
  found = compare.write(compare.gather([workdir, other], "toy"), "toy", tmp_path / "out")
  assert set(found) == {f"TOY ({workdir.name})", "TOY (other)"}
  names = {"toy.md", "toy.json", "toy_worst_case.png", "toy_success_rate.png"}
  assert {p.name for p in (tmp_path / "out").iterdir()} == names
  text = (tmp_path / "out" / "toy.md").read_text()
  assert table.percent(summary["worst"][0]["accuracy"]) in text
  assert "sanity check" in text
  for content in (tmp_path / "out").glob("*.*"):
    assert str(tmp_path).encode() not in content.read_bytes()


def test_a_gradient_that_is_not_the_functions_is_named():
  models = {"A": {"gradient": "exact"}, "B": {"gradient": "straight_through"}, "C": {}}
  assert table.gradient_sentence({"A": models["A"], "C": {}}) == ""
  assert table.gradient_sentence({**models, "D": {"gradient": "detached"}}) == (
    " Gradients pass the threshold or denoiser of B by the straight-through estimator. "
    "No gradient passes what stands before D: it is detached, as published."
  )


def test_every_attack_has_a_panel_and_every_model_its_curve_there():
  def one(*rows):
    level = lambda mean: {"mean": mean, "low": mean, "high": mean}  # noqa: E731
    rows = [{"label": a, "norm": n, "eps": e, "accuracy": level(m)} for a, n, e, m in rows]
    return {"rows": rows, "untouched": {"accuracy": level(1.0)}}

  found = attack_curves.panels(
    {
      "A": one(("pgd", "linf", 0.2, 0.1), ("pgd", "linf", 0.1, 0.6), ("pgd", "l2", 1.0, 0.4)),
      "B": one(("pgd", "linf", 0.1, 0.7), ("square", "linf", 0.1, 0.8)),
    }
  )
  points = {
    name: [(line.label, line.eps, line.mean) for line in lines] for name, lines in found.items()
  }
  assert points == {
    "pgd (linf)": [("A", [0.0, 0.1, 0.2], [1.0, 0.6, 0.1]), ("B", [0.0, 0.1], [1.0, 0.7])],
    "pgd (l2)": [("A", [0.0, 1.0], [1.0, 0.4])],
    "square (linf)": [("B", [0.0, 0.1], [1.0, 0.8])],
  }
  # Beside a paper's numbers it is the image as it was returned; an older file may not have it.
  paper = one(("pgd", "linf", 0.1, 0.6), ("pgd", "linf", 0.2, 0.5))
  paper["rows"][0]["as_returned"] = {"mean": 0.9, "low": 0.8, "high": 1.0}
  (line,) = attack_curves.panels({"A": paper}, "as_returned")["pgd (linf)"]
  assert (line.eps, line.mean) == ([0.0, 0.1], [1.0, 0.9])
  numbers = {"pgd (linf)": {"A": [(0.1, 65.0), (9.0, 1.0)], "C": [(0.1, 2.0)]}}
  figure = attack_curves.draw(found, "title", "note", numbers)
  crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
  assert [(*line.get_xdata(), *line.get_ydata()) for line in crosses] == [(0.1, 65.0)]
  assert crosses[0].get_color() == figure.axes[0].lines[0].get_color()
  assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()] == list(points)
  assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]


def test_success_rates_are_of_the_models_that_met_the_attack(evaluated):
  """Some attacks are for some models, and a report may be made of a half-finished evaluation."""
  summary = evaluated[1]
  label = "pgd"
  without = {**summary, "rows": [row for row in summary["rows"] if row["label"] != label]}
  figure = model_figures.success({"A": summary, "B": without}, label)
  assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["A"]
  with pytest.raises(ValueError, match=f"no model has met '{label}' yet"):
    model_figures.success({"B": without}, label)
  with pytest.raises(ValueError, match="unknown attack 'pgdd'; did you mean"):
    model_figures.success({"A": summary, "B": without}, "pgdd")


def test_as_many_curves_as_the_zoo_has_can_be_told_apart_and_are_the_same_in_every_panel():
  line = lambda label: figures.Line(label, [0.0, 0.1], [1.0, 0.5], [1.0, 0.4], [1.0, 0.6])  # noqa: E731
  names = [f"model {i}" for i in range(20)]
  panels = {"linf": [line(name) for name in names], "l2": [line(name) for name in names[5:]]}
  figure = figures.curves(panels, "title", "accuracy, %", "note")
  looks = [
    {
      each.get_label(): (each.get_color(), each.get_marker(), each.get_linestyle())
      for each in axis.lines
    }
    for axis in figure.axes
  ]
  assert len(set(looks[0].values())) == 20
  assert all(looks[0][name] == look for name, look in looks[1].items()) and len(looks[1]) == 15


def test_models_of_p_y_given_x_alone_are_dashed_and_the_small_print_says_so():
  line = figures.Line("", [0.0, 0.1], [1.0, 0.5], [1.0, 0.4], [1.0, 0.6])
  lines = [line._replace(label=f"model {i}", posterior=i % 2 == 1) for i in range(24)]
  axis, *_ = (figure := figures.curves({"linf": lines}, "title", "accuracy, %", "note")).axes
  dashed = {each.get_label() for each in axis.lines if each.get_linestyle() in ("--", "-.")}
  assert dashed == {each.label for each in lines if each.posterior}
  looks = {(e.get_color(), e.get_marker(), e.get_linestyle()) for e in axis.lines}
  assert len(looks) == 24
  assert figure.get_supxlabel() == "note; dashed: models of p(y | x) alone"
  alone = figures.curves({"linf": lines[::2]}, "title", "accuracy, %", "note")
  assert alone.get_supxlabel() == "note"


def test_a_figure_of_many_bytes_gets_fewer_colours_and_then_fewer_dots(monkeypatch, tmp_path):
  line = figures.Line("model", [0.0, 0.1], [1.0, 0.5], [1.0, 0.4], [1.0, 0.6])
  figure = figures.curves({"linf": [line]}, "title", "accuracy, %", "note")
  whole = figures.png(figure, figures.DOTS_PER_INCH)

  def saved(most_bytes):
    monkeypatch.setattr(figures, "MOST_BYTES", most_bytes)
    figures.save(figure, tmp_path / "figure.png")
    content = (tmp_path / "figure.png").read_bytes()
    assert len(content) <= most_bytes
    return content, matplotlib.image.imread(io.BytesIO(content))[..., :3]

  content, exact = saved(len(whole))
  assert content == whole
  content, close = saved(len(whole) * 2 // 3)
  assert close.shape == exact.shape and 0 < np.mean(abs(close - exact)) < 0.002
  content, small = saved(len(content) * 2 // 3)
  assert small.shape[0] < exact.shape[0] / 1.2


def test_sanity_checks_side_by_side():
  def one(**status):
    return {"checks": [{"name": n, "status": s, "detail": "why | not"} for n, s in status.items()]}

  text = table.checks_of_models({"A": one(x="pass", y="fail"), "B": one(x="not run", z="pass")})
  rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")[:5]]
  assert rows[0] == ["sanity check", "A", "B"]
  assert rows[2:] == [["x", "pass", "not run"], ["y", "**FAIL**", "-"], ["z", "-", "pass"]]
  assert text.split("\n")[5:] == ["", "* A, y: why | not"]


def test_checks_that_were_run_of_no_model_have_no_row():
  def one(**status):
    return {"checks": [{"name": n, "status": s, "detail": ""} for n, s in status.items()]}

  text = table.checks_of_models({"A": one(x="not run", y="pass"), "B": one(x="not run")})
  assert [line.split("|")[1].strip() for line in text.split("\n")[:3:2]] == ["sanity check", "y"]
  assert text.split("\n")[3:] == ["", "Run of no model: x."]
  nothing = table.checks_of_models({"A": one(x="not run"), "B": one(z="not run")})
  assert nothing == "Run of no model: x; z."


def test_two_evaluations_of_one_run_side_by_side(evaluated, tmp_path):
  _, summary, _ = evaluated
  for name in ("nearest", "mean"):
    path = tmp_path / "results" / name / "table.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**summary, "name": name, "title": f"CVAE {name}"}))
  entries = [f"{tmp_path}:nearest", f"{tmp_path}:mean"]
  found = compare.write(compare.gather(entries, "rules"), "rules", tmp_path / "out")
  assert list(found) == ["CVAE nearest", "CVAE mean"]
  assert (tmp_path / "out" / "rules.md").is_file()
  assert "model (n = 30)" in compare.headline(found)


def test_fresh_seed_names_the_draws_of_each_attack():
  names = {"pgd": "pgd", "pgd_margin": "pgd", "theirs": "foolbox:LinfPGD"}
  attacks = {label: {"name": name, "eot_samples": 1} for label, name in names.items()}
  attacks["pgd_margin"]["eot_samples"] = 10
  settings = protocol("fresh_seed")._asdict()
  sentence = table.threat_sentence(settings, attacks)
  assert "fresh keys (pgd 1, pgd_margin 10)" in sentence
  assert "(those of Foolbox, theirs, see one fixed attack key for each image)" in sentence
  del attacks["theirs"]
  assert "Foolbox" not in table.threat_sentence(settings, attacks)
  assert "Foolbox" not in table.threat_sentence(protocol()._asdict(), {"a": {"name": "foolbox:A"}})


@pytest.mark.parametrize(
  "path",
  sorted(set(RESULTS.glob("*/*.json")) - set(RESULTS.glob("*/*_answer.json"))),
  ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_published_results_can_still_be_read(path):
  summaries = results_file.load(path)
  comparable.check(summaries)
  assert compare.headline(summaries).count("\n") == len(summaries) + 1
  searched = any(summary.get("minimum") for summary in summaries.values())
  assert (compare.minimum(summaries) != "") == searched
  if all(summary["worst"] for summary in summaries.values()):
    assert len(model_figures.worst(summaries).axes[0].lines) > len(summaries)


def test_models_with_an_attack_of_their_own_are_compared(evaluated):
  _, summary, _ = evaluated
  attack = next(iter(summary["attacks"].values()))

  def with_one_more(models, gradient="straight_through", **changes):
    attacks = {**summary["attacks"], "flips": {**attack, "models": models, **changes}}
    return {**summary, "gradient": gradient, "attacks": attacks}

  exact, thresholded = {**summary, "gradient": "exact"}, with_one_more("thresholded")
  comparable.check({"one": exact, "two": thresholded, "three": thresholded})
  denoised = {
    **summary,
    "gradient": "straight_through",
    "pixel_threshold": None,
  }  # not a pixel at a time
  comparable.check({"one": denoised, "two": thresholded})
  for other, message in (
    ({**summary, "gradient": "straight_through"}, "attacks.flips, which is for thresholded"),
    (with_one_more("thresholded", "flip", eps=[9.0]), "attacks.flips, which is for thresholded"),
    ({**summary, "pixel_threshold": 0.5}, "attacks.flips, which is for thresholded"),
    (with_one_more(None), "differ in attacks"),
  ):
    with pytest.raises(ValueError, match=message):
      comparable.check({"one": exact, "two": thresholded, "other": other})


def test_an_attack_may_be_left_out_of_some_models(evaluated):
  _, summary, _ = evaluated
  label, attack = next(iter(summary["attacks"].items()))

  def with_attack(**changes):
    return {**summary, "attacks": {**summary["attacks"], label: {**attack, **changes}}}

  without, longer = with_attack(eps=[]), with_attack(num_steps=1000)
  comparable.check({"one": summary, "two": without})
  comparable.check({"two": without, "one": summary})
  assert comparable.left_out_sentence({"one": summary, "two": without}) == (
    f" Left out: {label} (two)."
  )
  assert comparable.left_out_sentence({"one": summary}) == ""
  others = {name: each for name, each in summary["attacks"].items() if name != label}
  for other in (longer, {**summary, "attacks": others}):
    with pytest.raises(ValueError, match="differ in attacks"):
      comparable.check({"two": without, "one": summary, "other": other})


def test_different_protocols_are_not_compared(evaluated, tmp_path):
  workdir, summary, _ = evaluated
  path = tmp_path / "results" / "toy" / "table.json"
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps({**summary, "num_images": 29}))
  with pytest.raises(ValueError, match="differ in num_images"):
    compare.gather([workdir, tmp_path], "toy")
  changed = {**summary, "config": {**summary["config"], "model": {"num_samples": 100}}}
  path.write_text(json.dumps(changed))
  with pytest.raises(ValueError, match=r"config\.model\.num_samples: 100 and None"):
    compare.gather([workdir, tmp_path], "toy")
  with pytest.raises(FileNotFoundError, match="did you mean 'toy'"):
    reading.read(workdir, "tou")


def _launch(*arguments):
  # Few threads and no plug-ins: as a user's shell would start it.
  command = [sys.executable, *arguments]
  return subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ}
  )


@pytest.mark.slow
def test_from_training_to_the_table(tmp_path):
  """launch/train.py, launch/evaluate.py twice (the second computes nothing), launch/report.py."""
  run, config = tmp_path / "run", "configs/attacks/fgsm_pgd_digits.py:smoke"
  trained = _launch("launch/train.py", "--config=configs/gfz_digits.py:smoke", f"--workdir={run}")
  assert trained.returncode == 0, trained.stderr
  arguments = ("launch/evaluate.py", f"--config={config}", f"--workdir={run}")
  first = _launch(*arguments)
  assert first.returncode == 0, first.stderr
  assert "**worst case**" in first.stdout
  cells = {p: p.stat().st_mtime_ns for p in run.glob("results/fgsm_pgd/cells/*.npz")}
  assert len(cells) == 11  # with the gradient, and unseen draws at both eps
  again = _launch(*arguments)
  assert again.stdout == first.stdout
  assert cells == {p: p.stat().st_mtime_ns for p in run.glob("results/fgsm_pgd/cells/*.npz")}
  out = f"--out={tmp_path / 'out'}"
  report = _launch("launch/report.py", "--name=fgsm_pgd", f"--workdirs={run}", out)
  assert report.returncode == 0, report.stderr
  assert str(tmp_path) not in (tmp_path / "out" / "fgsm_pgd.json").read_text()
  misspelt = _launch(*arguments, "--config.num_image=3")
  assert misspelt.returncode != 0
  assert "num_images" in misspelt.stderr
