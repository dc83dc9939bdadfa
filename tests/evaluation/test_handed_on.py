"""Attacks that meet only the images that others have left, beside the same ones on all images."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from toy_detection import DETECTION
from toy_evaluation import IDENTITY, protocol, record, toy_images, toy_subject

from gencls.attacks.cascade import CLEAN, STANDS
from gencls.evaluate import check_specs, evaluate
from gencls.evaluation.attack_specs import AttackSpec
from gencls.evaluation.handed_on import OWN
from gencls.evaluation.results import check_same_evaluation
from gencls.summary.summarise import summarise

pytestmark = pytest.mark.filterwarnings("ignore:apgd_t takes the loss margin")  # of 3 classes

N = 30
EPS = (0.05, 0.15)
WEAK = AttackSpec("weak", "fgsm", "linf", EPS, "margin", 1, {})
STRONG = AttackSpec("a_strong", "pgd", "linf", EPS, "margin", 1, {"num_steps": 10})
OPTIONS = {"num_classes": 3, "version": "brief", "num_steps": 4, "num_queries": 10}
ENSEMBLE = AttackSpec("ensemble", "auto_attack", "linf", EPS, "margin", 1, OPTIONS)
THEN = STRONG._replace(after=("weak",))
LAST = ENSEMBLE._replace(after=("weak", "a_strong"))


def made(folder, specs, subject=None):
  cells = evaluate(
    subject or toy_subject(),
    toy_images(N),
    protocol(clean=("accuracy",), keep_images=12, batch_size=7),
    specs,
    folder=folder,
    identity=IDENTITY,
    record=record(),
    progress=False,
  )
  return cells, {(cell.header["label"], cell.header["eps"]): cell.arrays for cell in cells}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  return made(tmp_path_factory.mktemp("plain"), [WEAK, STRONG, ENSEMBLE])


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
  return made(tmp_path_factory.mktemp("handed"), [THEN, WEAK, LAST])  # in any order


@pytest.mark.parametrize("eps", EPS)
def test_what_is_broken_is_handed_on_and_the_rest_attacked_as_ever(plain, handed, eps):
  weak, strong = plain[1]["weak", eps], plain[1]["a_strong", eps]
  then = handed[1]["a_strong", eps]
  broken = weak["correct"] == 0
  assert 0 < broken.sum() < N
  for name, found in then.items():
    if name in ("index", "label", "handed_on"):
      continue
    expected = np.array(strong[name])
    part = broken[: len(expected)]  # images are kept of the first ones alone
    if name not in OWN:
      expected[part] = weak[name][: len(expected)][part]
    elif name != "zero_gradient":  # which is of the clean image
      expected[part] = 0
    np.testing.assert_array_equal(found, expected, err_msg=name)
  np.testing.assert_array_equal(then["handed_on"], broken)
  assert not then["forward"][broken].any() and then["forward"][~broken].all()
  assert then["x_adv"].shape[0] == 12


@pytest.mark.parametrize("eps", EPS)
def test_an_ensemble_after_two_attacks_counts_what_it_was_given_as_wrong_before(plain, handed, eps):
  before = np.minimum(plain[1]["weak", eps]["correct"], plain[1]["a_strong", eps]["correct"]) == 0
  found, alone = handed[1]["ensemble", eps], plain[1]["ensemble", eps]
  np.testing.assert_array_equal(found["broken_by"], np.where(before, CLEAN, alone["broken_by"]))
  np.testing.assert_array_equal(found["correct"], np.where(before, 0, alone["correct"]))
  if eps == EPS[0]:
    assert (found["broken_by"] == STANDS).any()


def test_the_worst_case_is_the_same(plain, handed):
  one, two = (
    [{k: v for k, v in row.items() if k != "chosen"} for row in summarise(cells)["worst"]]
    for cells, _ in (plain, handed)
  )
  assert one == two


def test_the_checks_see_what_an_attack_without_gradients_broke_itself(tmp_path):
  """Square is handed most images and finds a few more: that is no black box ahead of a white."""
  square = AttackSpec("square", "square", "linf", EPS, "margin", 1, {"num_steps": 200})
  short = STRONG._replace(label="weak", hyperparameters={"num_steps": 3, "rel_step_size": 0.15})
  cells, found = made(tmp_path, [short, square._replace(after=("weak",))])
  own = [found["weak", EPS[1]]["correct"], found["square", EPS[1]]["correct"]]
  assert own[0].mean() > own[1].mean() > 2 * own[0].mean() - 1  # more, but fewer than handed on
  found = {check["name"]: check["status"] for check in summarise(cells)["checks"]}
  assert found["white-box beats black-box"] == "not run"  # of all images there is no black box
  assert found["a gradient-free attack finds nothing new"] == "fail"


def test_no_check_passes_by_what_was_handed_on(tmp_path):
  """A feeble PGD that is handed what Square, FGSM or a longer PGD broke stays a feeble one."""
  feeble = STRONG._replace(label="few", hyperparameters={"num_steps": 1, "rel_step_size": 0.02})
  square = AttackSpec("square", "square", "linf", EPS, "margin", 1, {"num_steps": 200})
  longer = STRONG._replace(label="many", hyperparameters={"num_steps": 40, "rel_step_size": 0.02})
  third = STRONG._replace(label="third", loss="cross_entropy", hyperparameters={"num_steps": 1,
                          "rel_step_size": 0.02})  # fmt: skip

  def status(name, *specs):
    checks = summarise(made(tmp_path / name, specs)[0])["checks"]
    return {check["name"]: check["status"] for check in checks}

  handed = {
    "masking": status("a", square, feeble._replace(after=("square",))),
    "single": status("b", WEAK, feeble._replace(after=("weak",))),
    "doubling": status("c", feeble, longer, third._replace(after=("few", "many"))),
  }
  assert handed["masking"]["a gradient-free attack finds nothing new"] == "fail"
  assert handed["single"]["iterated attacks beat single-step ones"] != "pass"
  assert handed["doubling"]["doubling the steps does not lower the worst case"] == "fail"


def test_the_attack_that_broke_an_image_is_the_one_that_is_named(plain, handed):
  weak = {e: int(np.sum(plain[1]["weak", e]["correct"] == 0)) for e in EPS}
  for row in summarise(handed[0])["worst"]:
    assert row["chosen"]["weak"] >= weak[row["eps"]]


def test_a_finished_attack_on_every_image_is_not_made_again(tmp_path):
  before = made(tmp_path, [WEAK, STRONG])[1]
  after = made(tmp_path, [WEAK, THEN])
  np.testing.assert_array_equal(
    after[1]["a_strong", EPS[0]]["forward"], before["a_strong", EPS[0]]["forward"]
  )
  config = {"name": "toy", "attacks": {"a_strong": {"eps": list(EPS), "after": None}}}
  (tmp_path / "table.json").write_text(json.dumps({"config": config}))
  changed = {"name": "toy", "attacks": {"a_strong": {"eps": list(EPS), "after": ("weak",)}}}
  check_same_evaluation(tmp_path / "table.json", changed)


def test_what_a_detector_rejects_is_not_handed_on(tmp_path):
  with pytest.raises(ValueError, match="the evaluation has a detector: leave after=None"):
    evaluate(
      toy_subject(),
      toy_images(N),
      protocol(),
      [WEAK, THEN],
      folder=tmp_path,
      identity=IDENTITY,
      record=record(),
      progress=False,
      detection=DETECTION,
    )


def test_a_summary_says_how_many_images_were_not_attacked(plain, handed):
  for row in summarise(plain[0])["rows"]:
    assert "handed_on" not in row
  own = {(row["label"], row["eps"]): row.get("handed_on") for row in summarise(handed[0])["rows"]}
  for eps in EPS:
    assert own["weak", eps] is None
    assert own["a_strong", eps] == np.sum(plain[1]["weak", eps]["correct"] == 0)


def test_what_comes_before_decides_which_cell_it_is(handed, tmp_path, plain):
  """Else the images of another weak attack would pass for those of this one."""
  other = WEAK._replace(loss="cross_entropy")
  again = made(tmp_path, [THEN, other])[0]
  every = [
    tuple(cell.header["settings"]["after"])
    for cell in (*again, *handed[0])
    if cell.header["label"] == "a_strong"
  ]
  assert len(set(every)) == 4
  alone = [c.header["settings"] for c in plain[0] if c.header["label"] == "a_strong"]
  assert all("after" not in settings for settings in alone)  # as before there was such a field


def test_an_eps_without_the_other_attack_is_attacked_in_full(tmp_path, plain):
  found = made(tmp_path, [WEAK._replace(eps=EPS[:1]), THEN])[1]
  np.testing.assert_array_equal(
    found["a_strong", EPS[1]]["forward"], plain[1]["a_strong", EPS[1]]["forward"]
  )


def test_nothing_is_left_where_everything_is_broken(tmp_path):
  def lost(params, keys, x):
    return jnp.zeros((len(x), 3)).at[:, 0].set(-jnp.inf) + 0 * x.sum((1, 2, 3))[:, None]

  subject = toy_subject()
  fn = Partial(lost, subject.params)
  subject = subject._replace(logits_fn=fn, attack_logits_fn=fn)
  found = made(tmp_path, [WEAK, THEN], subject)[1]
  assert not found["a_strong", EPS[0]]["forward"].any()


@pytest.mark.parametrize(
  ("specs", "message"),
  [
    ([WEAK, THEN._replace(after=("weaker",))], "unknown attack 'weaker'.*did you mean 'weak'"),
    ([WEAK._replace(after=("a_strong",)), THEN], "in a circle: weak -> a_strong -> weak"),
    ([WEAK._replace(after=("weak",))], "in a circle: weak -> weak"),
    ([WEAK._replace(norm="l2", name="fgm"), THEN], "have an eps in linf"),
    ([WEAK, THEN._replace(target="next")], "untargeted"),
    ([WEAK, THEN._replace(against="detector")], "attack the classifier alone"),
    (
      [AttackSpec("weak", "deepfool", "linf", EPS, "margin", 1, {"num_steps": 5}), THEN],
      "have an eps",
    ),
    ([WEAK, THEN._replace(name="foolbox:LinfPGD", hyperparameters={})], "gencls' own"),
  ],
)
def test_attacks_that_cannot_be_handed_anything_are_refused(specs, message):
  with pytest.raises(ValueError, match=message):
    check_specs(specs)


def test_a_share_of_the_draws_breaks_no_image(tmp_path):
  with pytest.raises(ValueError, match=r"'a_strong'.* leave after=None"):
    evaluate(
      toy_subject(noise=3.0),
      toy_images(N),
      protocol("fresh_seed"),
      [WEAK, THEN],
      folder=tmp_path,
      identity=IDENTITY,
      record=record(),
      progress=False,
    )
