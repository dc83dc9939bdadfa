"""Foolbox on our models, and its attacks as cells."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_models import curved, images, keys, noisy_logits
from jax.tree_util import Partial
from toy_evaluation import LEVELS, log_joint, protocol, run, toy_images, toy_subject

from gencls import interop
from gencls.evaluation.attack_specs import AttackSpec, check_spec
from gencls.evaluation.grading import perturbation_norm
from gencls.summary.summarise import summarise

pytest.importorskip("foolbox")
PROTOCOL = protocol(clean=(), keep_images=30)


def spec(name, norm="linf", eps=(0.1, 0.2), **hyperparameters):
  return AttackSpec("theirs", f"foolbox:{name}", norm, eps, "margin", 1, hyperparameters)


def test_the_model_has_the_logits_of_these_keys():
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
  logits_fn, x = Partial(noisy_logits, 1.0, weights), images(5)
  model = interop.to_foolbox(logits_fn, keys(5))
  np.testing.assert_allclose(model(x), logits_fn(keys(5), x), rtol=1e-6)
  assert not np.allclose(model(x), logits_fn(keys(5, seed=1), x))
  assert tuple(model.bounds) == (0, 1)
  with pytest.raises(ValueError, match=r"each of 5 images, got a batch of 4"):
    model(x[:4])


def test_random_numbers_are_seeded_and_left_alone():
  x = np.asarray(images(5))
  y = np.argmax(curved()(keys(5), x), axis=1)
  attack = interop.build("foolbox:LinfAdditiveUniformNoiseAttack", {})
  np.random.seed(3)
  before = np.random.get_state()[1].copy()
  one, again, other = (
    interop.run(attack, curved(), keys(5), x, y, eps=0.2, seed=seed)[0] for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, again)
  assert not np.array_equal(one, other)
  np.testing.assert_array_equal(np.random.get_state()[1], before)
  assert jax.config.jax_numpy_rank_promotion == "raise"


def test_a_fixed_budget_is_one_cell_for_each_eps(tmp_path):
  cells = run(tmp_path, None, PROTOCOL, [spec("LinfPGD", steps=5)])
  found = [cell for cell in cells if cell.header["label"] == "theirs"]
  assert [cell.header["eps"] for cell in found] == [0.1, 0.2]
  x = np.asarray(toy_images().images / (LEVELS - 1), np.float32)
  for cell in found:
    x_adv = cell.arrays["x_adv"]
    assert perturbation_norm(x_adv, x, "linf").max() <= cell.header["eps"] + 1e-6
    joint = np.asarray(log_joint(toy_subject().params, x_adv))
    np.testing.assert_array_equal(cell.arrays["correct"], joint.argmax(1) == toy_images().labels)
    attack = cell.header["settings"]["attack"]
    assert (attack["foolbox"], attack["batch_size"]) == (interop.version(), 8)
  rows = [row for row in summarise(cells)["rows"] if row["label"] == "theirs"]
  assert rows[0]["zero_gradient"] is None  # Foolbox does not say
  assert rows[0]["disagree"] == 0
  assert rows[1]["accuracy"]["mean"] < rows[0]["accuracy"]["mean"]
  again = run(tmp_path / "again", None, PROTOCOL, [spec("LinfPGD", steps=5, eps=(0.1,))])
  np.testing.assert_array_equal(again[-1].arrays["x_adv"], found[0].arrays["x_adv"])


def test_a_minimising_attack_is_one_cell(tmp_path):
  cells = run(tmp_path, None, PROTOCOL, [spec("L2DeepFoolAttack", "l2", (0.1, 0.5), steps=20)])
  (cell,) = [cell for cell in cells if cell.header["label"] == "theirs"]
  assert cell.header["eps"] is None
  # Class means with one common variance: the boundary to the nearest class is a hyperplane.
  x = np.asarray(toy_images().images / (LEVELS - 1), np.float64)
  means = np.asarray(toy_subject().params["mean"], np.float64)
  squares = np.sum((x[:, None] - means[None]) ** 2, axis=(2, 3, 4))
  rows, labels = np.arange(30), toy_images().labels
  gaps = squares - squares[rows, labels][:, None]
  widths = 2 * np.sqrt(np.sum((means[None] - means[labels][:, None]) ** 2, axis=(2, 3, 4)))
  with np.errstate(divide="ignore", invalid="ignore"):
    distance = np.nanmin(np.where(widths > 0, gaps / widths, np.nan), axis=1)
  right = squares.argmin(1) == labels
  found = cell.arrays["norm"][right]
  assert np.all(found >= distance[right] - 1e-5)  # the box can only make it longer
  assert np.median(found / distance[right]) == pytest.approx(1.02, abs=0.03)  # its overshoot
  assert summarise(cells)["minimum"][0]["found"]["mean"] == 1.0


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"name": "foolbox:LinfPDG"}, "did you mean 'LinfPGD'"),
    ({"hyperparameters": {"step": 3}}, "did you mean 'steps'"),
    ({"max_queries": 3}, "cannot be cut short"),
  ],
)
def test_bad_settings_fail_before_any_work(change, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    run(tmp_path, None, PROTOCOL, [spec("LinfPGD")._replace(**change)])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("name", "own", "settings"),
  [
    ("L2PGD", "l2", {}),
    ("LinfPGD", "linf", {}),
    ("L1PGD", "l1", {}),
    ("L2CarliniWagnerAttack", "l2", {}),
    ("L0FMNAttack", "l0", {}),
    ("BoundaryAttack", "l2", {}),
    ("HopSkipJumpAttack", "linf", {"constraint": "linf"}),
  ],
)
def test_an_attack_of_another_norm_is_refused(name, own, settings):
  for norm in ("linf", "l2", "l1", "l0"):
    asked = spec(name, norm, (0.1,), **settings)
    if norm == own:
      check_spec(asked)
    else:
      with pytest.raises(ValueError, match=f"is an attack in {own}, .* set norm='{own}'"):
        check_spec(asked)


def test_attacks_without_a_norm_of_their_own_may_be_graded_in_any():
  for name in ("LinearSearchContrastReductionAttack", "GaussianBlurAttack"):
    for norm in ("linf", "l2"):
      check_spec(spec(name, norm, (0.1,)))


def test_without_foolbox_the_error_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "foolbox", None)
  with pytest.raises(ImportError, match=r"pip install foolbox==3\.3\.4"):
    interop.to_foolbox(curved(), keys(2))
