"""The rows of `attack_speed.py`: our attack, its settings, and each peer's with the same ones."""

from typing import Any, NamedTuple

LINF_EPS, L2_EPS, GAUSSIAN_EPS = 0.3, 2.0, 5.0
SEARCH = {"binary_search_steps": 3, "step_size": 0.1, "initial_const": 1.0, "confidence": 0.0}


class Row(NamedTuple):
  """One attack in all libraries; hyperparameters as our factories have them."""

  title: str
  attack: str  # in our registry
  numbers: dict[str, Any]
  loss: str = "margin"
  num_images: int = 128  # at most
  norm: str = "l2"  # of the distances that are written
  # Where it is not empty, ours takes the first of these steps whose median distance is at most the
  # fastest peer's: time to the same distance. Otherwise both make the same steps.
  ladder: tuple[int, ...] = ()
  least: float = 1.0  # speed against the fastest peer that is asked of us
  aim: float = 1.0
  # Of the GFZ; None where the attack is not run on it.
  gfz: dict[str, Any] | None = None
  gfz_images: int = 20


_PGD_LINF = {"norm": "linf", "eps": LINF_EPS, "step_size": 0.01, "num_steps": 40}
_PGD_L2 = {"norm": "l2", "eps": L2_EPS, "step_size": 0.05, "num_steps": 50}
_ONE_DRAW = {"num_repeats": 1, "check_clean": False}
_ALL_STEPS = {"early_stop": False}

ROWS = {
  "fgsm": Row(
    "FGSM linf 0.3",
    "fgsm",
    {"eps": LINF_EPS, "check_result": False},
    loss="cross_entropy",
    norm="linf",
    least=1.2,
    aim=2.0,
    gfz={},
  ),
  "fgsm_classified": Row(
    "FGSM linf 0.3, result classified",
    "fgsm",
    {"eps": LINF_EPS},
    loss="cross_entropy",
    norm="linf",
    least=1.2,
    aim=2.0,
  ),
  "pgd_linf": Row(
    "PGD linf 0.3, 40 steps",
    "pgd",
    {**_PGD_LINF, **_ALL_STEPS},
    loss="cross_entropy",
    norm="linf",
    least=1.2,
    aim=2.0,
    gfz={},
  ),
  "pgd_linf_stop": Row(
    "PGD linf 0.3, until it succeeds", "pgd", _PGD_LINF, norm="linf", least=1.2, aim=2.0
  ),
  "pgd_l2": Row(
    "PGD l2 2, 50 steps",
    "pgd",
    {**_PGD_L2, **_ALL_STEPS},
    loss="cross_entropy",
    least=1.2,
    aim=2.0,
  ),
  "carlini_wagner": Row(
    "C&W l2, 3 searches",
    "carlini_wagner",
    {**SEARCH, "abort_early": True},
    ladder=(25, 50, 75, 100),
    least=1.5,
    aim=4.0,
    gfz={"binary_search_steps": 1, "num_steps": 20},
    gfz_images=10,
  ),
  "deepfool": Row(
    "DeepFool l2",
    "deepfool",
    {"norm": "l2", "overshoot": 0.02, "num_candidates": 10},
    ladder=(50,),
    least=1.5,
    aim=4.0,
    gfz={"num_steps": 3},
    gfz_images=10,
  ),
  "boundary": Row(
    "Boundary, 32 images",
    "boundary",
    {},
    num_images=32,
    ladder=(250, 500, 750, 1000, 1250),  # the peers' starts are not seeded: 8.1 to 8.6
    least=1.5,
    aim=4.0,
    gfz={"num_steps": 50},
    gfz_images=10,
  ),
  "uniform_noise": Row(
    "Uniform noise linf 0.3",
    "uniform_noise",
    {"norm": "linf", "eps": LINF_EPS, **_ONE_DRAW},
    norm="linf",
    gfz={},
  ),
  "gaussian_noise": Row(
    "Gaussian noise l2 5", "gaussian_noise", {"norm": "l2", "eps": GAUSSIAN_EPS, **_ONE_DRAW}
  ),
  "binary_contrast": Row(
    "Contrast, 15 bisections", "binary_search_contrast", {"binary_search_steps": 15}, norm="linf"
  ),
  "linear_contrast": Row(
    "Contrast, 1000 levels",
    "linear_search_contrast",
    {"num_steps": 1000},
    norm="linf",
    least=3.0,
    aim=3.0,
    gfz={"num_steps": 50},
    gfz_images=10,
  ),
  "blur": Row(
    "Gaussian blur, 1000 widths",
    "gaussian_blur",
    {"num_steps": 1000},
    norm="linf",
    least=3.0,
    aim=3.0,
  ),
  "apgd": Row(
    "APGD linf 0.3, 40 steps",
    "apgd",
    {"norm": "linf", "eps": LINF_EPS, "num_steps": 40, **_ALL_STEPS},
    loss="cross_entropy",
    norm="linf",
  ),
  "fab": Row("FAB l2, 20 steps", "fab", {"norm": "l2"}, ladder=(10, 15, 20)),
  "square": Row(
    "Square linf 0.3, 500 queries",
    "square",
    {"norm": "linf", "eps": LINF_EPS, "num_steps": 500},
    norm="linf",
  ),
  "ddn": Row("DDN l2, 100 steps", "ddn", {}, loss="cross_entropy", ladder=(50, 75, 100)),
  "fmn": Row("FMN l2, 100 steps", "fmn", {"norm": "l2"}, ladder=(50, 75, 100)),
  "hop_skip_jump": Row(
    "HopSkipJump l2, 5 iterations, 32 images",
    "hop_skip_jump",
    {"norm": "l2"},
    num_images=32,
    ladder=(3, 4, 5),
  ),
}
