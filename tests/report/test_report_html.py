"""The HTML report without a browser: what stands in it, and what it is made of."""

import base64
import io
import re

import numpy as np
import pytest
from html_tags import Tags
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from toy_evaluation import record
from toy_report import ATTACKS, write_run

from gencls.report import compare, detection_table, difference, html, plots, rocs, tiles, views
from gencls.report.reading import read
from gencls.summary.roc import curve

EVIL = "<script>alert(1)</script>"


def page_of(folder, runs):
  for title, settings in runs.items():
    write_run(folder / re.sub(r"\W", "", title), title, **settings)
  entries = compare.gather([folder / re.sub(r"\W", "", title) for title in runs], "toy")
  return entries, html.page({"toy": entries}, views.record(record()))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  two = {"attacks": ATTACKS[:2]}
  gone = (("pgd", 0.3), ("fgsm", 0.5))
  runs = {"GFZ": {**two, "skill": 0.9}, f"CNN {EVIL}": {**two, "leave_out": gone, "seed": 1}}
  return page_of(tmp_path_factory.mktemp("page"), runs)


def test_the_page_stands_by_itself(page):
  tags = Tags()
  tags.feed(page[1])
  assert not tags.open
  assert not tags.outside
  assert len(set(tags.ids)) == len(tags.ids)
  assert tags.links <= set(tags.ids)
  assert EVIL not in page[1]
  assert "https://cdn" not in page[1].split("<body>")[0]


def test_every_number_is_there_and_what_is_missing_is_said(page):
  entries, text = page
  for entry in entries:
    for row in [*entry.summary["rows"], *entry.summary["worst"]]:
      assert f"<b>{100 * row['accuracy']['mean']:.1f}</b>" in text
  assert "2 of the planned cells are not there yet" in text
  assert "not run yet: pgd; can only fall" in text
  assert "pgd linf 0.3: not run" in text
  for file in entries[0].files:
    assert file in text
  assert "git revision" in text and "0" * 40 in text


def test_a_page_of_seven_models_and_six_attacks_is_below_five_megabytes(tmp_path):
  titles = ("GFZ", "GFY", "GBZ", "GBY", "DFX", "DFZ", "DBX")
  runs = {
    title: {"attacks": ATTACKS, "detector": True, "seed": i} for i, title in enumerate(titles)
  }
  _, text = page_of(tmp_path, runs)
  assert len(ATTACKS) == 6 and 1e6 < len(text.encode()) < 5e6


def test_a_failed_check_is_announced(page):
  entries, text = page
  failed = sum(c["status"] == "fail" for e in entries for c in e.summary["checks"])
  assert (f"{failed} sanity check" in text) == (failed > 0)
  worse = {**entries[0].summary, "checks": [{"name": "x", "status": "fail", "detail": "why"}]}
  group = html.group(0, "toy", [entries[0]._replace(summary=worse)])
  text = html.render([group], {}, views.record(record()))
  assert "1 sanity check failed" in text and 'class="fail"' in text and "why" in text
  assert views.checks(entries)[-1]["at"][0]["status"] == "not run"


def test_only_where_every_check_was_run_the_badge_is_green(page):
  def badges(*statuses):
    checks = [{"name": str(i), "status": s, "detail": "y"} for i, s in enumerate(statuses)]
    entry = page[0][0]._replace(summary={**page[0][0].summary, "checks": checks})
    text = html.render([html.group(0, "toy", [entry])], {}, views.record(record()))
    return re.search(r'class="marks">(.*?)</td>', text)[1]

  assert badges("pass", "pass") == '<span class="badge pass">2 passed</span>'
  assert badges("pass", "not run") == '<span class="badge">1 passed, 1 not run</span>'
  assert badges("pass", "fail", "not run").startswith('<span class="badge fail">1 failed')
  assert badges("not run") == '<span class="badge">not run</span>'


def test_nothing_graded_yet(tmp_path):
  """Only a plan: a page all the same."""
  everything = ("clean", "untouched", "grey", "pgd")
  entries, text = page_of(tmp_path, {"GFZ": {"attacks": ("pgd",), "leave_out": everything}})
  assert entries[0].summary["clean"] is None
  assert "12 of the planned cells are not there yet" in text
  assert "not run" in compare.headline({"GFZ": entries[0].summary})
  compare.write(entries, "toy", tmp_path / "out")
  assert "- GFZ: clean, untouched, grey linf 0.05" in (tmp_path / "out" / "toy.md").read_text()


def test_cost_is_that_of_the_cells(page):
  row = next(r for r in views.costs(page[0]) if r["attack"] == "pgd")
  assert (row["forward"], row["backward"], row["cells"]) == (40.0, 20.0, 5)
  assert row["seconds"] == pytest.approx(1.5 / 100)


def test_curves_start_untouched_and_end_at_the_last_eps(page):
  found = html.curves(page[0], "linf")
  worst = next(c for c in found if c.strong and c.model == "GFZ")
  assert found[-1].strong
  rows = page[0][0].summary["worst"]
  assert list(worst.line.eps) == [0.0, *[row["eps"] for row in rows]]
  expected = [row["accuracy"]["mean"] for row in rows]
  np.testing.assert_allclose(worst.line.mean[1:], expected)
  sources = plots._sources([worst], ["GFZ"], [])
  np.testing.assert_allclose(sources["points"]["y"][1:], 100 * np.array(expected))
  assert len(sources["bands"]["xs"][0]) == 2 * len(worst.line.eps)


def test_area_is_that_of_scikit_learn():
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 2, 500)
  score = rng.normal(size=500) + truth
  fpr, tpr, _ = roc_curve(truth, score)
  assert plots.area(plots.Roc("a", fpr, tpr, "m")) == pytest.approx(roc_auc_score(truth, score))
  with pytest.raises(ValueError, match="'a': fpr and tpr must be"):
    plots.area(plots.Roc("a", fpr[::-1], tpr, "m"))
  with pytest.raises(ValueError, match="never falling"):
    plots.area(plots.Roc("a", fpr[1:], tpr, "m"))


def test_curves_of_many_draws_are_drawn_with_few_points():
  """A thousand images of twenty draws each: a megabyte, were every score a point."""
  rng = np.random.default_rng(0)
  clean, attacked = rng.normal(size=20_000), rng.normal(-1.5, size=20_000)
  attacked[:6000] = -9.0  # and a vertical step at no false positive
  whole = plots.Roc("pgd", *curve(clean, attacked), "m")
  plot = plots.detection([whole], ["m"])
  (data,) = (r.data_source.data for r in plot.renderers if r.data_source.name == "lines")
  assert data["area"][0] == pytest.approx(plots.area(whole), abs=1e-12)
  xs, ys = (np.array(data[name][0]) / 100 for name in ("xs", "ys"))
  assert len(xs) <= 202 and len(plots.embed({"a": plot})) < 15_000
  assert (xs[0], ys[0], xs[-1], ys[-1]) == (0, 0, 1, 1) and np.all(np.diff(xs) >= 0)
  assert np.max(ys[xs == 0]) == pytest.approx(np.max(whole.tpr[whole.fpr == 0]), abs=1e-4)
  at = np.linspace(0.02, 1, 99)
  drawn, exact = np.interp(at, xs, ys), np.interp(at, whole.fpr, whole.tpr)
  np.testing.assert_allclose(drawn, exact, atol=0.005)


def test_detection_is_drawn_where_there_is_a_detector(tmp_path, page):
  entries, text = page_of(tmp_path, {"GFZ": {"attacks": ("pgd",), "detector": True}})
  (roc,) = rocs.read(entries)
  cells = {(c.header["label"], c.header["eps"]): c.arrays for c in entries[0].cells}
  attacked, clean = cells["pgd", 0.5], cells["untouched", 0.0]["score"][:, 0]
  successes = attacked["score"][attacked["correct"] < 0.5, 0]
  pairs = np.mean(clean[:, None] > successes[None])  # no ties: the area is P(clean > attacked)
  assert (roc.model, roc.label) == ("GFZ", "pgd linf 0.5")
  assert plots.area(roc) == pytest.approx(pairs) and pairs > 0.6
  assert 'id="plot-0-roc"' in text and f"{pairs:.3f}" in text
  tags = Tags()
  tags.feed(text)
  assert tags.links <= set(tags.ids)
  assert 'id="plot-0-roc"' not in page[1]


def test_scores_that_are_not_finite_are_rejected_first():
  fpr, tpr = curve(np.array([1.0, 2.0]), np.array([np.nan, -np.inf, 3.0]))
  assert (fpr[1], tpr[1]) == (0.0, pytest.approx(2 / 3))


def test_what_evades_the_detector_is_shown(page):
  share = {"mean": 0.4321, "low": 0.4, "high": 0.5, "n": 100, "method": "Wilson over images"}
  where = {"norm": "linf", "eps": 0.1, "evading": share}
  blind = {**where, "against": "classifier"}
  ends, detected = {"low": 0.8804, "high": 0.9361}, {**share, "mean": 0.1234}
  rows = [
    {**blind, "label": "pgd", "detected": detected, "auc": 0.9121, "auc_interval": ends},
    {**blind, "label": "fgsm", "detected": None, "auc": None},
  ]
  rule = {"name": "quantile", "false_positive_rate": 0.05}
  found = {
    "test_rejected": {**share, "mean": 0.0518},
    "fitting_rejected": {**share, "mean": 0.0471},
    "detector": {"name": "kl", "per_class": False, "classes": "prediction", "rule": rule},
    "fitted_on": {"name": "toy", "split": "validation", "num_images": 80, "used": 80},
    "worst": [{**where, "kind": "detector"}],
    "rows": rows,
  }
  entry = page[0][0]
  group = html.group(0, "toy", [entry._replace(summary={**entry.summary, "detection": found})])
  text = html.render([group], {}, views.record(record()))
  assert "<b>43.2</b>" in text and "<b>5.2</b>" in text and "misclassified and accepted" in text
  assert "Detector: kl, one threshold, quantile (false_positive_rate 0.05), fitted to 80" in text
  assert "rejects 4.7 [40.0, 50.0]% of these validation images" in text
  assert "<b>12.3</b>" in text and "0.912 [0.880, 0.936]" in text and "no success" in text
  tags = Tags()
  tags.feed(text)
  assert not tags.open and tags.links <= set(tags.ids)


def test_what_evades_can_only_rise_while_attacks_on_the_detector_are_missing(tmp_path):
  attacks = ("pgd", "fgsm_detector", "pgd_detector")
  settings = {"attacks": attacks, "detector": True, "leave_out": [("pgd_detector", 0.5)]}
  entries, text = page_of(tmp_path, {"GFZ": settings})
  found = entries[0].summary["detection"]
  missing = {(row["kind"], row["eps"]): row["missing"] for row in found["worst"] if row["missing"]}
  assert missing == {(kind, 0.5): ["pgd_detector"] for kind in ("detector", "either")}
  assert "not run yet: pgd_detector; can only rise" in text
  written = detection_table.worst_table({"GFZ": found})
  (line,) = (x for x in written.splitlines() if "GFZ: attack classifier and detector" in x)
  starred = ["*" in cell.replace("**", "") for cell in line.strip("|").split("|")[1:]]
  assert starred == [False] * (len(starred) - 1) + [True] and "can only rise" in written
  assert "*" not in next(x for x in written.splitlines() if "GFZ: attack the classifier" in x)
  _, whole = page_of(tmp_path / "whole", {"GFZ": {**settings, "leave_out": ()}})
  assert 'can only rise"' not in whole and "pgd_detector; can" not in whole


def test_accuracy_that_rises_at_another_number_of_samples_is_no_proof(page):
  share = {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 100, "method": "Wilson over images"}
  where = {"norm": "linf", "eps": 0.1, "unseen": None, "num_images": 100}
  rows = [{**where, "num_samples": count, "accuracy": share} for count in (10, 100)]
  entry = page[0][0]
  group = html.group(0, "toy", [entry._replace(summary={**entry.summary, "regraded": rows})])
  text = html.render([group], {}, views.record(record()))
  assert "do not carry over to that K, which has to be attacked itself before concluding" in text
  assert "has broken" not in text


def _decode(source):
  content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
  return Image.open(io.BytesIO(content))


def test_images_are_the_kept_ones(page):
  gallery = tiles.gallery(page[0][0], 4)
  x = np.random.default_rng(99).integers(0, 256, (100, 28, 28, 1))[:4, ..., 0]
  for tile, expected in zip(gallery.clean, x, strict=True):
    np.testing.assert_array_equal(np.asarray(_decode(tile["src"])), expected)
  row = gallery.rows[0]
  shown = np.asarray(_decode(row.perturbation[0]["src"]).convert("RGB"), int)
  adversarial = np.asarray(_decode(row.adversarial[0]["src"]), int)
  brighter = adversarial - x[0] > 12
  assert np.sum(brighter) > 50
  assert np.all(shown[..., 0][brighter] > shown[..., 2][brighter])
  darker = adversarial - x[0] < -12
  assert np.all(shown[..., 0][darker] < shown[..., 2][darker])


def test_images_keep_to_their_budget(page):
  whole = tiles.galleries(page[0])
  assert {len(g.clean) for g in whole} == {8}
  small = tiles.galleries(page[0], budget=sum(map(tiles._size, whole)) // 2)
  assert {len(g.clean) for g in small} <= {3, 4}
  large = np.zeros((1, 300, 200, 3), np.float32)
  assert tiles.levels(large).shape == (1, 75, 50, 3)


def test_other_data_is_not_taken_for_the_evaluated(page):
  entry = page[0][0]
  other = entry._replace(summary={**entry.summary, "data": {**entry.summary["data"], "digest": ""}})
  found = tiles.gallery(other, 4)
  assert found.problem and not found.clean and not found.rows[0].perturbation


def test_differences_of_two_runs(tmp_path):
  for i, title in enumerate(("GFZ", "CNN")):
    write_run(tmp_path / title, title, attacks=("pgd",), skill=(0.9, 0.3)[i], seed=i)
  out, dirs = tmp_path / "out", [tmp_path / "GFZ", tmp_path / "CNN"]
  text = difference.write(dirs, "toy", out, views.record(record()))
  rows = difference.rows(*[read(folder, "toy") for folder in dirs])
  assert [row["what"] for row in rows] == ["clean", *["worst case"] * 5]
  for row in rows:
    assert row["first"] - row["second"] == pytest.approx(row["difference"]["mean"])
    assert difference.points(row["difference"]) in text
  assert "GFZ is ahead" in text and "no difference shown" in text
  swapped = difference.rows(*[read(folder, "toy") for folder in dirs[::-1]])
  assert swapped[2]["difference"]["mean"] == -rows[2]["difference"]["mean"]
  tags = Tags()
  tags.feed((out / "toy_difference.html").read_text())
  assert not tags.open and not tags.outside
  with pytest.raises(ValueError, match="takes two work directories, got 1"):
    difference.write(dirs[:1], "toy", out, views.record(record()))


def test_one_folder_given_twice_is_refused(tmp_path):
  write_run(tmp_path / "a", "GFZ", attacks=("pgd",))
  with pytest.raises(ValueError, match="give each run or results file once"):
    compare.gather([tmp_path / "a", tmp_path / "a"], "toy")
