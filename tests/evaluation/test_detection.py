"""Evaluations with a detector: the predicate, the cells, the numbers, on the Gaussian toy."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn import metrics
from toy_detection import DETECTION, SEEING, detected
from toy_evaluation import (
  IDENTITY,
  LEVELS,
  cell_files,
  full_summary,
  log_joint,
  protocol,
  specs,
  toy_images,
  toy_subject,
)

import gencls.attacks
from gencls import detect, evaluate
from gencls.evaluation import grading, results
from gencls.evaluation.acceptance import as_held
from gencls.evaluation.results import Cell
from gencls.report import compare, detection_table, pages, table
from gencls.summary import detection, roc
from gencls.summary.summarise import summarise
from gencls.thresholds import Rule


@pytest.fixture(scope="module")
def known(tmp_path_factory):
  folder = tmp_path_factory.mktemp("known")
  return folder, detected(folder)


# The predicate.


def test_misclassified_and_accepted_by_hand():
  """Margins and scores of five images; the last has no finite logit."""
  margins = np.array([2.0, 2.0, -3.0, -3.0, np.nan], np.float32)
  score = np.array([1.0, -1.0, 1.0, -5.0, 1.0], np.float32)

  def logits_fn(keys, x):
    return jnp.stack([x[:, 0, 0, 0], jnp.zeros(len(x))], axis=1)

  def accept(keys, x, logits):
    return x[:, 0, 1, 0] + 0 * logits[:, 0]

  x = np.stack([margins, score], axis=1).reshape(5, 1, 2, 1)
  once = {"threat": "known_seed", "seed": 0, "select_draws": 1}
  given = (jax.tree_util.Partial(logits_fn), x, np.zeros(5, int), np.arange(5))
  accept = jax.tree_util.Partial(accept)
  verdict = grading.grade(*given, **once, grade_draws=1, accept=accept).verdict
  np.testing.assert_array_equal(verdict.accepted[:, 0], [True, False, True, False, False])
  np.testing.assert_array_equal(verdict.held, [1, 1, 0, 1, 1])
  np.testing.assert_array_equal(verdict.select_held, verdict.held)
  np.testing.assert_array_equal(verdict.select_held_margin, [2, 2, -1, 5, np.inf])
  one = {"threat": "known_seed", "seed": 0, "purpose": "select", "draws": 1}
  np.testing.assert_array_equal(grading.share_right(*given, **one, accept=accept), verdict.held)
  np.testing.assert_array_equal(grading.share_right(*given, **one), [1, 1, 0, 0, 0])
  assert grading.grade(*given, **once, grade_draws=1).verdict is None


def test_every_draw_has_its_own_verdict():
  subject, dataset = toy_subject(noise=20.0), toy_images()
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  fitted = detect.Fitted({}, jnp.full(3, 20.0))
  draws = {"threat": "fresh_seed", "seed": 0, "select_draws": 3, "grade_draws": 20}
  graded = grading.grade(subject.logits_fn, x, dataset.labels, dataset.indices, **draws,
                         accept=detect.detector("marginal", fitted))  # fmt: skip
  for purpose, share in (("grade", graded.verdict.held), ("select", graded.verdict.select_held)):
    count, found = draws[f"{purpose}_draws"], np.zeros(30)
    for draw in range(count):
      keys = grading.draw_keys("fresh_seed", 0, dataset.indices, purpose, draw)
      logits = np.asarray(subject.logits_fn(keys, x), np.float64)
      evades = (logits.argmax(1) != dataset.labels) & (logsumexp(logits, axis=1) >= 20.0)
      found += ~evades
    np.testing.assert_allclose(share, found / count, rtol=1e-6)
    assert len(set(share.tolist())) > 2


# Cells.


def test_without_a_detector_the_cells_are_what_they_were(tmp_path):
  """The names of the settings of evaluations that were made before there were detectors."""
  plans = evaluate.make_plans(tmp_path, protocol(), specs(), IDENTITY, toy_images())
  made_by = {"evaluation", "backend", "data", "params", "step", "label", "norm", "eps"}
  draws = {"threat", "seed", "select_draws", "grade_draws"}
  by_label = {plan.label: plan.settings for plan in plans}
  assert set(by_label) == {"clean", "untouched", "grey", "fgsm", "pgd"}
  assert by_label["untouched"].keys() == made_by | draws
  assert by_label["pgd"].keys() == made_by | draws | {"attack"}
  own = {"label", "name", "norm", "loss", "eot_samples", "hyperparameters", "keep_images"}
  assert by_label["pgd"]["attack"].keys() == own
  named = [spec._replace(against="classifier") for spec in specs()]
  again = evaluate.make_plans(tmp_path, protocol(), named, IDENTITY, toy_images())
  assert [plan.path for plan in plans] == [plan.path for plan in again]
  with_one = evaluate.make_plans(tmp_path, protocol(), specs(), IDENTITY, toy_images(), DETECTION)
  shared = {plan.path for plan in plans} & {plan.path for plan in with_one}
  assert shared == {plans[0].path}  # the clean cell alone is not graded


def test_a_detector_is_fitted_once_and_nothing_is_redone(known, monkeypatch):
  folder, cells = known
  before = cell_files(folder)
  assert sum(name.startswith("detector") for name in before) == 1
  monkeypatch.setattr(gencls.attacks, "run", None)
  monkeypatch.setattr(detect, "fit", None)
  again = detected(folder)
  assert cell_files(folder) == before
  for one, two in zip(cells, again, strict=True):
    assert one.header == two.header
  plain = detected(folder, the_specs=[], detection=None)
  assert [cell.header["label"] for cell in plain] == ["clean", "untouched"]
  assert "accepted" not in plain[1].arrays and summarise(plain)["detection"] is None


def test_another_detector_is_another_cell(known):
  def paths(**change):
    detection = DETECTION._replace(spec=DETECTION.spec._replace(**change))
    return {
      p.path
      for p in evaluate.make_plans(
        known[0], protocol(clean=()), specs(), IDENTITY, toy_images(), detection
      )
    }

  same = paths()
  for change in ({"name": "joint"}, {"per_class": True}, {"rule": Rule("quantile", 0.1)}):
    assert len(paths(**change) & same) == 1  # clean


def test_cells_hold_the_verdict_of_an_independent_loop(known):
  params = toy_subject().params
  validation = np.asarray(DETECTION.dataset.images / (LEVELS - 1), np.float32)
  marginal = np.sort(logsumexp(np.asarray(log_joint(params, validation), np.float64), axis=1))
  detector = known[1][-1]
  threshold = detector.header["fitted"]["threshold"]
  np.testing.assert_allclose(threshold, marginal[4], rtol=1e-5)  # 5% of 80 are 4
  assert np.sum(~detector.arrays["accepted"]) == 4
  for cell in known[1][1:-1]:
    logits = np.asarray(cell.arrays["logits"], np.float64)
    score = logsumexp(logits, axis=1) - threshold[0]
    np.testing.assert_allclose(cell.arrays["score"][:, 0], score, rtol=1e-3, atol=1e-4)
    wrong = logits.argmax(1) != cell.arrays["label"]
    evades = wrong & (cell.arrays["score"][:, 0] >= 0)
    np.testing.assert_array_equal(cell.arrays["held"], ~evades)
    view = as_held(cell).arrays
    np.testing.assert_array_equal(view["correct"], ~evades)
    np.testing.assert_array_equal(view["select_correct"], ~evades)
    np.testing.assert_array_equal(view["select_margin"] > 0, ~evades)


# Numbers.


def test_the_numbers_of_a_detector(known):
  cells = known[1]
  found = summarise(cells)["detection"]
  own = {(cell.header["label"], cell.header["eps"]): cell.arrays for cell in cells}
  untouched = own["untouched", 0.0]
  assert found["fitting_rejected"]["mean"] == 4 / 80
  assert found["test_rejected"]["mean"] == np.mean(untouched["score"] < 0)
  worst = {(row["kind"], row["eps"]): row["evading"]["mean"] for row in found["worst"]}
  for row in found["rows"]:
    arrays = own[row["label"], row["eps"]]
    wrong = arrays["prediction"][:, 0] != arrays["label"]
    accepted = arrays["score"][:, 0] >= 0
    clean_evades = (untouched["prediction"] != untouched["label"][:, None]) & untouched["accepted"]
    evades = (wrong & accepted) | clean_evades[:, 0]
    assert row["evading"]["mean"] == pytest.approx(np.mean(evades))
    assert row["evading"]["n"] == 30
    assert worst[row["against"], row["eps"]] >= row["evading"]["mean"] - 1e-9
    if not np.any(wrong):
      assert row["detected"] is None
      continue
    assert row["detected"]["mean"] == pytest.approx(np.mean(~accepted[wrong]))
    assert row["detected"]["n"] == np.sum(wrong)
    scores = np.concatenate([untouched["score"][:, 0], arrays["score"][wrong, 0]])
    truth = np.repeat([1, 0], [30, np.sum(wrong)])
    assert row["auc"] == pytest.approx(metrics.roc_auc_score(truth, scores))
    if np.sum(wrong) < roc.FEWEST:
      assert row["auc_interval"] is None
      continue
    ends = row["auc_interval"]
    assert ends["low"] <= row["auc"] <= ends["high"] and ends["n"] == np.sum(wrong)
  for eps in (0.1, 0.5):
    both = [worst[kind, eps] for kind in ("classifier", "detector", "either")]
    assert both[2] >= max(both[:2]) and both[1] >= both[0]


def test_seeing_the_detector_pays(known):
  """At 0.5 most of PGD's images are rejected; with the detector's term none is."""
  rows = {(row["label"], row["eps"]): row for row in summarise(known[1])["detection"]["rows"]}
  blind, seeing = (rows[label, 0.5]["evading"]["mean"] for label in ("pgd", "pgd_detector"))
  assert blind < 0.5 and seeing > 0.9, (blind, seeing)


def _named(cell, name):
  """An attack's cell as if it had been another attack."""
  if "attack" not in cell.header["settings"]:
    return cell
  attack = {**cell.header["settings"]["attack"], "name": name}
  settings = {**cell.header["settings"], "attack": attack}
  return cell._replace(header={**cell.header, "settings": settings})


def test_all_checks_pass_and_one_is_about_the_detector(known):
  summary = summarise(known[1])
  checks = {check["name"]: check["status"] for check in summary["checks"]}
  assert "fail" not in checks.values(), checks
  name = "attacks on the detector beat those that do not see it"
  assert checks[name] == "pass"
  assert checks["pgd_detector (linf): the share right or rejected falls with eps"] == "pass"

  stepping = summarise([_named(cell, "fgsm") for cell in known[1]])["checks"]
  assert not any("the share right" in c["name"] and "pgd" in c["name"] for c in stepping)

  def idle(cell):  # as if the attack on the detector had found nothing
    same = ("held", "select_held", "select_held_margin")
    if cell.header["label"] != "pgd_detector":
      return cell
    return cell._replace(arrays=cell.arrays | {n: known[1][1].arrays[n] for n in same})

  def fooled(cell):  # and the blind one everything
    if cell.header["label"] != "pgd":
      return cell
    arrays = {n: 0 * cell.arrays[n] for n in ("held", "select_held")}
    return cell._replace(arrays=cell.arrays | arrays)

  broken = summarise([fooled(idle(cell)) for cell in known[1]])["checks"]
  assert {check["name"]: check["status"] for check in broken}[name] == "fail"


def test_a_fresh_seed_gives_shares_of_draws(tmp_path):
  the_protocol = protocol("fresh_seed", clean=())
  cells = detected(tmp_path, toy_subject(noise=3.0), the_protocol, [specs((0.3,))[1], *[
    spec._replace(eps=(0.3,), eot_samples=3) for spec in SEEING]])  # fmt: skip
  pgd = next(cell for cell in cells if cell.header["label"] == "pgd_detector")
  assert pgd.arrays["accepted"].shape == (30, 20)
  wrong = pgd.arrays["prediction"] != pgd.arrays["label"][:, None]
  held = np.mean(~(wrong & pgd.arrays["accepted"]), axis=1)
  np.testing.assert_allclose(pgd.arrays["held"], held, rtol=1e-6)
  row = next(r for r in summarise(cells)["detection"]["rows"] if r["label"] == "pgd_detector")
  rejected = np.sum(wrong & ~pgd.arrays["accepted"]) / np.sum(wrong)
  assert row["detected"]["mean"] == pytest.approx(rejected)


def test_tables_and_figures(known, tmp_path):
  summary = full_summary(summarise(known[1]), protocol(clean=()))
  text = table.markdown(summary)
  assert "attack the classifier" in text and "attack classifier and detector" in text
  assert "quantile (false_positive_rate 0.05), fitted to 80 validation images" in text
  for row in [*summary["detection"]["rows"], *summary["detection"]["worst"]]:
    assert table.percent(row["evading"]) in text
  beside = compare.detection({"A": summary, "B": summary})
  assert "B: worst case over both" in beside and "\n\n**B**\n\n| linf " in beside
  for row in summary["detection"]["rows"]:
    for words in (text, beside):
      assert detection_table.area(row) in words
      assert row["detected"] is None or table.percent(row["detected"]) in words
  older = {name: value for name, value in row.items() if name != "auc_interval"}
  assert detection_table.area(older) == f"{row['auc']:.3f}"
  assert compare.detection({"A": {}, "B": {**summary, "detection": None}}) == ""
  blind = copy.deepcopy(summary)
  blind["detection"]["worst"] = [
    r for r in summary["detection"]["worst"] if r["kind"] != "detector"
  ]
  both = compare.detection({"A": blind}, {"A": summary})
  assert "A: attack the classifier" in both and "**A: worst case over both" not in both
  assert "A, honest: attack classifier and detector" in both
  assert "* A, honest. Detector: marginal" in both and "**A, honest: worst case over" in both
  images = np.zeros((4, 4, 4, 1), np.float32)
  paths = pages.write(summary, known[1], images, results=tmp_path, figure_folder=tmp_path)
  assert "toy_roc.png" in {path.name for path in paths}
  assert (tmp_path / "toy_roc.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"the_specs": SEEING, "detection": None}, "evaluation has none: set config.detector.name"),
    ({"the_specs": [specs()[0]._replace(against="detecto")]}, "did you mean 'detector'"),
    ({"the_specs": [SEEING[0]._replace(name="foolbox:LinfPGD")]}, "see the classifier alone"),
    ({"the_specs": [specs()[0]._replace(accept_weight=2.0)]}, "does not see: leave it None"),
    ({"the_specs": [SEEING[0]._replace(accept_weight=-1.0)]}, "finite number > 0, got -1.0"),
    ({"the_specs": [specs()[0]._replace(label="detector")]}, "label is taken"),
    ({"subject": toy_subject(score="posterior")}, "has no log p.x.. Use 'kl' or 'tv'"),
    ({"detection": DETECTION._replace(spec=DETECTION.spec._replace(classes="truth"))},
     "unknown classes 'truth'"),
    ({"detection": DETECTION._replace(dataset=toy_images(0))}, "split of toy is empty"),
  ],
)  # fmt: skip
def test_what_does_not_fit_fails_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    detected(tmp_path, **change)
  assert cell_files(tmp_path) == {}


def test_configs_without_a_detector_continue_older_evaluations(tmp_path):
  old = {"name": "a", "attacks": {"pgd": {"eps": [0.1]}}, "seed": 0}
  path = tmp_path / "table.json"
  path.write_text('{"config": {"name": "a", "attacks": {"pgd": {"eps": [0.1]}}, "seed": 0}}')
  off = {"name": None, "false_positive_rate": 0.05}
  pgd = {"pgd": {"eps": [0.1], "against": None, "accept_weight": None}}
  results.check_same_evaluation(path, {**old, "attacks": pgd, "detector": off})
  with pytest.raises(ValueError, match=r"detector: '\(absent\)' -> "):
    results.check_same_evaluation(path, {**old, "detector": {**off, "name": "marginal"}})


@pytest.mark.parametrize(
  ("rule", "rejected", "status"),
  [
    ({"name": "quantile", "false_positive_rate": 0.05}, 50, "pass"),
    ({"name": "quantile", "false_positive_rate": 0.05}, 25, "pass"),
    ({"name": "quantile", "false_positive_rate": 0.05}, 6, "fail"),
    ({"name": "quantile", "false_positive_rate": 0.0}, 0, "pass"),
    ({"name": "mean_std", "alpha": 1.5}, 0, "pass"),
  ],
)
def test_a_detector_of_equal_values_does_not_reject_what_it_may(rule, rejected, status):
  header = {"settings": {"detector": {"name": "tv", "rule": rule}}}
  found = detection.check_rate(Cell(header, {"accepted": np.arange(1000) >= rejected}))
  assert found.status == status
  assert status == "pass" or found.detail.startswith("0.6% of 1000 fitting images, of 5%: many")


def test_the_rate_is_of_the_images_that_the_detector_was_fitted_to():
  """Sixty wrong images are rejected, of the right ones, which it was fitted to, none."""
  right = np.arange(1000) >= 60
  spec = {"rule": {"name": "quantile", "false_positive_rate": 0.05}, "only_correct": True}
  cell = Cell({"settings": {"detector": spec}}, {"accepted": right, "correct": np.float32(right)})
  found = detection.check_rate(cell)
  assert found.status == "fail" and found.detail.startswith("0.0% of 940 fitting images, of 5%")
