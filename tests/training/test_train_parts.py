import signal

import numpy as np
import pytest

from gencls import interrupts, sharding
from gencls.logs import metric_name, read_metrics
from gencls.training import optimizers, rungs
from gencls.training import settings as train_settings
from gencls.training.loop import Progress


def squares(x, prediction):
  return (x - prediction) ** 2


def cross_entropies(x, prediction):
  return -np.log(np.where(x == 1, prediction, 1 - prediction))


@pytest.mark.parametrize(
  ("error", "threshold", "of", "lowest"),
  [
    ("squared_error", None, squares, ("black image", 0.0)),
    ("squared_error", 0.5, squares, ("black image", 0.0)),
    ("pixel_cross_entropy", 0.5, cross_entropies, ("grey image", 0.5)),
  ],
)
def test_ladder_equals_brute_force(error, threshold, of, lowest):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 17, (50, 3, 4, 2)).astype(np.uint8)
  labels = rng.integers(0, 3, 50)
  x = images.reshape(50, -1) / 16.0
  x = x if threshold is None else (x >= threshold).astype(float)  # 8 of 16 is bright

  def mean_error(prediction):
    return float(np.mean(np.sum(of(x, prediction), axis=1)))

  means = np.stack([x[labels == c].mean(axis=0) if c in labels else x[0] for c in range(5)])
  expected = {
    lowest[0]: mean_error(lowest[1]),
    "best constant": mean_error(x.mean()),
    "mean image": mean_error(x.mean(axis=0)),
    "class means": mean_error(means[labels]),
  }
  found = rungs.ladder(
    images, labels, num_levels=17, num_classes=5, error=error, threshold=threshold
  )
  assert found.rungs == pytest.approx(expected) and found.error == error


def test_a_training_split_without_an_example_of_a_class_is_refused():
  train_settings.check_classes(np.array([0, 2, 1, 0], np.int32), 3)
  with pytest.raises(ValueError, match=r"none of class 1, 3 among 4 images of 4 classes: leave"):
    train_settings.check_classes(np.array([0, 2, 2, 0], np.int32), 4)


def test_cosine_with_warmup():
  rates = optimizers.learning_rates(
    learning_rate=2.0, schedule="cosine", warmup_steps=4, total_steps=12
  )
  got = [float(rates(step)) for step in range(13)]
  np.testing.assert_allclose(got[:5], [0.5, 1.0, 1.5, 2.0, 2.0], rtol=1e-6)
  np.testing.assert_allclose(got[8], 1.0, rtol=1e-6)  # half way down
  np.testing.assert_allclose(got[12], 0.0, atol=1e-6)


def test_constant_without_warmup_starts_at_once():
  rates = optimizers.learning_rates(
    learning_rate=0.3, schedule="constant", warmup_steps=0, total_steps=5
  )
  assert float(rates(0)) == float(rates(99)) == pytest.approx(0.3)


def test_weight_decay_is_decoupled_and_clip_bounds_the_gradient():
  params, grads = {"w": np.float32([2.0])}, {"w": np.float32([0.0])}
  tx = optimizers.build(learning_rate=0.1, weight_decay=0.5)
  updates, _ = tx.update(grads, tx.init(params), params)
  np.testing.assert_allclose(updates["w"], [-0.1 * 0.5 * 2.0], rtol=1e-6)
  tx = optimizers.build(learning_rate=0.1, grad_clip=1.0)
  _, state = tx.update({"w": np.float32([100.0])}, tx.init(params), params)
  np.testing.assert_allclose(state[1].mu["w"], [0.1], rtol=1e-5)  # (1 - b1) * the clipped one


def test_progress_keeps_the_later_of_equals_but_not_the_patience():
  progress = Progress()
  for step, accuracy in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6)):
    progress = progress.after(step, accuracy, 3)
  assert progress == Progress(best_accuracy=0.7, best_step=3, stale=2, stopped=False)
  assert progress.after(5, 0.1, 3).stopped
  assert not progress.after(5, 0.8, 3).stopped
  assert not progress.after(5, 0.1, None).stopped


def test_metric_names_carry_units():
  assert metric_name("train", "kl") == "train/kl_nats"
  assert metric_name("eval", "squared_error") == "eval/squared_error"
  assert metric_name("train", "rate_bpd") == "train/rate_bpd"


def test_damaged_metrics_are_not_skipped_silently(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r"line 2 is damaged .*not valid JSON"):
    read_metrics(tmp_path)


def test_signals_become_a_question_and_handlers_come_back():
  before = signal.getsignal(signal.SIGTERM)
  with interrupts.stop_requests() as stop:
    assert not stop(1)
    signal.raise_signal(signal.SIGTERM)
    assert stop(2)
    assert signal.getsignal(signal.SIGTERM) == before  # a second signal acts as usual
  assert signal.getsignal(signal.SIGTERM) == before


def test_uneven_batches_are_refused():
  class Mesh:
    size = 4

  with pytest.raises(ValueError, match=r"number of devices \(4\), got 50: use for instance 48"):
    sharding.check_batch_size("train.batch_size", 50, Mesh())  # pyright: ignore[reportArgumentType]
  sharding.check_batch_size("train.batch_size", 48, Mesh())  # pyright: ignore[reportArgumentType]
