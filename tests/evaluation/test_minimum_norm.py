"""Minimum-norm attacks: run once, read at every eps; against a loop in NumPy."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import LEVELS, full_summary, log_joint, protocol, run, toy_images, toy_subject
from toy_minimum import by_hand

import gencls.attacks
from gencls.evaluation import minimum_norm
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.candidates import groups
from gencls.evaluation.grading import perturbation_norm
from gencls.evaluation.results import Cell
from gencls.report import comparable, compare, figures, pages, table
from gencls.summary.summarise import summarise

EPS = (0.1, 0.2, 0.3, 0.5)
LINF = {"norm": "linf"}
pytestmark = pytest.mark.usefixtures("registered_line")
PROTOCOL = protocol(clean=())  # no clean metrics: nothing here is about them


def spec(**changes):
  return AttackSpec("line", "line", "linf", EPS, "margin", 1, {"num_steps": 10})._replace(**changes)


def clean():
  dataset = toy_images()
  return np.asarray(dataset.images / (LEVELS - 1), np.float32), dataset.labels


def wrong(x):
  joint = np.asarray(log_joint(toy_subject().params, jnp.asarray(x)))
  return joint.argmax(1) != clean()[1]


def attacked(cells):
  return next(cell for cell in cells if cell.header["label"] == "line")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  folder = tmp_path_factory.mktemp("minimum")
  fgsm = AttackSpec("fgsm", "fgsm", "linf", (0.2,), "margin", 1, {})
  return folder, run(folder, None, PROTOCOL, [fgsm, spec()])


@pytest.fixture(scope="module")
def clipped(tmp_path_factory):
  return run(tmp_path_factory.mktemp("clipped"), None, PROTOCOL, [spec(grade_as="clip")])


def test_one_cell_holds_the_nearest_successes(evaluated):
  folder, cells = evaluated
  assert len(list(folder.glob("line*.npz"))) == 1
  cell = attacked(cells)
  x, _ = clean()
  best, found = by_hand(x, wrong)
  assert 3 < found.sum() < 30  # successes and failures
  expected = perturbation_norm(best, x, "linf")
  np.testing.assert_allclose(cell.arrays["norm"], expected, atol=1e-6)
  np.testing.assert_array_equal(cell.arrays["correct"] == 0, found)
  np.testing.assert_array_equal(np.isfinite(minimum_norm.distances(cell)), found)
  flat = (best - x).reshape(len(x), -1), x.reshape(len(x), -1)
  size, whole = (np.sqrt((each.astype(np.float64) ** 2).sum(1)) for each in flat)
  np.testing.assert_allclose(cell.arrays["l2_norm"], size, atol=1e-6)
  np.testing.assert_allclose(cell.arrays["relative_l2_norm"], size / whole, atol=1e-6)
  fgsm = next(cell for cell in cells if cell.header["label"] == "fgsm")
  assert np.all(fgsm.arrays["l2_norm"] > fgsm.arrays["norm"])
  assert (cell.header["eps"], cell.header["grid"]) == (None, list(EPS))


def test_every_eps_is_derived(evaluated):
  x, _ = clean()
  best, found = by_hand(x, wrong)
  size = perturbation_norm(best, x, "linf")
  rows = {row["eps"]: row for row in summarise(evaluated[1])["rows"] if row["label"] == "line"}
  assert set(rows) == set(EPS)
  for eps, row in rows.items():
    expected = 1 - np.mean(found & (size <= eps + 1e-6))
    assert row["accuracy"]["mean"] == pytest.approx(expected)
    assert row["derived"] == "distance"
  means = [rows[eps]["accuracy"]["mean"] for eps in EPS]
  assert means[0] >= means[1] > means[2] > means[3]


def test_the_worst_case_is_over_both_kinds(evaluated):
  cells = evaluated[1]
  near = [c for c in cells if c.header["label"] in ("fgsm", "grey") and c.header["eps"] <= 0.2]
  assert [c.header["eps"] for c in near] == [0.1, 0.2, 0.2]
  best, found = by_hand(clean()[0], wrong)
  broken = found & (perturbation_norm(best, clean()[0], "linf") <= 0.2)
  right = ~broken & ~wrong(clean()[0]) & np.all([c.arrays["correct"] > 0 for c in near], axis=0)
  worst = next(row for row in summarise(cells)["worst"] if row["eps"] == 0.2)
  assert worst["accuracy"]["mean"] == pytest.approx(np.mean(right))
  assert set(worst["chosen"]) == {"fgsm", "grey", "line", "untouched"}


def test_the_worst_case_takes_distances_at_every_eps(evaluated):
  """Another attack's eps is not on the grid of `line`: what it found within is broken there."""
  folder, cells = evaluated
  fgsm = AttackSpec("fgsm", "fgsm", "linf", (0.2,), "margin", 1, {})
  coarse = run(folder, None, PROTOCOL, [fgsm, spec(eps=(0.1, 0.5))])
  summary = summarise(coarse)
  assert {row["eps"] for row in summary["rows"] if row["label"] == "line"} == {0.1, 0.5}
  assert [row["eps"] for row in summary["worst"]] == [0.1, 0.2, 0.5]
  assert summary["worst"][1] == summarise(cells)["worst"][1]
  at = next(group for group in groups(coarse[2:], coarse[1]) if group.eps == 0.2)
  (line_at,) = [cell for cell in at.cells if cell.header["label"] == "line"]
  best, found = by_hand(clean()[0], wrong)
  broken = found & (perturbation_norm(best, clean()[0], "linf") <= 0.2)
  assert 0 < broken.sum() < found.sum()
  np.testing.assert_array_equal(line_at.arrays["correct"] == 0, broken)


def test_distances_are_reported(evaluated):
  x, _ = clean()
  best, found = by_hand(x, wrong)
  size = perturbation_norm(best, x, "linf")
  relative = perturbation_norm(best, x, "l2") / perturbation_norm(x, np.zeros_like(x), "l2")
  (row,) = summarise(evaluated[1])["minimum"]
  assert row["median_norm"] == pytest.approx(np.median(size[found]), abs=1e-6)
  assert row["found"]["mean"] == pytest.approx(found.mean())
  assert row["mean_relative_norm"] is None  # one failure is infinitely far
  assert row["mean_relative_norm_of_successes"] == pytest.approx(relative[found].mean(), rel=1e-5)
  assert row["disagree"] == 0
  json.dumps(row, allow_nan=False)
  assert "∞" in table.minimum_table([row])


def test_rho_counts_natural_errors_as_zero():
  arrays = {
    "norm": np.array([0.0, 0.2, 0.4], np.float32),
    "relative_l2_norm": np.array([0.0, 0.1, 0.5], np.float32),
    "select_correct": np.zeros(3, np.float32),
  }
  found = minimum_norm.statistics(Cell(LINF, arrays))
  assert found["mean_relative_norm"] == pytest.approx(0.2)
  assert found["median_norm_all"] == pytest.approx(0.2)
  arrays["select_correct"] = np.array([0.0, 1.0, 1.0], np.float32)
  found = minimum_norm.statistics(Cell(LINF, arrays))
  assert (found["median_norm"], found["median_norm_all"]) == (0.0, None)
  arrays["select_correct"] = np.ones(3, np.float32)
  assert minimum_norm.statistics(Cell(LINF, arrays))["median_norm"] is None


def test_the_rho_of_older_cells_is_theirs_where_their_norm_is_l2():
  arrays = {
    "norm": np.array([0.2, 0.4], np.float32),
    "relative_norm": np.array([0.1, 0.5], np.float32),
    "select_correct": np.zeros(2, np.float32),
  }
  rows = {
    norm: {**minimum_norm.statistics(Cell({"norm": norm}, arrays)), "label": "a", "norm": norm,
           "found": None} for norm in ("l2", "linf")
  }  # fmt: skip
  assert rows["l2"]["mean_relative_norm"] == pytest.approx(0.3)
  assert rows["linf"]["mean_relative_norm"] is None
  assert rows["linf"]["median_norm"] == pytest.approx(0.3)
  assert "not stored" not in table.minimum_table([rows["l2"]])
  assert table.minimum_table([rows["linf"]]).count("not stored") == 2
  # Files of then say no norm: what they hold is the attack's own.
  old = {**rows["linf"], "mean_relative_norm": 0.3}
  del old["rho_norm"]
  assert table.minimum_table([old]).count("not stored") == 2
  assert "0.3" in table.minimum_table([{**old, "norm": "l2"}])


def test_another_grid_attacks_nothing_again(evaluated, monkeypatch):
  folder, cells = evaluated
  monkeypatch.setattr(gencls.attacks, "run", None)
  again = run(folder, None, PROTOCOL, [spec(eps=(0.1, 0.15))])
  np.testing.assert_array_equal(attacked(again).arrays["norm"], attacked(cells).arrays["norm"])
  rows = [row for row in summarise(again)["rows"] if row["label"] == "line"]
  assert [row["eps"] for row in rows] == [0.1, 0.15]


def test_clipped_as_published_and_honest_beside_it(clipped, evaluated):
  """The result clipped to each eps is classified again, without asking for its distance."""
  x, labels = clean()
  best, _ = by_hand(x, wrong)
  summary = summarise(clipped)
  rows = {(row["label"], row["eps"]): row for row in summary["rows"]}
  for eps in EPS:
    share = 1 - np.mean(wrong(np.clip(best, x - eps, x + eps).astype(np.float32)))
    assert rows["line", eps]["accuracy_of_result"] == pytest.approx(share)
    assert rows["line", eps]["derived"] == "clip"
  honest = [row for row in summarise(evaluated[1])["rows"] if row["label"] == "line"]
  for row in honest:
    assert rows["line (distance)", row["eps"]]["accuracy"] == row["accuracy"]
  differ = [e for e in EPS if rows["line", e]["accuracy"] != rows["line (distance)", e]["accuracy"]]
  assert differ  # the protocols are not the same thing


def test_the_tolerance_adds_to_eps():
  names = minimum_norm.PER_EXAMPLE
  untouched = Cell({}, {name: np.ones(3, np.float32) for name in names})
  settings = {"attack": {"grade_as": "distance"}}
  header = {"label": "a", "norm": "linf", "settings": settings, "num_images": 3, "seconds": 1.0}
  arrays = {name: np.zeros(3, np.float32) for name in names}
  arrays["norm"] = np.array([0.1, 0.1 + 5e-7, 0.1 + 1e-5])
  cell = minimum_norm.derive(Cell({**header, "record": {}}, arrays), untouched, 0.1, "distance")
  assert list(cell.arrays["correct"]) == [0, 0, 1]
  np.testing.assert_allclose(cell.arrays["norm"], [0.1, 0.1, 0.0], atol=1e-6)


def test_a_result_on_the_boundary_is_lengthened_until_half_of_the_draws_fail():
  x = np.zeros((4, 1, 1, 1), np.float32)
  x_adv = np.full_like(x, 0.5)
  limits = np.array([0.4, 0.50001, 0.52, 9.0])  # beyond these half of the draws fail

  def share(at):
    return np.where(at[:, 0, 0, 0] >= limits, 0.5, 0.75)

  found = minimum_norm.nearest_failure(x_adv, x, share)[:, 0, 0, 0]
  # Another batch's rounding error costs a thousandth; 1.05 · 0.5 is the first beyond 0.52.
  np.testing.assert_allclose(found, [0.5, 0.5005, 0.525, 0.5])


def test_fresh_seed_distances_are_where_half_of_the_draws_fail(tmp_path):
  fresh = protocol("fresh_seed", clean=())
  cells = run(tmp_path, toy_subject(noise=3.0), fresh, [spec(hyperparameters={"num_steps": 3})])
  cell = attacked(cells)
  found = np.isfinite(minimum_norm.distances(cell))
  np.testing.assert_array_equal(found, cell.arrays["select_correct"] <= 0.5)
  assert found.sum() > 0
  assert cell.arrays["prediction"].shape == (30, 20)
  # What a publication counts is the image before it was lengthened, which broke less.
  returned = cell.arrays["correct_as_returned"]
  moved = returned != cell.arrays["correct"]
  assert 0 < moved.sum() < 30
  assert np.mean(returned) > np.mean(cell.arrays["correct"])
  (row,) = summarise(cells)["minimum"]
  assert row["accuracy_of_result"] == pytest.approx(np.mean(returned))
  # A row counts shares of the grade draws, not successes.
  row = next(r for r in summarise(cells)["rows"] if r["label"] == "line" and r["eps"] == 0.5)
  assert row["accuracy"]["mean"] not in {k / 30 for k in range(31)}


def test_table_and_figures_show_them(clipped, evaluated, tmp_path):
  summary = full_summary(summarise(clipped), protocol())
  images = clean()[0][:8]
  folders = {"results": tmp_path / "results" / "toy", "figure_folder": tmp_path / "figures"}
  paths = pages.write(summary, clipped, images, **folders)
  assert all(path.is_file() for path in paths)
  assert len(paths) == 4
  text = paths[1].read_text()
  assert "line: as published, the result clipped to each eps" in text
  assert "line (distance): broken at eps where" in text
  found = compare.write(compare.gather([tmp_path], "toy"), "toy", tmp_path / "out")
  assert set(found) == {"TOY"}
  assert "TOY: line, linf" in (tmp_path / "out" / "toy.md").read_text()
  honest = full_summary(summarise(evaluated[1]), protocol())
  assert "each run once (line: broken at eps" in table.markdown(honest)


def test_results_without_distances_are_still_compared(evaluated):
  """Files made before there were minimum-norm attacks have no such key and fewer settings."""
  summary = full_summary(summarise(evaluated[1]), protocol())
  new = {**summary, "attacks": {"pgd": {"name": "pgd", "max_seconds": None}}}
  old = {**summary, "attacks": {"pgd": {"name": "pgd"}}}
  del old["minimum"]
  comparable.check({"old": old, "new": new})
  assert compare.minimum({"old": old}) == ""
  other = {**summary, "attacks": {"pgd": {"name": "pgd", "max_seconds": 3.0}}}
  with pytest.raises(ValueError, match="differ in attacks"):
    comparable.check({"old": old, "other": other})


def test_wide_grids_are_drawn_on_a_logarithmic_axis():
  lines = [figures.Line("a", eps, (0.9, 0.1), (0.8, 0.0), (1.0, 0.2)) for eps in [(0.1, 1000.0)]]
  axis = figures.curves({"l2": lines}, "t", "y", "n").axes[0]
  assert axis.get_xscale() == "symlog"


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"grade_as": "norm"}, "unknown grade_as"),
    ({"name": "pgd", "grade_as": "clip", "hyperparameters": {}}, "for minimum-norm attacks"),
    ({"max_seconds": 0.0}, "max_seconds must be > 0"),
    ({"hyperparameters": {"eps": 0.1}}, "unknown hyperparameter of line"),
  ],
)
def test_settings_that_do_not_fit_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    run(tmp_path, None, PROTOCOL, [spec(**change)])
  assert not list(tmp_path.iterdir())


def test_an_optional_eps_is_only_a_hint(monkeypatch):
  def hinted(objective, *, eps: float | None = None): ...

  monkeypatch.setitem(gencls.attacks.REGISTRY, "hinted", hinted)
  assert [gencls.attacks.takes_eps(name) for name in ("pgd", "line", "hinted")] == [
    True,
    False,
    False,
  ]
  with pytest.raises(ValueError, match="did you mean 'pgd'"):
    gencls.attacks.takes_eps("pdg")
