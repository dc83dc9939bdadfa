"""The attack-and-grade loop on a Gaussian classifier with a known log p(x, y)."""

import errno
import json
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
  record,
  specs,
  toy_images,
  toy_subject,
)

import gencls.attacks
from gencls import evaluate as evaluation
from gencls import grading, sanity
from gencls.attacks.losses import LOSSES
from gencls.grading import attack_keys, check_draws, draw_keys, grade, grey, reclip, worst_case
from gencls.report.checks import _step_pairs
from gencls.report.summary import summarise
from gencls.results import (
  Cell,
  check_same_evaluation,
  data_digest,
  portable_command,
  read_cell,
  write_cell,
)
from gencls.types import Loss

GRADE = {"threat": "known_seed", "seed": 0, "select_draws": 1, "grade_draws": 1}


def run(folder, subject=None, the_protocol=None, the_specs=None, n=30, **identity):
  the_specs = specs() if the_specs is None else the_specs
  return evaluation.evaluate(
    subject or toy_subject(),
    toy_images(n),
    the_protocol or protocol(),
    the_specs,
    folder=folder,
    identity={**IDENTITY, **identity},
    record=record(),
    progress=False,
  )


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


# Grading.


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reclip_brings_back_and_leaves_alone(norm):
  rng = np.random.default_rng(0)
  x = rng.random((6, *SHAPE)).astype(np.float32)
  wild = (x + rng.standard_normal(x.shape)).astype(np.float32)
  fixed, outside = reclip(wild, x, norm, 0.2)
  assert outside.all()
  assert (grading.perturbation_norm(fixed, x, norm) <= 0.2 + 1e-6).all()
  assert fixed.min() >= 0
  assert fixed.max() <= 1
  again, outside = reclip(fixed, x, norm, 0.2)
  assert not outside.any()
  np.testing.assert_array_equal(again, fixed)


def test_the_tolerance_never_shrinks_eps():
  x = np.zeros((1, *SHAPE), np.float32)
  at = np.full_like(x, 0.5)
  np.testing.assert_array_equal(reclip(at, x, "linf", 0.5)[0], at)
  beyond, outside = reclip(at + np.float32(1e-5), x, "linf", 0.5)
  assert outside.all()
  np.testing.assert_array_equal(beyond, at)


def test_non_finite_adversarials_are_an_error():
  x = np.zeros((2, *SHAPE), np.float32)
  with pytest.raises(ValueError, match="non-finite pixels for 1 of 2"):
    reclip(np.where(np.arange(2)[:, None, None, None] == 1, np.nan, x), x, "linf", 0.1)


def test_grey_is_reached_exactly_at_half():
  x = np.random.default_rng(0).random((5, *SHAPE)).astype(np.float32)
  np.testing.assert_array_equal(grey(x, "linf", 0.5), np.full_like(x, 0.5))
  near = grey(x, "l2", 0.3)
  np.testing.assert_allclose(grading.perturbation_norm(near, x, "l2"), 0.3, rtol=1e-5)


def test_known_seed_shares_the_key_and_fresh_seed_does_not():
  index = np.arange(3)

  def bits(keys):
    return np.asarray(jax.random.key_data(keys)).tolist()

  known_attack = bits(attack_keys("known_seed", 0, index))
  assert known_attack == bits(draw_keys("known_seed", 0, index, "grade", 0))
  streams = [bits(attack_keys("fresh_seed", 0, index))]
  for purpose in ("select", "grade"):
    streams += [bits(draw_keys("fresh_seed", 0, index, purpose, d)) for d in (0, 1)]
  assert len({str(stream) for stream in streams}) == 5


def test_grading_is_the_mean_over_draws():
  subject = toy_subject(noise=5.0)
  dataset = toy_images(12)
  x = np.asarray(dataset.images / (LEVELS - 1), np.float32)
  many = {**GRADE, "threat": "fresh_seed", "select_draws": 3, "grade_draws": 20}
  found = grade(subject.logits_fn, x, dataset.labels, dataset.indices, **many)
  keys = [draw_keys("fresh_seed", 0, dataset.indices, "grade", d) for d in range(20)]
  right = [np.argmax(subject.logits_fn(k, x), 1) == dataset.labels for k in keys]
  np.testing.assert_allclose(found.correct, np.mean(right, 0), rtol=1e-6)
  assert len(np.unique(found.correct)) > 2


@pytest.mark.parametrize(
  ("threat", "draws", "match"),
  [
    ("known_seed", (1, 20), "fresh_seed"),
    ("fresh_seed", (5, 19), "grade_draws >= 20"),
    ("fresh_sed", (5, 20), "did you mean 'fresh_seed'"),
  ],
)
def test_draws_must_fit_the_threat_model(threat, draws, match):
  with pytest.raises(ValueError, match=match):
    check_draws(threat, *draws)


def test_worst_case_chooses_on_select_and_reports_grade():
  select = [np.array([1.0, 0.4, 0.5, 1.0]), np.array([0.2, 0.6, 0.5, 1.0])]
  margins = [np.array([-9.0, 1.0, 0.0, 2.0]), np.array([1.0, -9.0, 0.0, 1.0])]
  graded = [np.array([1.0, 0.9, 0.3, 1.0]), np.array([0.3, 0.0, 0.1, 0.9])]
  pick, correct = worst_case(select, margins, graded)
  assert pick.tolist() == [1, 0, 0, 1]
  np.testing.assert_allclose(correct, [0.3, 0.9, 0.3, 0.9])  # not the minimum of the graded ones


def test_an_attack_that_fails_now_and_then_is_not_hidden_by_ties():
  """p(correct) = 0.95: most images tie with the untouched one on five select draws."""
  rng = np.random.default_rng(0)
  z = 1.645 + rng.standard_normal((25, 4000))  # the margin of each draw; right with p = 0.95
  untouched = np.full((25, 4000), 9.0)
  select, graded = [[v[:5] > 0 for v in (untouched, z)], [v[5:] > 0 for v in (untouched, z)]]
  shares = [[np.mean(v, axis=0) for v in draws] for draws in (select, graded)]
  margins = [np.mean(v[:5], axis=0) for v in (untouched, z)]
  assert np.mean(worst_case(shares[0], margins, shares[1])[1]) == pytest.approx(0.95, abs=0.005)


def test_margins_of_non_finite_rows_are_the_worst():
  z = np.array([[3.0, 1.0], [np.nan, 0.0], [np.inf, 0.0], [0.0, 2.0]])
  found = grading.margin(z, np.zeros(4, np.int32))
  np.testing.assert_array_equal(found, [2.0, -np.inf, -np.inf, -2.0])


def test_worst_case_of_pure_noise_is_not_biased_down():
  """Candidates that are all alike: choosing on the graded draws would report too little."""
  rng = np.random.default_rng(0)
  select, graded = rng.binomial(20, 0.8, (2, 8, 4000)) / 20
  found = worst_case(list(select), list(rng.random((8, 4000))), list(graded))[1]
  assert np.mean(found) == pytest.approx(0.8, abs=0.005)
  assert np.mean(np.min(graded, axis=0)) < 0.7


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
  assert "at eps ≥ 0.5 (linf) no more than the largest class is right" in passed


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


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"name": "pdg"}, "did you mean 'pgd'"),
    ({"hyperparameters": {"num_step": 3}}, "did you mean 'num_steps'"),
    ({"loss": "margn"}, "did you mean 'margin'"),
    ({"norm": "l3"}, "unknown norm"),
    ({"eps": (-0.1,)}, "eps must be finite and >= 0"),
    ({"label": "grey"}, "label is taken"),
  ],
)
def test_bad_attacks_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    run(tmp_path, the_specs=[specs()[1]._replace(**change)])
  assert cell_files(tmp_path) == {}


def test_a_known_seed_is_one_function():
  k10, k100 = ({"name": "gfz", "num_samples": k} for k in (10, 100))
  with pytest.raises(ValueError, match="num_samples: 100 -> 10"):
    evaluation.check_protocol(protocol(), {"model": k100, "attack_model": k10})
  evaluation.check_protocol(protocol(), {"model": k10, "attack_model": k10})
  evaluation.check_protocol(protocol("fresh_seed"), {"model": k100, "attack_model": k10})


def test_another_evaluation_is_not_overwritten(tmp_path):
  path = tmp_path / "table.json"
  old = {"name": "e", "seed": 0, "batch_size": None, "model": {"num_samples": None}}
  old["attacks"] = {"pgd": {"eps": (0.1, 0.2), "num_steps": 40}}
  check_same_evaluation(path, old)  # nothing there yet
  path.write_text(json.dumps({"config": old}))
  more = {"pgd": {"eps": (0.1, 0.2, 0.3), "num_steps": 40}, "fgsm": {"eps": (0.1,)}}
  for same in ({}, {"batch_size": 7}, {"attacks": more}):
    check_same_evaluation(path, {**old, **same})
  fewer, longer = ({"pgd": {"eps": e, "num_steps": n}} for e, n in (((0.1,), 40), ((0.1, 0.2), 80)))
  for other, match in (
    ({"model": {"num_samples": 100}}, "model.num_samples: None -> 100"),
    ({"seed": 1}, r"seed: 0 -> 1.*--config\.name="),
    ({"attacks": longer}, "num_steps: 40 -> 80"),
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


def test_mixed_origins_are_found():
  mixed = {"revision": ["a", "b"], "device": ["cpu"]}
  assert sanity.one_origin(mixed).detail == "revision: a / b"
  assert sanity.one_origin(mixed).status == "fail"
  assert sanity.one_origin({"revision": ["a"]}).status == "pass"


def test_commands_lose_the_folders_of_this_machine(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  command = f"{tmp_path}/launch/evaluate.py --workdir={tmp_path}/runs/gfz --data=/mnt/x/mnist --n=3"
  assert portable_command(command) == "launch/evaluate.py --workdir=runs/gfz --data=mnist --n=3"


# Sanity checks: each must be able to fail.


def curve(label, means, eps=(0.0, 0.1, 0.2), n=100):
  shares = tuple(np.repeat([1.0, 0.0], [round(n * m), n - round(n * m)]) for m in means)
  return sanity.Curve(label, "linf", eps, shares)


def test_monotone_allows_one_image_and_no_more():
  assert sanity.monotone(curve("a", (0.9, 0.5, 0.51)), 1).status == "pass"
  single = curve("a", (0.9, 0.5, 0.51))  # as cells hold them
  single = single._replace(correct=tuple(c.astype(np.float32) for c in single.correct))
  assert sanity.monotone(single, 1).status == "pass"
  check = sanity.monotone(curve("a", (0.9, 0.5, 0.52)), 1)
  assert check.status == "fail"
  assert "0.1 → 0.2: +2.0" in check.detail


def test_half_box():
  labels = np.repeat([0, 1], [60, 40])
  good, bad = (curve("w", (0.9, share), (0.0, 0.5)) for share in (0.6, 0.61))
  assert sanity.half_box(good, labels).status == "pass"
  assert sanity.half_box(bad, labels).status == "fail"
  assert sanity.half_box(curve("w", (0.9, 0.1), (0.0, 0.4)), labels).status == "not run"


def test_weak_iterated_attack_is_found():
  single = [curve("fgsm", (0.9, 0.5, 0.3))]
  weak = sanity.iterated_beats_single(single, [curve("pgd", (0.9, 0.6, 0.3))], 1)
  assert weak.status == "fail"
  assert sanity.iterated_beats_single(single, [curve("pgd", (0.9, 0.4, 0.3))], 1).status == "pass"


def test_an_attack_that_needed_more_steps_is_found():
  few, many = curve("pgd", (0.9, 0.5, 0.3)), curve("pgd100", (0.9, 0.5, 0.29))
  assert sanity.doubling([(few, many)], 1).status == "pass"
  assert sanity.doubling([(few, curve("pgd100", (0.9, 0.4, 0.3)))], 1).status == "fail"
  assert sanity.doubling([], 1).status == "not run"


def test_pairs_differ_in_the_steps_alone():
  def cell(label, **hyperparameters):
    attack = {"name": "pgd", "loss": "margin", "label": label, "hyperparameters": hyperparameters}
    return Cell({"label": label, "settings": {"attack": attack}}, {})

  cells = [
    cell("a", num_steps=40, rel_step_size=0.1, random_start=True),
    cell("b", num_steps=100, rel_step_size=0.05, random_start=True),
    cell("c", num_steps=100, rel_step_size=0.05, random_start=False),
    cell("d", num_steps=60, rel_step_size=0.05, random_start=True),
  ]
  curves = [curve(c.header["label"], (0.9, 0.5, 0.3)) for c in cells]
  found = [(few.label, many.label) for few, many in _step_pairs(curves, cells)]
  assert found == [("a", "b")]


def test_disagreement_beyond_one_image_is_found():
  assert sanity.attack_agrees({"pgd": 1}, 100).status == "pass"
  assert sanity.attack_agrees({"fgsm": 0, "pgd": 2}, 100).status == "fail"
  assert sanity.attack_agrees({}, 100).status == "not run"


def test_probabilities_are_found():
  z = np.random.default_rng(0).standard_normal((5, 4)) * 3
  p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
  assert sanity.not_probabilities(z).status == "pass"
  assert sanity.not_probabilities(p).status == "fail"
  assert sanity.not_probabilities(np.log(p)).status == "fail"


def test_randomness_is_found_and_compared():
  dataset = toy_images(4)
  x = jnp.asarray(dataset.images / (LEVELS - 1), jnp.float32)
  one, two = (draw_keys("fresh_seed", 0, dataset.indices, "grade", d) for d in (0, 1))
  plain = sanity.detect_randomness(toy_subject().logits_fn, one, two, x)
  noisy = sanity.detect_randomness(toy_subject(noise=1.0).logits_fn, one, two, x)
  assert not plain.randomised
  assert noisy.randomised
  assert "coincide" in sanity.threat_fits(plain, "fresh_seed").detail
  unrepeatable = plain._replace(repeatable=False)
  assert sanity.threat_fits(unrepeatable, "fresh_seed").status == "fail"
  assert sanity.threat_fits(noisy, "fresh_seed").status == "pass"
  hidden = sanity.Randomness(randomised=True, repeatable=False)
  assert sanity.threat_fits(hidden, "known_seed").status == "fail"


def test_zero_gradients_of_a_saturated_loss_are_counted():
  logits = np.array([[0.0, -300.0], [0.0, -1.0], [-300.0, 0.0]], np.float32)
  labels = np.zeros(3, np.int32)
  found = {
    name: sanity.zero_gradients(LOSSES[name], logits, labels).tolist()
    for name in ("cross_entropy", "margin")
  }
  assert found == {"cross_entropy": [True, False, False], "margin": [False] * 3}
