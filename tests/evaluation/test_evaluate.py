"""The attack-and-grade loop on a Gaussian classifier with a known log p(x, y)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import (
  CLASSES,
  IDENTITY,
  LEVELS,
  SHAPE,
  cell_files,
  log_joint,
  protocol,
  run,
  specs,
  toy_images,
  toy_subject,
)

import gencls.attacks
from gencls import evaluate as evaluation
from gencls.evaluation.attack_specs import AttackSpec
from gencls.summary.summarise import summarise
from gencls.types import Loss


@pytest.fixture(scope="module")
def known(tmp_path_factory):
  folder = tmp_path_factory.mktemp("known")
  return folder, run(folder)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
  folder = tmp_path_factory.mktemp("fresh")
  return run(folder, toy_subject(noise=3.0), protocol("fresh_seed"))


# Clean numbers.


def test_clean_metrics_are_the_closed_forms(known):
  clean, dataset, params = known[1][0], toy_images(), toy_subject().params
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  joint = np.asarray(log_joint(params, x), np.float64)
  marginal = np.log(np.sum(np.exp(joint), axis=1))
  own = joint[np.arange(30), dataset.labels]
  metrics = {name: m["value"] for name, m in clean.header["metrics"].items()}
  assert metrics["elbo_nats"] == pytest.approx(np.mean(own), rel=1e-5)
  assert metrics["loss_nats"] == pytest.approx(-np.mean(own), rel=1e-5)
  assert metrics["log_marginal_nats"] == pytest.approx(np.mean(marginal), rel=1e-5)
  assert metrics["label_nll_nats"] == pytest.approx(np.mean(marginal - own), rel=1e-3)
  assert np.array_equal(clean.arrays["correct"], joint.argmax(1) == dataset.labels)


def test_bpd_is_the_mean_over_the_cells_of_dequantisation(known):
  """The expectation over u of the log density, by quadrature-free Monte Carlo in NumPy."""
  dataset, params = toy_images(), toy_subject().params
  rng, each = np.random.default_rng(0), []
  for _ in range(400):
    x = (dataset.images + rng.random(dataset.images.shape)) / LEVELS
    joint = np.asarray(log_joint(params, jnp.asarray(x, jnp.float32)), np.float64)
    each.append(np.log(np.sum(np.exp(joint), axis=1)))
  dims = np.prod(SHAPE)
  expected = -(np.array(each) - dims * np.log(LEVELS)) / (dims * np.log(2))
  found = known[1][0].arrays["bpd"]
  # One u per image: 5 standard errors of the mean over 30 images.
  assert np.mean(found) == pytest.approx(expected.mean(), abs=5 * expected.std(0).mean() / 30**0.5)


def test_bits_of_a_binary_model_are_those_of_its_probability(tmp_path):
  plain = toy_subject()
  subject = plain._replace(classifier=plain.classifier._replace(binary=True))
  cell = run(tmp_path, subject, the_specs=[])[0]
  bits = -cell.arrays["log_marginal_nats"] / (np.prod(SHAPE) * np.log(2))
  np.testing.assert_allclose(cell.arrays["bpd"], bits, rtol=1e-6)


def test_models_without_a_likelihood_say_why(tmp_path):
  metrics = run(tmp_path, toy_subject(score="posterior"), the_specs=[])[0].header["metrics"]
  for name in ("elbo_nats", "log_marginal_nats", "bpd"):
    assert metrics[name]["value"] is None
    assert "posterior" in metrics[name]["reason"]
  assert metrics["loss_nats"]["value"] > 0


def test_each_bound_has_its_own_name(tmp_path):
  def loss(params, keys, x, y, step):
    plain = toy_subject().classifier.loss(params, keys, x, y, step)
    return Loss(0.5 * plain.total, {"importance_weighted_bound": -plain.total})

  subject = toy_subject()
  subject = subject._replace(classifier=subject.classifier._replace(loss=loss))
  cell = run(tmp_path, subject, protocol(clean=("loss_nats", "elbo_nats")), [])[0]
  metrics = {name: m["value"] for name, m in cell.header["metrics"].items()}
  assert metrics["elbo_nats"] is None  # not −loss, which is weighted
  assert metrics["importance_weighted_bound_nats"] == pytest.approx(-2 * metrics["loss_nats"])
  warm = subject.classifier._replace(
    loss=lambda *a: Loss(toy_subject().classifier.loss(*a).total * 0.5, {"elbo": -a[2][:, 0, 0, 0]})
  )
  cell = run(tmp_path / "b", subject._replace(classifier=warm), protocol(), [])[0]
  x = np.asarray(toy_images().images / (LEVELS - 1), np.float32)
  assert cell.header["metrics"]["elbo_nats"]["value"] == pytest.approx(-x[:, 0, 0, 0].mean())


def test_clean_draws_differ_or_there_is_one(known, fresh, tmp_path):
  assert (known[1][0].header["draws"], known[1][0].header["deterministic"]) == (1, True)
  assert (fresh[0].header["draws"], fresh[0].header["deterministic"]) == (2, False)
  subject = toy_subject()

  def redraw(draw):
    params = {"mean": subject.params["mean"] + 0.1 * draw}
    return jax.tree_util.Partial(subject.classifier.logits, params)

  header = run(tmp_path, subject._replace(redraw=redraw), protocol(clean=()), [])[0]
  assert header.header["draws"] == 2
  logits = header.arrays["logits"]
  np.testing.assert_array_equal(logits[:, 0], known[1][0].arrays["logits"][:, 0])
  assert not np.allclose(logits[:, 0], logits[:, 1])


def test_nan_logits_are_counted_and_never_averaged(tmp_path):
  def broken(params, keys, x):
    del keys
    z = log_joint(params, x)
    return jnp.where(x[:, :1, 0, 0] > 0.7, jnp.nan, z)

  dataset = toy_images()
  bad = int(np.sum(np.asarray(dataset.images[:, 0, 0, 0] / (LEVELS - 1), np.float32) > 0.7))
  assert 0 < bad < 30
  cells = run(tmp_path, toy_subject(logits=broken), the_specs=[])
  assert int(np.sum(cells[1].arrays["nonfinite_grades"] > 0)) == bad
  metric = cells[0].header["metrics"]["log_marginal_nats"]
  assert metric["value"] is None
  assert f"{bad} of 30" in metric["reason"]
  checks = {check["name"]: check for check in summarise(cells)["checks"]}
  assert checks["every graded logit is finite"]["status"] == "fail"


# Cells.


def test_known_seed_cells_agree_with_an_independent_loop(known):
  """Graded predictions are those of x_adv, it is in the ball, clean errors stay errors."""
  cells = {(c.header["label"], c.header["eps"]): c for c in known[1]}
  pgd, dataset = cells["pgd", 0.1], toy_images()
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  x_adv = pgd.arrays["x_adv"]
  assert len(x_adv) == 4
  assert np.max(np.abs(x_adv - x[:4])) <= 0.1 + 1e-6
  joint = np.asarray(log_joint(toy_subject().params, x_adv))
  np.testing.assert_array_equal(pgd.arrays["prediction"][:4, 0], joint.argmax(1))
  np.testing.assert_allclose(pgd.arrays["norm"][:4], np.max(np.abs(x_adv - x[:4]), (1, 2, 3)))
  summary = summarise(known[1])
  row = next(r for r in summary["rows"] if r["label"] == "pgd" and r["eps"] == 0.1)
  untouched = cells["untouched", 0.0].arrays["correct"]
  expected = np.mean(np.minimum(untouched, pgd.arrays["correct"]))
  assert row["accuracy"]["mean"] == pytest.approx(expected)


def test_worst_case_is_below_every_row_and_grey_is_in_it(known):
  summary = summarise(known[1])
  for worst in summary["worst"]:
    rows = [r for r in summary["rows"] if r["eps"] == worst["eps"]]
    assert {r["label"] for r in rows} == {"grey", "fgsm", "pgd"}
    assert worst["accuracy"]["mean"] <= min(r["accuracy"]["mean"] for r in rows)
    assert worst["accuracy"]["n"] == sum(worst["chosen"].values()) == 30
  assert summary["worst"][1]["accuracy"]["mean"] <= 1 / CLASSES


def test_all_checks_pass_on_a_sound_evaluation(known):
  checks = summarise(known[1])["checks"]
  assert [c for c in checks if c["status"] == "fail"] == []
  passed = {c["name"] for c in checks if c["status"] == "pass"}
  assert "pgd (linf): accuracy falls with eps" in passed
  assert "iterated attacks beat single-step ones" in passed
  assert "worst case by the attacks of each eps alone (linf): accuracy falls with eps" in passed
  assert "at eps ≥ 0.5 (linf) attacks leave no more than the largest class right" in passed


@pytest.mark.parametrize("name", ["pgd", "pixel_flips", "latent_descent"])
def test_only_attacks_that_climb_must_beat_a_single_step_and_move(known, name):
  """PGD's cells as if the attack had found nothing, under its own name and others."""

  def idle(cell):
    if cell.header["label"] != "pgd":
      return cell
    attack = {**cell.header["settings"]["attack"], "name": name}
    header = {**cell.header, "settings": {**cell.header["settings"], "attack": attack}}
    arrays = {**cell.arrays, "norm": 0 * cell.arrays["norm"]}
    same = ("correct", "select_correct", "select_margin")
    return cell._replace(header=header, arrays=arrays | {n: known[1][1].arrays[n] for n in same})

  checks = {c["name"]: c["status"] for c in summarise([idle(cell) for cell in known[1]])["checks"]}
  climbs = name == "pgd"
  assert checks["iterated attacks beat single-step ones"] == ("fail" if climbs else "not run")
  assert checks["every attack moves every image it should"] == ("fail" if climbs else "pass")


@pytest.mark.filterwarnings("ignore:apgd_t takes the loss margin")  # for three classes
def test_an_ensemble_keeps_which_member_broke_an_image(tmp_path):
  settings = {"version": "apgd", "num_classes": 3, "num_steps": 4}
  ensemble = AttackSpec("aa", "auto_attack", "linf", (0.1,), "margin", 1, settings)
  cell = next(c for c in run(tmp_path, the_specs=[ensemble]) if c.header["label"] == "aa")
  broken_by, right = cell.arrays["broken_by"], cell.arrays["correct"] > 0
  np.testing.assert_array_equal(broken_by == -1, right)
  untouched = np.argmax(log_joint(toy_subject().params, toy_images().images / (LEVELS - 1)), axis=1)
  np.testing.assert_array_equal(broken_by == 0, untouched != toy_images().labels)
  assert set(broken_by) >= {-1, 0, 1}


def test_fresh_seed_cells(fresh):
  pgd = next(c for c in fresh if c.header["label"] == "pgd")
  assert pgd.arrays["prediction"].shape == (30, 20)
  assert pgd.header["settings"]["threat"] == "fresh_seed"
  expected = np.mean(pgd.arrays["prediction"] == pgd.arrays["label"][:, None], axis=1)
  np.testing.assert_allclose(pgd.arrays["correct"], expected, rtol=1e-6)
  assert not np.array_equal(pgd.arrays["correct"], pgd.arrays["select_correct"])
  summary = summarise(fresh)
  assert "effective" in summary["worst"][0]["accuracy"]["method"]
  check = {c["name"]: c for c in summary["checks"]}["forward pass and threat model agree"]
  assert check["detail"] == "randomised, fresh_seed"


def test_batch_size_decides_nothing(known, tmp_path):
  other = run(tmp_path, the_protocol=protocol(batch_size=7), the_specs=specs((0.1,))[:1])
  for one, two in zip(known[1], other, strict=False):  # clean, untouched, grey, fgsm
    assert one.header["settings"] == two.header["settings"]
    for name in ("prediction", "correct"):
      np.testing.assert_array_equal(one.arrays[name], two.arrays[name])


def test_finished_cells_are_never_redone(known, monkeypatch):
  folder, cells = known
  before = cell_files(folder)
  monkeypatch.setattr(gencls.attacks, "run", None)  # would fail if anything were attacked
  again = run(folder)
  assert cell_files(folder) == before
  for one, two in zip(cells, again, strict=True):
    assert one.header == two.header
    for name, value in one.arrays.items():
      np.testing.assert_array_equal(value, two.arrays[name])


@pytest.mark.parametrize(
  "change", [{"the_protocol": protocol(seed=1)}, {"step": 6}, {"params": "other"}, {"n": 29}]
)
def test_other_settings_are_other_cells(change, known, tmp_path):
  change = dict(change)
  the_protocol = change.pop("the_protocol", protocol())
  if "n" in change:
    change = {"data": {"name": "toy", "num_images": change["n"]}}
  old = evaluation.make_plans(known[0], protocol(), specs(), IDENTITY, toy_images())
  new = evaluation.make_plans(known[0], the_protocol, specs(), {**IDENTITY, **change}, toy_images())
  assert not {p.path for p in old} & {p.path for p in new}


def test_another_eps_keeps_the_cells_that_are_there():
  few = evaluation.make_plans(Path("f"), protocol(), specs((0.1,)), IDENTITY, toy_images())
  more = evaluation.make_plans(Path("f"), protocol(), specs(), IDENTITY, toy_images())
  assert {p.path for p in few} < {p.path for p in more}


def test_a_killed_evaluation_continues(known, tmp_path, monkeypatch):
  real, calls = gencls.attacks.run, []

  def dies(*args, **kwargs):
    calls.append(1)
    if len(calls) == 6:  # 4 batches of fgsm at 0.1, then pgd
      raise KeyboardInterrupt
    return real(*args, **kwargs)

  monkeypatch.setattr(gencls.attacks, "run", dies)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path)
  done = cell_files(tmp_path)
  assert len(done) == 4  # clean, untouched, grey, fgsm
  monkeypatch.setattr(gencls.attacks, "run", real)
  cells = run(tmp_path)
  assert done.items() <= cell_files(tmp_path).items()
  assert summarise(cells)["worst"] == summarise(known[1])["worst"]


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"name": "pdg"}, "did you mean 'pgd'"),
    ({"hyperparameters": {"num_step": 3}}, "did you mean 'num_steps'"),
    ({"loss": "margn"}, "did you mean 'margin'"),
    ({"norm": "l3"}, "unknown norm 'l3'.* Valid: l1, l2, linf"),  # of pgd; deepfool takes it
    ({"norm": "l0.5"}, "number p >= 1 .*, got 'l0.5'"),
    ({"eps": (-0.1,)}, "eps must be finite and >= 0"),
    ({"label": "grey"}, "label is taken"),
    ({"name": "ddn", "hyperparameters": {}}, "minimises l2 .* got norm='linf': set norm='l2'"),
    ({"name": "boundary", "norm": "l1", "hyperparameters": {}}, "boundary minimises l2"),
    ({"name": "foolbox:LinfPGD", "eot_samples": 10}, "leave eot_samples=1 and loss='margin'"),
    ({"name": "foolbox:LinfPGD", "loss": "cross_entropy"}, "got 1 and 'cross_entropy'"),
  ],
)
def test_bad_attacks_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    run(tmp_path, the_specs=[specs()[1]._replace(**change)])
  assert cell_files(tmp_path) == {}


def test_attacks_without_a_norm_may_be_measured_in_any():
  for name in ("gaussian_blur", "pointwise", "linear_search_contrast", "carlini_wagner"):
    evaluation.check_specs([specs()[1]._replace(name=name, norm="l2", hyperparameters={})])
  evaluation.check_specs([specs()[1]._replace(name="pointwise", norm="l0", hyperparameters={})])


@pytest.mark.parametrize(
  ("name", "hyperparameters", "change"),
  [
    ("fgsm", {"check_result": False}, {}),
    ("carlini_wagner", {"num_steps": 6, "step_size": 0.1, "confidence": 9.0}, {"norm": "l2"}),
    ("carlini_wagner", {"num_steps": 1, "failed": "black"}, {"norm": "l2"}),
  ],
)
def test_what_an_attack_does_not_claim_is_no_disagreement(name, hyperparameters, change, tmp_path):
  spec = AttackSpec("one", name, "linf", (0.3,), "margin", 1, hyperparameters)._replace(**change)
  summary = summarise(run(tmp_path, None, protocol(clean=()), [spec]))
  found = [row["disagree"] for row in [*summary["rows"], *summary["minimum"]] if "disagree" in row]
  assert found[0] > 1  # more than one image
  check = {c["name"]: c for c in summary["checks"]}["attack and grading agree"]
  assert check["status"] == "not run"


def test_a_known_seed_is_one_function():
  k10, k100 = ({"name": "gfz", "num_samples": k} for k in (10, 100))
  with pytest.raises(ValueError, match="num_samples: 100 -> 10"):
    evaluation.check_protocol(protocol(), {"model": k100, "attack_model": k10})
  evaluation.check_protocol(protocol(), {"model": k10, "attack_model": k10})
  evaluation.check_protocol(protocol("fresh_seed"), {"model": k100, "attack_model": k10})
  gradient_only = {"detached_target": True, "backward": "flip", "detached": True}
  masked = {**k10, **gradient_only}
  evaluation.check_protocol(protocol(), {"model": k10, "attack_model": masked})  # one function
