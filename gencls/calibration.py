"""How well class probabilities match what happens: calibration error and label likelihood."""

import numpy as np


def expected_calibration_error(
  probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15
) -> float:
  """Expected calibration error of the predicted class, in equal-width bins of confidence.

  Sum over bins of (bin's share of examples) · |accuracy − mean confidence| in the bin.

  Args:
    probabilities: [N, C] class probabilities.
    labels: [N] integers.
    num_bins: number of bins of (0, 1], >= 1.

  Returns:
    A number in [0, 1].

  Raises:
    ValueError: if there are no examples, a probability is not finite or `num_bins` < 1.

  References:
    Guo et al. 2017, arXiv:1706.04599.
  """
  probabilities = np.asarray(probabilities, np.float64)
  if num_bins < 1:
    raise ValueError(f"num_bins must be >= 1, got {num_bins}")
  if len(probabilities) == 0:
    raise ValueError("calibration needs at least one example, got none")
  if not np.all(np.isfinite(probabilities)):
    raise ValueError("probabilities must be finite; look for the model's non-finite logits first")
  confidence = np.max(probabilities, axis=1)
  correct = np.argmax(probabilities, axis=1) == np.asarray(labels)
  bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
  gaps = np.bincount(bins, weights=correct - confidence, minlength=num_bins)
  return float(np.sum(np.abs(gaps)) / len(confidence))


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """[N, C] log-probabilities in nats, in float64."""
  logits = np.asarray(logits, np.float64)
  shifted = logits - np.max(logits, axis=1, keepdims=True)
  return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def label_nll(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """−log p(y | x) of the true label.

  Args:
    logits: [N, C].
    labels: [N] integers.

  Returns:
    [N] float64, nats.
  """
  return -log_softmax(logits)[np.arange(len(labels)), np.asarray(labels)]
