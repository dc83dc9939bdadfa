"""Sanity checks: each must be able to fail."""

import jax.numpy as jnp
import numpy as np
from toy_evaluation import LEVELS, toy_images, toy_subject

from gencls import sanity
from gencls.evaluation.candidates import attacks_first, candidate, groups
from gencls.evaluation.grading import draw_keys
from gencls.evaluation.minimum_norm import PER_EXAMPLE
from gencls.evaluation.results import Cell
from gencls.summary.checks import _pairs
from gencls.summary.convergence import STEP_SIZES, of_the_worst_case, pairs_of_more


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


def test_five_restarts_that_find_more_are_found():
  one, five = curve("pgd", (0.9, 0.5, 0.3)), curve("pgd_5", (0.9, 0.5, 0.2))
  assert sanity.restarting([(one, five)], [], 1).status == "fail"
  assert sanity.restarting([(one, one._replace(label="pgd_5"))], [], 1).status == "pass"
  assert sanity.restarting([], [], 1).status == "not run"


def test_a_longer_attack_that_finds_more_by_itself_is_told():
  one, five, worst = (
    curve(n, (0.9, 0.5, low)) for n, low in (("a", 0.3), ("a_5", 0.2), ("w", 0.2))
  )
  check = sanity.restarting([(worst, worst)], [(one, five)], 1)
  assert check.status == "pass"
  assert check.detail == (
    "at most a point lower, 2 compared (by themselves: a_5 below a at 0.2 by 10.0 points)"
  )


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
  assert sanity.doubling([(few, many)], [], 1).status == "pass"
  assert sanity.doubling([(few, curve("pgd100", (0.9, 0.4, 0.3)))], [], 1).status == "fail"
  assert sanity.doubling([], [], 1).status == "not run"


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
  found = [
    (few.label, many.label)
    for few, many in pairs_of_more(curves, cells, "num_steps", 2, STEP_SIZES)
  ]
  assert found == [("a", "b")]


def test_more_of_an_attack_counts_where_the_worst_case_falls():
  """PGD alone misses image 1 at 0.1 and image 2 at 0.2; APGD has found the first."""
  untouched = _graded("untouched", "", [1, 1, 1, 1])
  cells = [
    _graded("pgd", "pgd", [0, 1, 1, 1], 0.1),
    _graded("pgd_5", "pgd", [0, 0, 1, 1], 0.1),
    _graded("apgd", "apgd", [1, 0, 1, 1], 0.1),
    _graded("pgd", "pgd", [0, 0, 1, 1], 0.2),
    _graded("pgd_5", "pgd", [0, 0, 0, 1], 0.2),
    _graded("other", "fgm", [0, 0, 0, 0], 0.2),
  ]
  for cell in cells[-1:]:
    cell.header["norm"] = "l2"
  pairs = [(curve("pgd", (1, 1)), curve("pgd_5", (1, 1)))]
  (pair,) = of_the_worst_case(pairs, groups(cells, untouched), untouched)
  less, more = pair
  assert less.eps == more.eps == (0.1, 0.2) and more.label == "with pgd_5"
  assert [list(c) for c in less.correct] == [[0, 0, 1, 1], [0, 0, 1, 1]]
  assert [list(c) for c in more.correct] == [[0, 0, 1, 1], [0, 0, 0, 1]]
  many_images = [c._replace(correct=tuple(np.tile(v, 25) for v in c.correct)) for c in pair]
  detail = sanity.restarting([(many_images[0], many_images[1])], [], 1).detail
  assert detail == "with pgd_5 below the worst case without at 0.2 by 25.0 points"
  few, many = pairs[0]
  targeted = (few._replace(target="next"), many._replace(target="next"))
  assert of_the_worst_case([targeted], groups(cells, untouched), untouched) == [targeted]


def test_disagreement_beyond_one_image_is_found():
  assert sanity.attack_agrees({"pgd": 1}, 100).status == "pass"
  assert sanity.attack_agrees({"fgsm": 0, "pgd": 2}, 100).status == "fail"
  assert sanity.attack_agrees({}, 100).status == "not run"


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


def test_mixed_origins_are_found():
  mixed = {"revision": ["a", "b"], "device": ["cpu"]}
  assert sanity.one_origin(mixed).detail == "revision: a / b"
  assert sanity.one_origin(mixed).status == "fail"
  assert sanity.one_origin({"revision": ["a"]}).status == "pass"


def _pair(white, black, both, n=1000):
  shares = [np.repeat([1.0, 0.0], [round(n * m), n - round(n * m)]) for m in (white, black, both)]
  return sanity.Pair("square linf 0.1", shares[0], shares[1], shares[2])


def test_a_black_box_attack_that_beats_the_gradient_is_found():
  assert sanity.white_beats_black([_pair(0.5, 0.499, 0.4)], 1).status == "pass"
  check = sanity.white_beats_black([_pair(0.5, 0.6, 0.5), _pair(0.5, 0.49, 0.4)], 1)
  assert check.status == "fail"
  assert "square linf 0.1 is stronger by 1.0 points" in check.detail
  assert sanity.white_beats_black([], 1).status == "not run"


def test_what_only_a_gradient_free_attack_breaks_is_found_and_named():
  few = sanity.nothing_new([_pair(0.5, 0.9, 0.498)], 1)
  assert (few.status, few.detail) == ("pass", "square linf 0.1 (images 498, 499)")
  pair = _pair(0.5, 0.9, 0.48)._replace(places=np.arange(1000) + 7)
  many = sanity.nothing_new([pair], 1, "transfer")
  assert (many.name, many.status) == ("transfer finds nothing new", "fail")
  assert many.detail.endswith("points more (images 487, 488, 489, 490, 491, 492, 493, 494, 495, "
                              "496, …)")  # fmt: skip
  assert sanity.nothing_new([_pair(0.5, 0.9, 0.497)], 1).status == "fail"
  assert sanity.nothing_new([], 1).status == "not run"


def test_kinds_of_attacks():
  free = ("square", "transfer", "foolbox:BoundaryAttack", "foolbox:LinfAdditiveUniformNoiseAttack")
  gradient = ("pgd", "auto_attack", "foolbox:LinfPGD", "foolbox:L2CarliniWagnerAttack")
  assert all(sanity.gradient_free(name) for name in free)
  assert not any(sanity.gradient_free(name) for name in gradient)


def test_attacks_that_choose_among_few_images_need_not_beat_a_single_step():
  climbing = ("fgsm", "pgd", "auto_attack", "foolbox:LinfPGD")
  assert all(sanity.climbs(name) for name in climbing)
  choosing = ("latent_descent", "pixel_flips", "square", "foolbox:BoundaryAttack")
  assert not any(sanity.climbs(name) for name in choosing)


def _graded(label, name, right, eps: float | None = 0.1):
  right = np.asarray(right, np.float32)
  header = {"label": label, "norm": "linf", "eps": eps, "settings": {"attack": {"name": name}}}
  arrays = {"select_correct": right, "select_margin": right, "correct": right}
  return Cell(header, arrays)


def _minimum(label, name, right, norm, grid):
  cell = _graded(label, name, right, eps=None)
  attack = {"name": name, "grade_as": "distance"}
  header = {**cell.header, "settings": {"attack": attack}, "grid": grid, "num_images": 4}
  arrays = {**dict.fromkeys(PER_EXAMPLE, cell.arrays["correct"]), "norm": np.asarray(norm)}
  return Cell({**header, "seconds": 1.0, "record": {}}, arrays)


def _untouched(right):
  cell = _graded("untouched", "", right)
  return cell._replace(arrays=dict.fromkeys(PER_EXAMPLE, cell.arrays["correct"]))


def test_pairs_are_made_of_all_white_box_attacks():
  untouched = _graded("untouched", "", [1, 1, 1, 0])
  cells = [
    _graded("pgd", "pgd", [0, 1, 1, 1]),
    _graded("apgd", "apgd", [1, 0, 1, 1]),
    _graded("square", "square", [0, 1, 0, 1]),
    _graded("grey", "", [0, 0, 0, 0]),  # no attack
  ]
  (pair,) = _pairs(groups(cells, untouched), untouched)
  assert pair.where == "square linf 0.1"
  assert (list(pair.white), list(pair.black)) == ([0, 0, 1, 0], [0, 1, 0, 0])
  assert list(pair.both) == [0, 0, 0, 0]
  assert _pairs(groups(cells[2:], untouched), untouched) == []


def test_pairs_are_made_where_a_minimum_norm_attack_has_no_eps_of_its_own():
  """Distances 0.05 and 0.15, read by their attack at 0.3 alone, stand beside PGD at 0.1."""
  untouched = _untouched([1, 1, 1, 1])
  pgd = _graded("pgd", "pgd", [1, 1, 0, 1])
  hop = _minimum("hop", "hop_skip_jump", [0, 0, 1, 1], [0.05, 0.15, 0.0, 0.0], [0.3])
  near, far = _pairs(groups([pgd, hop], untouched), untouched)
  assert (near.where, far.where) == ("hop linf 0.1", "hop linf 0.3")
  assert list(near.both) == [0, 1, 0, 1]
  assert list(far.both) == [0, 0, 0, 1]
  square = _graded("square", "square", [0, 1, 1, 1])
  fmn = _minimum("fmn", "fmn", [0, 0, 1, 1], [0.05, 0.15, 0.0, 0.0], [0.3])
  (pair,) = _pairs(groups([square, fmn], untouched), untouched)
  assert list(pair.white) == [0, 1, 1, 1]


def test_what_breaks_an_image_breaks_it_at_every_larger_eps():
  untouched = _graded("untouched", "", [1, 1, 1, 1])
  cells = [
    _graded("pgd", "pgd", [0, 1, 1, 1], 0.1),
    _graded("grey", "", [1, 0, 1, 1], 0.1),
    _graded("pgd", "pgd", [1, 1, 0, 1], 0.2),
  ]
  small, large = groups(cells, untouched)
  assert list(candidate(attacks_first(small, untouched))[1]) == [0, 0, 1, 1]
  order = attacks_first(large, untouched)
  assert list(candidate(order)[1]) == [0, 0, 0, 1]
  assert [cell.header["eps"] for cell in order] == [0.2, 0.1, 0.1, 0.1]  # grey and untouched last
