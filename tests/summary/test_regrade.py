"""The worst case under other numbers of importance samples, on an estimator with known noise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import (
  CLASSES,
  IDENTITY,
  full_summary,
  log_joint,
  protocol,
  record,
  specs,
  toy_images,
  toy_subject,
)

from gencls import data
from gencls.evaluate import evaluate, make_plans
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.probes import Probes
from gencls.evaluation.regrade_cell import Estimate, Regrade, label
from gencls.evaluation.results import Cell
from gencls.intervals import share_interval
from gencls.report import table
from gencls.summary import regraded
from gencls.summary.summarise import summarise

N, MANY = 60, 10**8
SAMPLES = {"model": {"num_samples": 1}, "attack_model": {"num_samples": 1}}
DISTANT = [
  AttackSpec("deepfool", "deepfool", "l2", (0.3, 0.8), "margin", 1, {"num_steps": 5}),
  AttackSpec("dim", "linear_search_contrast", "l2", (0.3, 0.8), "margin", 1, {}, grade_as="clip"),
]


def estimator(noise):
  """K -> log p(x, y) + noise / sqrt(K), drawn from the example's key."""

  def of(num_samples):
    params = {**toy_subject().params, "noise": jnp.float32(noise / math.sqrt(num_samples))}
    return Estimate(jax.tree_util.Partial(noisy, params), None, float(num_samples))

  return of


def noisy(params, keys, x):
  drawn = jax.vmap(lambda key: jax.random.normal(key, (CLASSES,)))(keys)
  return log_joint(params, x) + params["noise"] * drawn


def evaluated(
  folder, noise, the_specs, threat="known_seed", keep=N, counts=(1, MANY), regrade=None
):
  of, plain = estimator(noise), toy_subject()
  fn = of(1).logits_fn
  classifier = plain.classifier._replace(logits=noisy)
  subject = plain._replace(classifier=classifier, logits_fn=fn, attack_logits_fn=fn)
  return evaluate(
    subject,
    toy_images(N),
    protocol(threat, keep_images=keep, clean=("accuracy",), batch_size=None),
    the_specs,
    folder=folder,
    identity={**IDENTITY, "params": f"noise {noise}", **SAMPLES},
    record=record(),
    progress=False,
    probes=Probes(regrade=regrade or Regrade(counts, of)),
  )


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
  """The noise of one sample is as large as the margins."""
  return evaluated(tmp_path_factory.mktemp("broken"), 8.0, [*specs((0.05, 0.1)), *DISTANT])


def check_of(cells):
  return {c["name"]: c for c in summarise(cells)["checks"]}[regraded.NAME]


def again(cells, count, norm, eps) -> Cell:
  wanted = {"num_samples": count, "norm": norm, "eps": eps}
  return next(
    c
    for c in cells
    if regraded.is_regraded(c) and wanted.items() <= c.header["settings"]["regraded"].items()
  )


def test_its_own_number_grades_the_worst_case_as_it_was(broken):
  """Grey and untouched images, fixed budgets, distances and clipped images are all found again."""
  summary = summarise(broken)
  assert len(summary["worst"]) == 4
  chosen = {label for row in summary["worst"] for label, count in row["chosen"].items() if count}
  assert {"fgsm", "grey", "deepfool", "dim"} <= chosen, chosen
  rows = {(r["num_samples"], r["norm"], r["eps"]): r for r in summary["regraded"]}
  for worst in summary["worst"]:
    row = rows[1, worst["norm"], worst["eps"]]
    assert row["num_images"] == N
    assert row["accuracy"] == worst["accuracy"]


def test_many_samples_are_the_model_itself(broken):
  """Without noise the prediction of the worst images is in closed form."""
  cells = {(c.header["label"], c.header["norm"], c.header["eps"]): c for c in broken}
  x = np.asarray(data.to_float(toy_images(N).images, 17))
  labels = toy_images(N).labels
  names = ("fgsm", "pgd", "grey")
  four = [*[cells[name, "linf", 0.05] for name in names], cells["untouched", "", 0.0]]
  images = [cell.arrays["x_adv"] for cell in four[:2]] + [np.clip(0.5, x - 0.05, x + 0.05), x]
  # Known seed: the image of the least margin is the worst.
  worst = np.argmin([cell.arrays["select_margin"] for cell in four], axis=0)
  taken = np.stack(images)[worst, np.arange(N)]
  logits = np.sort(np.asarray(log_joint(toy_subject().params, taken), np.float64), axis=1)
  right = np.argmax(np.asarray(log_joint(toy_subject().params, taken)), axis=1) == labels
  clear = logits[:, -1] - logits[:, -2] > 0.01
  assert clear.sum() > 50 and 0 < right[clear].sum() < clear.sum()
  found = again(broken, MANY, "linf", 0.05).arrays["correct"]
  np.testing.assert_array_equal(found[clear], right[clear])


def test_a_broken_estimate_is_told_from_a_broken_model(broken, tmp_path):
  found = check_of(broken)
  assert found["status"] == "fail"
  assert f"K = {MANY} against K = 1: +" in found["detail"]
  assert (
    f"the images, optimised against K = 1, do not carry over to K = {MANY}: attack at that K "
    "before concluding" in found["detail"]
  )
  sound = check_of(evaluated(tmp_path, 0.01, specs((0.1,))))
  assert sound["status"] == "not run"  # too few images
  assert f"K = {MANY} against K = 1: +0.0" in sound["detail"]


def checked(shares, n=1000, own=10):
  """The check where each number of samples has so large a share right."""

  def cell(count, share):
    right = np.repeat([1.0, 0.0], [round(n * share), n - round(n * share)])
    where = {"num_samples": count, "norm": "linf", "eps": 0.1}
    return Cell({"settings": {"regraded": where}, "num_images": n}, {"correct": right})

  return regraded.check([cell(*item) for item in shares.items()], {"num_samples": own})


def test_the_flattered_model_is_found_too():
  worse = checked({10: 0.9, 1000: 0.5})
  assert worse.status == "fail"
  assert "K = 10, which was attacked, grades these images better than K = 1000" in worse.detail
  fewer = checked({1: 0.9, 10: 0.5})
  assert fewer.status == "fail"
  assert "optimised against K = 10, do not carry over to K = 1: attack at that K" in fewer.detail
  assert checked({10: 0.9, 1000: 0.896}).status == "pass"
  assert checked({10: 0.9}).status == "not run"


def test_every_number_is_held_against_the_smallest():
  between = checked({10: 0.5, 100: 0.9, 1000: 0.5})
  assert between.status == "fail"
  assert "K = 100 against K = 10: +40.0" in between.detail
  assert "K = 1000" not in between.detail


def test_too_few_images_decide_nothing():
  few = checked({10: 0.9, 1000: 0.9}, n=200)
  assert few.status == "not run"
  assert few.detail.startswith("undecided, the interval is wider than ±1 point, keep more images")
  assert checked({10: 0.9, 1000: 0.9}, n=300).status == "pass"
  assert checked({10: 0.9, 1000: 0.5}, n=200).status == "fail"


def test_why_it_was_not_run():
  assert "no importance samples" in regraded.check([], {"name": "cnn"}).detail
  assert "set config.regrade_samples" in regraded.check([], {"num_samples": 10}).detail
  planned = regraded.check([], {"num_samples": 10}, ["pgd", label(100, "linf", 0.1)])
  assert planned.detail == "not finished yet"


def test_unseen_draws_are_those_of_no_attack(broken):
  """The attack has used the noise of its own key: that of another one is kinder."""
  cell = again(broken, 1, "linf", 0.1)
  assert np.mean(cell.arrays["unseen"]) > np.mean(cell.arrays["correct"]) + 0.05
  many = again(broken, MANY, "linf", 0.1)
  np.testing.assert_array_equal(many.arrays["unseen"], many.arrays["correct"])


def test_unseen_draws_are_many(broken):
  """Under a known seed there is one draw that counts, and 20 that no attack has known."""
  cell, many = (again(broken, count, "linf", 0.1) for count in (1, MANY))
  assert cell.header["draws"] == {"unseen": 20, "correct": 1}
  assert many.header["draws"] == {"unseen": 20, "correct": 20}
  assert cell.header["settings"]["regraded"]["unseen_draws"] == 20
  twentieths = 20 * cell.arrays["unseen"]
  np.testing.assert_allclose(twentieths, np.round(twentieths), atol=1e-5)
  assert np.mean((twentieths > 0.5) & (twentieths < 19.5)) > 0.5
  rows = {(r["num_samples"], r["norm"], r["eps"]): r for r in summarise(broken)["regraded"]}
  assert rows[1, "linf", 0.1]["unseen"] == share_interval(cell.arrays["unseen"], 20)._asdict()
  assert rows[MANY, "linf", 0.1]["accuracy"] == share_interval(many.arrays["correct"], 20)._asdict()


@pytest.mark.slow
def test_fresh_draws_need_no_others(tmp_path):
  cells = evaluated(tmp_path, 3.0, specs((0.1,)), "fresh_seed", keep=10)
  own, many = (again(cells, k, "linf", 0.1) for k in (1, MANY))
  assert "unseen" not in own.arrays
  assert own.arrays["correct"].shape == (10,)
  worst = summarise(cells)["regraded"][0]
  assert worst["num_images"] == 10
  pgd = next(c for c in cells if c.header["label"] == "pgd")
  labels = toy_images(N).labels[:10]
  exact = np.argmax(np.asarray(log_joint(toy_subject().params, pgd.arrays["x_adv"])), axis=1)
  picked = pgd.arrays["select_correct"][:10] < 0.1  # pgd is surely the worst
  assert picked.sum() > 1
  np.testing.assert_array_equal(many.arrays["correct"][picked], (exact == labels)[picked])


def test_prepared_draws_are_drawn_anew(tmp_path):
  """Where `prepare` draws, keys change nothing: unseen draws come from another preparation."""
  plain = toy_subject()
  moved = {"mean": plain.params["mean"][::-1]}  # always wrong, but for the middle class
  other = jax.tree_util.Partial(plain.classifier.logits, moved)
  draws = []

  def anew(draw):
    draws.append(draw)
    return other if draw % 2 else plain.logits_fn

  cells = evaluate(
    plain,
    toy_images(N),
    protocol(keep_images=N, clean=("accuracy",)),
    specs((0.0, 0.1))[:1],
    folder=tmp_path,
    identity={**IDENTITY, **SAMPLES},
    record=record(),
    progress=False,
    probes=Probes(regrade=Regrade((1,), lambda k: Estimate(plain.logits_fn, anew, k))),
  )
  arrays = again(cells, 1, "linf", 0.0).arrays
  assert np.mean(arrays["correct"]) > 0.9
  middle = toy_images(N).labels == 1
  assert 0.45 < np.mean(arrays["unseen"][~middle]) < 0.55  # every second preparation is wrong
  assert set(draws) == set(range(1, 21))


def test_the_tables_say_it(broken):
  summary = full_summary(summarise(broken), protocol())
  summary["model"] = {"name": "toy", "num_samples": 1}
  text = table.markdown(summary)
  for name in ("K = 1, as attacked", "K = 1, unseen draws", f"K = {MANY}, unseen draws"):
    assert f"| {name}" in text
  assert f"n = {N}." in regraded.section(summary)
  assert regraded.section({"model": {}, "regraded": []}) == ""


def test_an_attack_more_is_another_worst_case(tmp_path):
  def plans(the_specs, counts=(1, 10)):
    regrade = Regrade(counts, estimator(1.0))
    found = make_plans(
      tmp_path, protocol(), the_specs, IDENTITY, toy_images(), probes=Probes(regrade=regrade)
    )
    return {p.path for p in found}, {p.path for p in found if p.label.startswith("regraded")}

  few, all_ = plans(specs()[:1]), plans(specs())
  assert few[0] - few[1] < all_[0]  # attacks stay
  assert not few[1] & all_[1]
  assert plans(specs(), (1, 10, 100))[0] > all_[0]


def test_bad_numbers_fail_before_any_work(tmp_path):
  for counts in ((0,), (1.5,), (True,)):
    with pytest.raises(ValueError, match="regrade_samples must be whole numbers >= 1"):
      evaluated(tmp_path, 1.0, specs(), counts=counts)
  with pytest.raises(ValueError, match="got keep_images=0"):
    evaluated(tmp_path, 1.0, specs(), keep=0)
  assert not list(tmp_path.glob("*.npz"))


def test_more_samples_are_graded_in_smaller_batches(tmp_path):
  """B · K, and with it the memory, is that of the evaluation."""
  rows = []

  def of(num_samples):
    def counted(params, keys, x):
      rows.append(num_samples * len(x))  # while tracing
      return noisy(params, keys, x)

    fn = estimator(0.1)(num_samples).logits_fn
    assert isinstance(fn, jax.tree_util.Partial)
    return Estimate(jax.tree_util.Partial(counted, *fn.args), None, float(num_samples))

  regrade = Regrade((1, 7, 1000), of)
  evaluated(tmp_path, 0.1, specs((0.1,))[:1], regrade=regrade)
  assert set(rows) == {N, 7 * (N // 7), 1000}  # one image of K = 1000 is the least
