"""A threshold in front of any classifier: it sees only which pixels are bright."""

from gencls.models.preprocessed import preprocess
from gencls.straight_through import DEFAULT_THRESHOLD, check_threshold, threshold
from gencls.types import Classifier, Score


def binarize(
  classifier: Classifier, at: float = DEFAULT_THRESHOLD, score: Score | None = None
) -> Classifier:
  """The classifier of binary images: 1 where x >= at, else 0.

  Gradients pass the threshold by the straight-through estimator: its derivative is taken to be the
  identity.

  Args:
    classifier: the inner model. What it makes (samples, reconstructions, decoded images) is not
      thresholded.
    at: the threshold, in (0, 1]; a pixel equal to it becomes 1.
    score: what the inner model's logits are of binary images, where they are the logarithm of a
      probability of one of the 2^D (a Bernoulli likelihood), and not a density over [0, 1]^D. None:
      what the inner model says of them if it is such a one itself, else "unnormalised" at most.

  Returns:
    A `Classifier` with the parameters of the inner one.

  Raises:
    ValueError: if `at` is out of its range.

  References:
    Bengio et al. 2013, arXiv:1308.3432; Athalye et al. 2018, arXiv:1802.00420 (BPDA).
  """
  check_threshold(at)
  binary = preprocess(classifier, lambda keys, x: threshold(x, at), "straight_through")
  binary = binary._replace(pixel_threshold=at)
  if score is None and classifier.binary:
    score = classifier.score
  return binary if score is None else binary._replace(score=score, binary=True)
