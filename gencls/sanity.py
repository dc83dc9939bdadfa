"""Signs that a robustness number is wrong (Carlini et al. 2019, arXiv:1902.06705), as checks.

A failed check is printed beside the number; it stops nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from gencls.evaluation.grading import forward
from gencls.types import Array, Keys, LogitsFn

Status = Literal["pass", "fail", "not run"]
UNFINISHED = "not finished yet"  # why a check was not run that the evaluation is to have
THREAT = "forward pass and threat model agree"
ORIGIN = "all cells come from one revision, versions and device"  # says nothing of robustness
UNCOMMITTED = " + changes"  # behind a revision
SINGLE_STEP = (
  *("fgsm", "fgm", "foolbox:FGSM", "foolbox:FGM", "foolbox:L1FastGradientAttack"),
  *("foolbox:L2FastGradientAttack", "foolbox:LinfFastGradientAttack"),
)
TRANSFER = "transfer"  # the name of what is no attack but images made on another model
SAME_MODEL = "same_model"  # and of images that another evaluation has made on this one
# Attacks that see no gradient of the model; all others are white-box. `auto_attack` is both.
GRADIENT_FREE = (
  TRANSFER,
  *("uniform_noise", "gaussian_noise", "salt_and_pepper", "pointwise", "gaussian_blur"),
  *("linear_search_contrast", "binary_search_contrast"),
  *("boundary", "hop_skip_jump", "separable", "square", "spsa"),
)
# White-box attacks that choose among some images of the ball: those that a decoder makes, or those
# whose pixels were flipped. One step of a gradient may rightly go further.
SELECTIVE = ("latent_descent", "pixel_flips")
_FOOLBOX_GRADIENT_FREE = (
  *("Noise", "Contrast", "Blur", "Boundary", "HopSkipJump", "Pointwise", "Spatial", "GenAttack"),
  *("Inversion", "Dataset", "Binarization"),
)
_ROUNDING = 1e-6  # far below one image
_CONVERGED = 0.01  # what more steps may still find
_NOTHING_NEW = 0.002  # what a gradient-free attack may still find, as in AutoAttack
_NAMED = 10  # images are named one by one, up to so many


def gradient_free(name: str) -> bool:
  """Whether an attack, by its name, sees no gradient of the model."""
  foolbox = name.startswith("foolbox:") and any(part in name for part in _FOOLBOX_GRADIENT_FREE)
  return foolbox or name in GRADIENT_FREE


def transferred(name: str) -> bool:
  """Whether an attack, by its name, is images that were made on another model."""
  return name == TRANSFER


def made_elsewhere(name: str) -> bool:
  """Whether an attack, by its name, is images that another evaluation has made."""
  return name in (TRANSFER, SAME_MODEL)


def climbs(name: str) -> bool:
  """Whether an attack, by its name, follows the gradient to any image of the ball."""
  return not gradient_free(name) and name not in SELECTIVE


class Check(NamedTuple):
  """One check: what was asked, how it ended, and the numbers."""

  name: str
  status: Status
  detail: str


class Curve(NamedTuple):
  """The graded share of each image at each eps, of one attack or of a worst case."""

  label: str
  norm: str
  eps: tuple[float, ...]  # increasing
  correct: tuple[np.ndarray, ...]  # per eps, [N]; of a targeted attack the share out of target
  target: str | int | None = None
  against: str = "classifier"  # or "detector": the share that is right or rejected


def _mean(shares: np.ndarray) -> float:
  return float(np.mean(shares, dtype=np.float64))  # cells hold float32: one image is not 1e-7


def allowed(first: np.ndarray, second: np.ndarray, draws: int) -> float:
  """One image; where numbers are means over draws, two paired standard errors if that is more."""
  one = 1.0 / len(first) + _ROUNDING
  if draws == 1 or len(first) < 2:
    return one
  return max(one, 2 * float(np.std(second - first, ddof=1)) / np.sqrt(len(first)))


def monotone(curve: Curve, draws: int) -> Check:
  """Accuracy never rises with eps by more than one image."""
  points = list(zip(curve.eps, curve.correct, strict=True))
  steps = [Step(*low, *high) for low, high in itertools.pairwise(points)]
  return never_rises(curve.label, curve.norm, steps, draws, curve.target, curve.against)


class Step(NamedTuple):
  """From one eps to a larger one, the graded share [N] at both."""

  low: float
  first: np.ndarray
  high: float
  second: np.ndarray


def never_rises(
  label: str,
  norm: str,
  steps: Sequence[Step],
  draws: int,
  target: str | int | None = None,
  against: str = "classifier",
) -> Check:
  """What attacks leave never rises with eps by more than one image.

  Args:
    label: whose share it is.
    norm: of the ball.
    steps: what is compared.
    draws: number of grade draws.
    target: as in `Curve`.
    against: as in `Curve`.
  """
  what = "the share right or rejected" if against == "detector" else "accuracy"
  what = what if target is None else "the share outside the target class"
  name = f"{label} ({norm}): {what} falls with eps"
  if not steps:
    return Check(name, "not run", "no attack at two eps")
  rises = []
  for low, first, high, second in steps:
    rise = _mean(second) - _mean(first)
    if rise > allowed(first, second, draws):
      rises.append(f"{low:g} → {high:g}: +{100 * rise:.1f} points")
  return Check(name, "fail" if rises else "pass", "; ".join(rises) or "at every step")


def half_box(attacked: Curve | None, labels: np.ndarray) -> Check:
  """At eps = 0.5 (ℓ∞) every image can be made grey: attacks leave at most the largest class right.

  Args:
    attacked: the worst case over attacks alone, None without any. With the grey image it would say
      nothing: on that a deterministic model predicts one class.
    labels: [N].
  """
  name = "at eps ≥ 0.5 (linf) attacks leave no more than the largest class right"
  at = [i for i, eps in enumerate(attacked.eps) if eps >= 0.5] if attacked else []
  if attacked is None or not at:
    return Check(name, "not run", "no linf attack at eps ≥ 0.5")
  share = float(np.max(np.bincount(labels)) / len(labels))
  accuracy = max(_mean(attacked.correct[i]) for i in at)
  status = "pass" if accuracy <= share + _ROUNDING else "fail"
  return Check(name, status, f"accuracy {100 * accuracy:.1f}%, largest class {100 * share:.1f}%")


def iterated_beats_single(single: Sequence[Curve], iterated: Sequence[Curve], draws: int) -> Check:
  """Every iterated attack is at least as strong as every single-step one, within one image."""
  name = "iterated attacks beat single-step ones"
  worse, compared = [], 0
  for many in iterated:
    for one in single:
      for eps, strong in zip(many.eps, many.correct, strict=True):
        alike = all(getattr(many, n) == getattr(one, n) for n in ("norm", "target", "against"))
        if eps == 0 or not alike or eps not in one.eps:
          continue
        compared += 1
        weak = one.correct[one.eps.index(eps)]
        gap = _mean(strong) - _mean(weak)
        if gap > allowed(weak, strong, draws):
          worse.append(f"{many.label} weaker than {one.label} at {eps:g} by {100 * gap:.1f} points")
  if not compared:
    return Check(name, "not run", "no pair of both at the same norm and eps")
  return Check(name, "fail" if worse else "pass", "; ".join(worse) or f"{compared} compared")


def doubling(pairs: Sequence[tuple[Curve, Curve]], alone: Sequence[tuple[Curve, Curve]],
             draws: int) -> Check:  # fmt: skip
  """At least twice the steps lower the worst case by no more than a point (or the draws' noise).

  Args:
    pairs: (less, more) of the worst case: without the attacks that make more, and with them.
    alone: (less, more) of each such attack by itself, told beside it: another attack may make up
      for one that falls short.
    draws: number of grade draws.
  """
  return _converged(
    "doubling the steps does not lower the worst case", "steps", pairs, alone, draws
  )


def restarting(pairs: Sequence[tuple[Curve, Curve]], alone: Sequence[tuple[Curve, Curve]],
               draws: int) -> Check:  # fmt: skip
  """At least five times the restarts lower the worst case by no more than a point: `doubling`."""
  return _converged("five restarts do not lower the worst case", "restarts", pairs, alone, draws)


def _converged(
  name: str,
  number: str,
  pairs: Sequence[tuple[Curve, Curve]],
  alone: Sequence[tuple[Curve, Curve]],
  draws: int,
) -> Check:
  lower, compared = _lower(pairs, draws)
  if not compared:
    return Check(name, "not run", f"no two attacks that differ in the {number} alone")
  detail = "; ".join(lower) or f"at most a point lower, {compared} compared"
  beside, _ = _lower(alone, draws)
  detail += f" (by themselves: {'; '.join(beside)})" if beside else ""
  return Check(name, "fail" if lower else "pass", detail)


def _lower(pairs: Sequence[tuple[Curve, Curve]], draws: int) -> tuple[list[str], int]:
  """Where more of something leaves less than a point below, in words; how many were compared."""
  lower, compared = [], 0
  for few, many in pairs:
    for eps, long in zip(many.eps, many.correct, strict=True):
      if eps == 0 or eps not in few.eps:
        continue
      compared += 1
      short = few.correct[few.eps.index(eps)]
      gap = _mean(short) - _mean(long)
      if gap > max(_CONVERGED, allowed(short, long, draws)):
        lower.append(f"{many.label} below {few.label} at {eps:g} by {100 * gap:.1f} points")
  return lower, compared


def counted(name: str, counts: Mapping[str, int], n: int) -> Check:
  """Fails where any cell counts an example, and says which."""
  found = [f"{label}: {count} of {n}" for label, count in counts.items() if count]
  status = "not run" if not counts else "fail" if found else "pass"
  return Check(name, status, "; ".join(found) or ("none" if counts else "no attack"))


def attack_agrees(disagreements: Mapping[str, int], n: int) -> Check:
  """Under one key, attack and grading see one function: they differ by float noise at most.

  Args:
    disagreements: per cell, images where success by the attack's own view and a wrong graded
      prediction are not the same.
    n: number of images.
  """
  name = "attack and grading agree"
  if not disagreements:
    return Check(name, "not run", "no attack under a known seed")
  found = [f"{label}: {count} of {n} differ" for label, count in disagreements.items() if count > 1]
  worst = max(disagreements.values())
  detail = "; ".join(found) or f"at most {worst} of {n} differ"
  return Check(name, "fail" if found else "pass", detail)


def one_origin(made_by: Mapping[str, Sequence[str]]) -> Check:
  """All cells come from one revision of the code, one set of versions and one kind of device."""
  name = ORIGIN
  mixed = [f"{kind}: {' / '.join(found)}" for kind, found in made_by.items() if len(found) > 1]
  return Check(name, "fail" if mixed else "pass", "; ".join(mixed) or "one of each")


class Randomness(NamedTuple):
  """What two keys, and the same key twice, do to the logits."""

  randomised: bool
  repeatable: bool


def detect_randomness(logits_fn: LogitsFn, keys: Keys, other: Keys, x: Array) -> Randomness:
  """Runs a batch under two sets of keys, and the first once more.

  Args:
    logits_fn: (keys, x) -> [B, C].
    keys: [B].
    other: [B], different keys.
    x: [B, H, W, D].
  """
  first, second, again = (np.asarray(forward(logits_fn, k, x)) for k in (keys, other, keys))
  same = np.array_equal(first, again, equal_nan=True)
  return Randomness(not np.array_equal(first, second, equal_nan=True), same)


def threat_fits(randomness: Randomness, threat: str, prepared_anew: bool = False) -> Check:
  """The declared threat model is about the randomness that the model has.

  Args:
    randomness: what keys do.
    threat: "known_seed" or "fresh_seed".
    prepared_anew: whether `prepare` draws, once for attack and grading alike.
  """
  name = THREAT
  kind = "randomised" if randomness.randomised else "deterministic"
  if not randomness.repeatable:
    return Check(name, "fail", "the same keys give other logits: there is hidden randomness")
  if threat == "fresh_seed" and prepared_anew:
    told = "attack and grading share what is drawn once, in `prepare`: set threat='known_seed'"
    return Check(name, "fail", told)
  if threat == "fresh_seed" and not randomness.randomised:
    return Check(name, "pass", "deterministic: both threat models coincide")
  return Check(name, "pass", f"{kind}, {threat}")


class Pair(NamedTuple):
  """White-box attacks and a gradient-free one at the same norm and eps, the share right [N]."""

  where: str
  white: np.ndarray  # the worst case over all white-box attacks
  black: np.ndarray  # the gradient-free attack
  both: np.ndarray  # the worst case over all of them
  name: str = ""  # of the gradient-free attack
  places: np.ndarray | None = None  # [N] of the images in their data set; None: 0 to N − 1
  partial: bool = False  # the gradient-free attack has only met what the others left


def white_beats_black(pairs: Sequence[Pair], draws: int, black: str = "black-box") -> Check:
  """White-box attacks together leave no more right than a gradient-free one, within one image.

  One that has only met what the others left has no rate to compare.

  Args:
    pairs: what is compared.
    draws: number of grade draws.
    black: what the gradient-free attacks are called.
  """
  name = f"white-box beats {black}"
  pairs = [pair for pair in pairs if not pair.partial]
  if not pairs:
    return Check(name, "not run", f"no {black} attack beside a white-box one")
  worse = []
  for pair in pairs:
    gap = _mean(pair.white) - _mean(pair.black)
    if gap > allowed(pair.black, pair.white, draws):
      worse.append(f"{pair.where} is stronger by {100 * gap:.1f} points")
  return Check(name, "fail" if worse else "pass", "; ".join(worse) or f"{len(pairs)} compared")


def nothing_new(pairs: Sequence[Pair], draws: int, black: str = "a gradient-free attack") -> Check:
  """A gradient-free attack breaks at most 0.2 points (or one image) that white-box ones miss.

  The images are named, whatever their number. The arguments are those of `white_beats_black`.
  """
  name = f"{black} finds nothing new"
  if not pairs:
    return Check(name, "not run", f"no {black.removeprefix('a ')} beside a white-box one")
  many, few = [], []
  for pair in pairs:
    gap = _mean(pair.white) - _mean(pair.both)
    if gap > max(_NOTHING_NEW + _ROUNDING, allowed(pair.white, pair.both, draws)):
      many.append(f"{pair.where} breaks {100 * gap:.1f} points more{_missed(pair)}")
    elif _missed(pair):
      few.append(f"{pair.where}{_missed(pair)}")
  detail = "; ".join([*many, *few]) or f"{len(pairs)} compared"
  return Check(name, "fail" if many else "pass", detail)


def _missed(pair: Pair) -> str:
  """The images that the gradient-free attack breaks and no white-box one, in words."""
  found = np.flatnonzero((pair.white > 0.5) & (pair.both <= 0.5))  # known seed: right and wrong
  if not len(found):
    return ""
  numbers = found if pair.places is None else pair.places[found]
  shown = ", ".join(map(str, numbers[:_NAMED]))
  return f" (image{'s' * (len(found) > 1)} {shown}{', …' * (len(found) > _NAMED)})"
