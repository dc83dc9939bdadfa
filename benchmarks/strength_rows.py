"""The comparisons of `attack_strength.py`: our attack and its peer at equal settings, as data."""

from typing import Any, NamedTuple

from gencls import attacks

LINF, L2, L1 = (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (5.0, 10.0, 20.0)


class Row(NamedTuple):
  """One comparison."""

  attack: str  # our name, in attacks.REGISTRY
  norm: str
  eps: tuple[float, ...]  # where success is counted; () compares median distances instead
  ours: dict[str, Any]  # what `attacks.build` gets besides norm and eps
  library: str  # "foolbox" or "torchattacks"
  peer: str  # the name of its class
  theirs: dict[str, Any]  # its keyword arguments
  random: bool = False  # whether its result depends on the seed
  num_images: int | None = None  # fewer than the others have, where the peer is slow
  gfz: bool = False  # whether it is compared on the GFZ too
  # Of AttackBench's score: the settings of both sides that use its budget of passes up.
  budget: dict[str, Any] | None = None
  their_budget: dict[str, Any] | None = None

  @property
  def minimum(self) -> bool:
    """Whether ours is a minimum-norm attack, run once for every eps."""
    return not attacks.takes_eps(self.attack)

  @property
  def label(self) -> str:
    """Names the row; unique."""
    loss = self.ours.get("loss")
    which = [self.ours[n] for n in ("version",) if n in self.ours]
    which += ["targeted"] * (self.ours.get("num_targets", 0) > 0)
    return " ".join([self.attack, self.norm, *([loss] if loss else []), *which])


CE = {"loss": "cross_entropy"}
# Not torchattacks' own AutoAttack, whose members make 10 steps: see strength_peers.py.
STANDARD = "standard AutoAttack"


def _fixed() -> list[Row]:
  """Of a fixed budget, against foolbox."""

  def steps(count: int, relative: float) -> dict[str, Any]:
    return {"num_steps": count, "rel_step_size": relative, **CE}

  linf = {"steps": 40, "rel_stepsize": 1 / 30}
  l2 = {"steps": 50, "rel_stepsize": 0.025}
  fgsm, fgm = "LinfFastGradientAttack", "L2FastGradientAttack"
  return [
    Row("fgsm", "linf", LINF, CE, "foolbox", fgsm, {}, gfz=True),
    Row("pgd", "linf", LINF, steps(40, 1 / 30), "foolbox", "LinfPGD", linf, True, gfz=True),
    Row("fgm", "l2", L2, CE, "foolbox", fgm, {}, gfz=True),
    Row("pgd", "l2", L2, steps(50, 0.025), "foolbox", "L2PGD", l2, True, gfz=True),
    Row("mim", "linf", LINF, {"num_steps": 10, **CE}, "foolbox",
        "LinfMomentumIterativeFastGradientMethod", {"steps": 10, "rel_stepsize": 0.1}),
    Row("pgd", "l1", L1, steps(50, 0.025), "foolbox", "L1PGD", l2, True),
    Row("uniform_noise", "linf", LINF, {"num_repeats": 100}, "foolbox",
        "LinfRepeatedAdditiveUniformNoiseAttack", {"repeats": 100}, True),
    Row("gaussian_noise", "l2", L2, {"num_repeats": 100}, "foolbox",
        "L2RepeatedAdditiveGaussianNoiseAttack", {"repeats": 100}, True),
  ]  # fmt: skip


def _autoattack() -> list[Row]:
  """AutoAttack and its members, against the authors' versions in torchattacks; and SPSA."""
  rows = []
  for norm, name, eps in (("linf", "Linf", LINF), ("l2", "L2", L2)):
    budget, peer = {"num_steps": 100}, {"norm": name, "steps": 100}
    rows += [
      Row("apgd", norm, eps, {**budget, **CE}, "torchattacks", "APGD", {**peer, "loss": "ce"},
          True),
      Row("apgd", norm, eps, {**budget, "loss": "dlr"}, "torchattacks", "APGD",
          {**peer, "loss": "dlr"}, True),
      Row("apgd", norm, eps, {**budget, "loss": "dlr", "num_targets": 9}, "torchattacks", "APGDT",
          peer, True, num_images=100),
      Row("square", norm, eps, {"num_steps": 5000}, "torchattacks", "Square",
          {"norm": name, "n_queries": 5000, "resc_schedule": False}, True, num_images=100),
      # The peer stops at its first success within eps: no distance of it is a minimum.
      Row("fab", norm, eps, {**budget, "num_targets": 9}, "torchattacks", "FAB",
          {**peer, "multi_targeted": True}, True, num_images=100,
          budget={"num_steps": 55}, their_budget={}),
      Row("auto_attack", norm, eps, {"version": "standard"}, "torchattacks", STANDARD,
          {"norm": name}, True, num_images=100),
    ]  # fmt: skip
  spsa = {"num_steps": 20, "num_samples": 260, "step_size": 0.01, "delta": 0.01}
  peer_spsa = {"nb_iter": 20, "nb_sample": 128, "lr": 0.01, "delta": 0.01}
  rows.append(Row("spsa", "linf", LINF, spsa, "torchattacks", "SPSA", peer_spsa, True, 50))
  return rows


def _minimum() -> list[Row]:
  """Of minimum norm, against foolbox."""
  cw = {"binary_search_steps": 3, "num_steps": 100, "step_size": 0.1, "initial_const": 1.0}
  peer_cw = {"binary_search_steps": 3, "steps": 100, "stepsize": 0.1, "initial_const": 1.0}
  deepfool = {"num_steps": 50, "overshoot": 0.02}
  peer_deepfool = {"steps": 50, "overshoot": 0.02, "candidates": 10}
  fmn = {"num_steps": 100}
  peer_fmn = {"steps": 100}
  more, peer_more = {"num_steps": 500}, {"steps": 500}
  return [
    Row("carlini_wagner", "l2", (), {**cw, "abort_early": False}, "foolbox",
        "L2CarliniWagnerAttack", {**peer_cw, "abort_early": False},
        budget={**cw, "binary_search_steps": 5}, their_budget={"binary_search_steps": 5}),
    Row("deepfool", "l2", (), deepfool, "foolbox", "L2DeepFoolAttack", peer_deepfool, gfz=True),
    Row("deepfool", "linf", (), deepfool, "foolbox", "LinfDeepFoolAttack", peer_deepfool),
    Row("ddn", "l2", (), {"num_steps": 100, **CE}, "foolbox", "DDNAttack", {"steps": 100}, gfz=True,
        budget=more, their_budget=peer_more),
    Row("fmn", "l2", (), fmn, "foolbox", "L2FMNAttack", peer_fmn,
        budget=more, their_budget=peer_more),
    Row("fmn", "linf", (), fmn, "foolbox", "LInfFMNAttack", peer_fmn, gfz=True,
        budget=more, their_budget=peer_more),
    Row("fmn", "l1", (), fmn, "foolbox", "L1FMNAttack", peer_fmn,
        budget=more, their_budget=peer_more),
    Row("fmn", "l0", (), fmn, "foolbox", "L0FMNAttack", peer_fmn),
    Row("pointwise", "l0", (), {}, "foolbox", "PointwiseAttack", {}, True, num_images=20),
    Row("salt_and_pepper", "l2", (), {"num_steps": 1000}, "foolbox", "SaltAndPepperNoiseAttack",
        {"steps": 1000}, True, num_images=200),
    Row("boundary", "l2", (), {"num_steps": 1000}, "foolbox", "BoundaryAttack", {"steps": 1000},
        True, num_images=100),
    Row("hop_skip_jump", "l2", (), {"num_steps": 20}, "foolbox", "HopSkipJumpAttack",
        {"steps": 20, "constraint": "l2", "max_gradient_eval_steps": 1000}, True, num_images=50),
    Row("hop_skip_jump", "linf", (), {"num_steps": 20}, "foolbox", "HopSkipJumpAttack",
        {"steps": 20, "constraint": "linf", "max_gradient_eval_steps": 1000}, True, num_images=100),
    Row("linear_search_contrast", "linf", (), {"num_steps": 1000}, "foolbox",
        "LinearSearchContrastReductionAttack",
        {"steps": 1000, "target": 0.5, "distance": "linf"}, num_images=100),
    Row("binary_search_contrast", "linf", (), {"binary_search_steps": 15}, "foolbox",
        "BinarySearchContrastReductionAttack",
        {"binary_search_steps": 15, "target": 0.5, "distance": "linf"}),
    Row("gaussian_blur", "linf", (), {"num_steps": 1000}, "foolbox", "GaussianBlurAttack",
        {"steps": 1000, "distance": "linf"}, num_images=100),
  ]  # fmt: skip


ROWS: tuple[Row, ...] = (*_fixed(), *_minimum(), *_autoattack())
