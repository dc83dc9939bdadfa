"""Made-up evaluations on disk, as large as one likes, without a model behind them."""

import json

import numpy as np
from toy_evaluation import record

from gencls.evaluate import Plan
from gencls.evaluation.results import Cell, cell_path, data_digest, write_cell
from gencls.evaluation.stored import write_plan

EPS = (0.05, 0.1, 0.2, 0.3, 0.5)
ATTACKS = ("fgsm", "pgd", "mim", "apgd", "square", "carlini_wagner")


def _graded(rng, labels, share, draws=1):
  right = (rng.random(len(labels)) < share).astype(np.float32)
  prediction = np.where(right > 0, labels, (labels + 1) % 10).astype(np.int32)
  return {
    "index": np.arange(len(labels), dtype=np.int32),
    "label": labels,
    "prediction": np.repeat(prediction[:, None], draws, axis=1),
    "correct": right,
    "select_correct": right,
    "select_margin": np.where(right > 0, 1.0, -1.0).astype(np.float32),
    "logits": rng.normal(size=(len(labels), 10)).astype(np.float32) * 20,
    "nonfinite_grades": np.zeros(len(labels), np.int64),
  }


def _verdict(arrays, score):
  accepted, right = score >= 0, arrays["correct"][:, None] > 0
  held = np.mean(right | ~accepted, axis=1).astype(np.float32)
  margin = np.maximum(arrays["select_margin"], -score[:, 0]).astype(np.float32)
  verdict = {"score": score, "accepted": accepted, "held": held}
  return verdict | {"select_held": held, "select_held_margin": margin}


def _put_detector(folder, graded, source, score):
  """Writes the cell of a detector's fit to as many images; returns its plan."""
  rule = {"name": "quantile", "false_positive_rate": 0.05}
  fit = {"name": "kl", "per_class": False, "classes": "prediction", "rule": rule}
  own = {"detector": fit, "data": {**source, "split": "validation"}, "seed": 0}
  head = {"label": "detector", "norm": "", "eps": 0.0, "settings": own, "num_images": len(score),
          "seconds": 0.5, "record": record(), "fitted": {"threshold": [0.0], "reference": {}},
          "fitting_images": len(score)}  # fmt: skip
  names = ("index", "label", "prediction", "correct", "logits")
  arrays = {**{name: graded[name] for name in names}, "score": score, "accepted": score >= 0}
  path = cell_path(folder / "cells", "detector", own)
  write_cell(path, Cell(head, arrays))
  return Plan("detector", "", 0.0, None, own, path)


def write_run(workdir, title, *, skill=0.5, attacks=ATTACKS, n=100, shape=(28, 28, 1), name="toy",
              seed=0, norms=("linf",), leave_out=(), detector=False):  # fmt: skip
  """Writes the evaluation `name` of a run that never was.

  Args:
    workdir: of the run.
    title: of the model.
    skill: larger is more robust.
    attacks: labels.
    n: images.
    shape: of the images.
    name: of the evaluation.
    seed: of the numbers.
    norms: of the balls.
    detector: whether there is a detector; to it attacked images are less ordinary, but not those of
      attacks whose labels end in "_detector".
    leave_out: cells that are planned, but not there: labels, or (label, eps).

  Returns:
    The evaluation's folder.
  """
  folder, rng = workdir / "results" / name, np.random.default_rng(seed)
  images = np.random.default_rng(99).integers(0, 256, (n, *shape)).astype(np.uint8)
  labels = (np.arange(n) % 10).astype(np.int32)
  source = {"name": "toy", "split": "test", "num_images": n, "digest": data_digest(images, labels)}
  x, base = images[:8] / np.float32(255), {"data": source, "params": title, "step": 1}
  grading = {"threat": "known_seed", "seed": 0, "select_draws": 1, "grade_draws": 1}
  plans = []

  def put(label, norm, eps, arrays, **header):
    settings = {**base, **grading, "label": label, "norm": norm, "eps": eps}
    if label in attacks:
      settings["attack"] = {"name": label, "label": label, "norm": norm, "hyperparameters": {}}
    sees = label.endswith("_detector")
    if sees:
      settings["attack"]["against"] = "detector"
    path = cell_path(folder / "cells", f"{label}-{norm}-{eps}", settings)
    plans.append(Plan(label, norm, eps, None, settings, path))
    if detector and label != "clean":
      score = rng.normal(size=(n, 1)) - (label in attacks and not sees)
      arrays = {**arrays, **_verdict(arrays, score)}
    head = {"label": label, "norm": norm, "eps": eps, "settings": settings, "num_images": n,
            "seconds": 1.5, "record": record(), **header}  # fmt: skip
    if label not in leave_out and (label, eps) not in leave_out:
      write_cell(path, Cell(head, arrays))

  clean = _graded(rng, labels, 0.98)
  metrics = {"log_marginal_nats": {"value": -470.5, "standard_error": 1.0, "reason": None}}
  put("clean", "", 0.0, clean, metrics=metrics, draws=1, deterministic=True, prepared_anew=False,
      score="exact")  # fmt: skip
  put("untouched", "", 0.0, clean, randomness={"randomised": False, "repeatable": True})
  if detector:
    plans.append(_put_detector(folder, clean, source, rng.normal(1.6, size=n)))
  for norm in norms:
    for eps in EPS:
      put("grey", norm, eps, {**_graded(rng, labels, 0.9), "norm": np.full(n, eps, np.float32)})
      for i, label in enumerate(attacks):
        share = max(0.0, 0.98 - eps * (0.8 + 0.3 * i) / skill)
        noise = eps * rng.choice([-1, 1], size=x.shape).astype(np.float32)
        passes = {"forward": np.full(n, 40, np.int32), "backward": np.full(n, 20, np.int32)}
        flags = {f: np.zeros(n, bool) for f in ("outside", "zero_gradient")}
        counts = {f: np.zeros(n, np.int32) for f in ("nonfinite_steps", "zero_gradient_steps")}
        arrays = {**_graded(rng, labels, share), **passes, **flags, **counts}
        arrays |= {"norm": np.full(n, eps, np.float32), "attack_success": arrays["correct"] < 0.5}
        put(label, norm, eps, {**arrays, "x_adv": np.clip(x + noise, 0, 1)})
  protocol = {**grading, "clean_draws": 1, "clean": ["accuracy"], "keep_images": 8}
  made = {
    label: {"name": label, "eps": list(EPS), "eot_samples": 1,
            "against": "detector" if label.endswith("_detector") else None}
    for label in attacks
  }  # fmt: skip
  config = {"model": {"num_samples": None}, "attack_model": {"num_samples": None}}
  statement = {"name": name, "title": title, **base, "model": {"name": "toy"},
               "attack_model": {"name": "toy"}, "protocol": protocol, "attacks": made,
               "config": config, "record": record()}  # fmt: skip
  write_plan(folder, json.loads(json.dumps(statement)), plans, x)
  return folder
