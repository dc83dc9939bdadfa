"""The Gaussian toy as a classifier to be analysed, and as a run of launch/analyse.py."""

from pathlib import Path

import jax
import numpy as np
from scipy import stats
from toy_evaluation import CLASSES, SCALE, record, toy_images, toy_subject

from gencls import runs
from gencls.analyses.inputs import Caption, Examined, logits_of_set, make_inputs

PRIOR = np.full(CLASSES, 1 / CLASSES)
CAPTION = Caption("TOY", "made")
DEFAULTS = {
  "interpolation": {"num_pairs": 12, "num_steps": 5},
  "class_gap": {},
  "ambiguous": {"num_pairs": 20},
  "out_of_distribution": {"sets": ("mnist", "constant", "uniform_noise")},
}


def examined(workdir=Path("nowhere"), n=30, subject=None, **changes):
  """The toy and its images; other sets are not there."""
  subject = subject or toy_subject()

  whole = toy_images(60)
  first = whole._replace(
    images=whole.images[:n], labels=whole.labels[:n], indices=whole.indices[:n]
  )
  found = Examined(
    logits_fn=subject.logits_fn,
    score=subject.classifier.score,
    density_levels=whole.num_levels,
    class_prior=PRIOR,
    dataset=first,
    whole=whole,
    fitting=toy_images(80, seed=3)._replace(split="validation"),
    detectors=("marginal", "joint", "kl"),
    false_positive_rate=0.05,
    seed=0,
    batch_size=8,
    there=lambda name: False,
    load=lambda name: None,
    workdir=workdir,
    progress=False,
  )
  return found._replace(**changes)


def inputs(**changes):
  """What an analysis is given."""
  found = examined(**changes)
  own = logits_of_set(found, found.dataset, "own")
  return make_inputs(found, own, logits_of_set(found, found.fitting, "fitting", purpose="detect"))


def toy_run(subject=None):
  """What `runs.load` would return."""
  subject = subject or toy_subject()
  settings = {"name": "toy", "dir": None, "validation_size": 0}
  config = {"model": {"name": "toy"}, "seed": 0, "data": settings}
  made = {"config": config, "data": {"source": "made here"}, "class_prior": PRIOR.tolist()}
  logits_fn = jax.tree_util.Partial(subject.classifier.logits, subject.params)
  return runs.Run(
    subject.classifier, subject.params, config, {**record(), **made}, 5, logits_fn, subject.params
  )


def gaussian(x):
  """[N, C] log p(x | y) of the toy, by SciPy."""
  means = np.asarray(toy_subject().params["mean"], np.float64).reshape(CLASSES, -1)
  flat = np.asarray(x, np.float64).reshape(len(x), 1, -1)
  return np.sum(stats.norm.logpdf(flat, means[None], SCALE), axis=2)
