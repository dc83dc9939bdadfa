"""Fitting into a work directory: saved once, read back, and refused where it cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_evaluation import toy_images

from gencls import checkpoint, fit, sharding
from gencls.logs import read_metrics
from gencls.training import settings as train_settings
from gencls.types import Classifier, Fitted, Loss


def nearest_mean(classes=3, *, fitting):
  """Distance to the class means: a classifier with a closed form."""

  def init(key, x, y):
    del key, y
    return {"mean": jnp.zeros((classes, *x.shape[1:]))}

  def logits(params, keys, x):
    del keys
    return -jnp.sum((x[:, None] - params["mean"][None]) ** 2, axis=(2, 3, 4))

  def loss(params, keys, x, y, step):
    del step
    log_p = jax.nn.log_softmax(logits(params, keys, x))[jnp.arange(len(y)), y]
    return Loss(-log_p, {"log_p_y": log_p})

  return Classifier(init=init, loss=loss, logits=logits, score="posterior", fit=fitting)


def means(key, data):
  del key
  mean = jnp.stack([jnp.mean(data.x[data.y == c], axis=0) for c in range(3)])
  return Fitted({"mean": mean}, {"validation_images": len(data.validation_y)})


def run(folder, fitting, **changes):
  data = toy_images(60)
  part = data._replace(split="validation", images=data.images[:20], labels=data.labels[:20],
                       indices=data.indices[:20])  # fmt: skip
  return fit.fit(nearest_mean(fitting=fitting), data, part, workdir=folder, seed=0, **changes)


def test_a_fit_is_saved_once_and_read_back(tmp_path):
  outcome = run(tmp_path, means, num_validation_images=7)
  data = toy_images(60)
  x = data.images.astype(np.float64) / (data.num_levels - 1)
  expected = np.stack([x[data.labels == c].mean(0) for c in range(3)])
  np.testing.assert_allclose(outcome.state.params["mean"], expected, atol=1e-6)
  (row,) = read_metrics(tmp_path)
  logits = -((x[:7, None] - expected) ** 2).sum((2, 3, 4))
  right = np.mean(np.argmax(logits, 1) == data.labels[:7])
  assert row["step"] == fit.STEP and row["fit/validation_images"] == 20
  assert row["eval/accuracy"] == pytest.approx(right)

  def never(key, data):
    raise AssertionError("a finished fit is not repeated")

  again = run(tmp_path, never)
  np.testing.assert_array_equal(again.state.params["mean"], outcome.state.params["mean"])
  shapes = fit.fitted_state(nearest_mean(fitting=means), x.shape[1:], sharding.data_mesh())
  manager = checkpoint.open_manager(tmp_path / "checkpoints", read_only=True)
  restored = checkpoint.restore(manager, shapes, step="best")
  manager.close()
  np.testing.assert_array_equal(restored.state.params["mean"], outcome.state.params["mean"])


@pytest.mark.parametrize(
  ("change", "error", "message"),
  [
    (lambda f: f._replace(params={"mean": f.params["mean"][:2]}), ValueError, "shapes of init"),
    (lambda f: f._replace(metrics={"floor": float("nan")}), FloatingPointError, "fit/floor"),
    (lambda f: f._replace(params={"mean": f.params["mean"] * jnp.nan}), FloatingPointError, "eval"),
  ],
)
def test_a_bad_fit_is_not_saved(tmp_path, change, error, message):
  with pytest.raises(error, match=message):
    run(tmp_path, lambda key, data: change(means(key, data)))
  outcome = run(tmp_path, means)  # the folder is free for a better one
  assert int(outcome.state.step) == fit.STEP


def test_methods_that_do_not_fit_the_model():
  with pytest.raises(ValueError, match="did you mean 'fit'"):
    train_settings.check_method("fitt", nearest_mean(fitting=means))
  with pytest.raises(ValueError, match="fit of its own"):
    train_settings.check_method("fit", nearest_mean(fitting=None))
  with pytest.raises(ValueError, match=r'train.loss must be "model"'):
    train_settings.check_method("fit", nearest_mean(fitting=means), "adversarial")
