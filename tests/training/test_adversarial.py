import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from gencls import attacks, example_keys
from gencls.keys import fold
from gencls.training.adversarial import adversarial, perturb, with_loss
from gencls.types import Classifier, Loss

SIZE = (4, 4, 1)
PGD = {"norm": "linf", "eps": 0.1, "num_steps": 3, "step_size": 0.05, "keep_best": False}


def _logits(params, keys, x):
  del keys
  return x.reshape(len(x), -1) @ params["weights"]


def _loss(params, keys, x, y, step):
  del step
  nats = optax.softmax_cross_entropy_with_integer_labels(_logits(params, keys, x), y)
  return Loss(nats, {"cross_entropy": nats})


def _classifier():
  def init(key, x, y):
    del x, y
    return {"weights": jax.random.normal(key, (16, 3))}

  return Classifier(init=init, loss=_loss, logits=_logits, score="posterior")


def _batch(num=6):
  x = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.7, (num, *SIZE)), jnp.float32)
  keys, y = example_keys(0, np.arange(num), "train"), jnp.arange(num) % 3
  return _classifier().init(jax.random.key(1), x, y), keys, x, y


def test_fgsm_training_is_the_loss_at_the_closed_form_of_its_attack():
  params, keys, x, y = _batch()
  robust = adversarial(_classifier(), attack="fgsm", eps=0.1)
  found = robust.loss(params, keys, x, y, jnp.int32(0))
  p = jax.nn.softmax(_logits(params, keys, x)) - jax.nn.one_hot(y, 3)
  x_adv = x + 0.1 * jnp.sign(p @ params["weights"].T).reshape(x.shape)  # inside the box
  want = _loss(params, keys, x_adv, y, 0).total
  np.testing.assert_allclose(found.total, want, rtol=1e-5)
  np.testing.assert_allclose(found.terms["adversarial_total"], want, rtol=1e-5)
  assert np.all(found.total > _loss(params, keys, x, y, 0).total)


def test_pgd_training_attacks_as_run_does():
  params, keys, x, y = _batch()
  found = adversarial(_classifier(), **PGD).loss(params, keys, x, y, jnp.int32(0))
  pgd = attacks.build(
    "pgd", Partial(_logits, params), loss="cross_entropy", randomness="fresh", **PGD
  )
  x_adv = attacks.run(pgd, fold(keys, "adversarial"), x, y).x
  assert np.max(np.abs(x_adv - x)) > 0.09
  np.testing.assert_allclose(found.total, _loss(params, keys, x_adv, y, 0).total, rtol=1e-5)


def test_the_gradient_does_not_flow_through_the_attack():
  params, keys, x, y = _batch()
  x_adv = perturb(
    attacks.build("pgd", Partial(_logits, params), loss="cross_entropy", randomness="fresh", **PGD),
    fold(keys, "adversarial"),
    x,
    y,
  )
  mean = lambda loss, at: lambda p: jnp.mean(loss(p, keys, at, y, jnp.int32(0)).total)  # noqa: E731
  robust = adversarial(_classifier(), **PGD)
  got, want = jax.grad(mean(robust.loss, x))(params), jax.grad(mean(_loss, x_adv))(params)
  np.testing.assert_allclose(got["weights"], want["weights"], rtol=1e-4, atol=1e-6)


def test_eps_zero_and_the_clean_share_are_the_models_own_loss():
  params, keys, x, y = _batch()
  clean = _loss(params, keys, x, y, 0).total
  none = adversarial(_classifier(), **(PGD | {"eps": 0.0})).loss(params, keys, x, y, jnp.int32(0))
  np.testing.assert_array_equal(none.total, clean)
  mixed = adversarial(_classifier(), clean_weight=0.25, **PGD).loss(params, keys, x, y, 0)
  want = 0.75 * mixed.terms["adversarial_total"] + 0.25 * clean
  np.testing.assert_allclose(mixed.total, want, rtol=1e-6)


def test_the_warm_up_goes_from_the_clean_image_to_the_attacked_one():
  params, keys, x, y = _batch()
  pgd = attacks.build(
    "pgd", Partial(_logits, params), loss="cross_entropy", randomness="fresh", **PGD
  )
  eta = perturb(pgd, fold(keys, "adversarial"), x, y) - x
  loss = adversarial(_classifier(), warmup_steps=4, **PGD).loss
  for step, share in ((0, 0.25), (2, 0.75), (3, 1.0), (100, 1.0)):
    want = _loss(params, keys, x + share * eta, y, 0).total
    np.testing.assert_allclose(loss(params, keys, x, y, jnp.int32(step)).total, want, rtol=1e-5)


def test_the_accuracy_of_a_warm_up_is_that_under_the_whole_attack():
  params, keys, x, y = _batch(60)
  loss = adversarial(_classifier(), warmup_steps=1000, **PGD).loss
  pgd = attacks.build(
    "pgd", Partial(_logits, params), loss="cross_entropy", randomness="fresh", **PGD
  )
  x_adv = perturb(pgd, fold(keys, "adversarial"), x, y)
  right, clean = (jnp.argmax(_logits(params, keys, at), axis=1) == y for at in (x_adv, x))
  assert 0 < right.sum() < clean.sum()
  found = loss(params, keys, x, y, jnp.int32(0)).terms["robust_accuracy"]
  np.testing.assert_array_equal(found, right)


def test_examples_do_not_interact():
  params, keys, x, y = _batch()
  loss = adversarial(_classifier(), **PGD).loss
  whole = loss(params, keys, x, y, jnp.int32(0)).total
  half = loss(params, keys[:3], x[:3], y[:3], jnp.int32(0)).total
  np.testing.assert_allclose(whole[:3], half, rtol=1e-6)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"attack": "deepfool"}, "needs an attack with an eps, got 'deepfool'"),
    ({"attack": "auto_attack", "eps": 0.1}, "needs an attack with an eps"),
    ({"attack": "pdg", "eps": 0.1}, "did you mean 'pgd'"),
    ({"eps": -1.0}, "eps must be"),
    ({"eps": 0.1, "num_step": 3}, "num_steps"),
    ({"eps": 0.1, "clean_weight": 1.0}, r"clean_weight must be in \[0, 1\)"),
    ({"eps": 0.1, "warmup_steps": -1}, "adversarial.warmup_steps must be >= 0"),
  ],
)
def test_wrong_settings_fail_before_the_first_step(settings, message):
  with pytest.raises(ValueError, match=message):
    adversarial(_classifier(), **settings)


def test_the_name_of_the_loss_decides():
  settings = {"attack": "pgd", "loss": "cross_entropy", "clean_weight": 0.0, "hyperparameters": PGD}
  model = _classifier()
  assert with_loss(model, "model", settings) is model
  assert with_loss(model, "adversarial", settings).loss is not model.loss
  with pytest.raises(ValueError, match="did you mean 'adversarial'"):
    with_loss(model, "adverserial", settings)
