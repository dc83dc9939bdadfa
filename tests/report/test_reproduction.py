"""How many of a paper's numbers ours give again."""

from gencls.report import reproduction
from gencls.report.reproduction import Pair

PAPER = {
  "source": "A 2020",
  "data": "toy",
  "images": "10 test images",
  "tables": [
    {"norm": "linf", "eps": [0.1, 0.3], "accuracy": {"GFZ": {"pgd": [80.0, 50.0]}}},
    {"norm": "l2", "eps": [0.1, 2], "accuracy": {"GFZ": {"pgd": [70.0, None], "blur": [5.0, 9.0]}}},
    {"norm": "linf", "eps": [0.3], "accuracy": {"CNN": {"pgd": [30.0]}}},
  ],
}


def summary(*rows):
  return {
    "rows": [
      {"label": label, "norm": norm, "eps": eps, "as_returned": mean and {"mean": mean}}
      for label, norm, eps, mean in rows
    ]
  }


SOFT = {
  # 5 points less, 30 more, and in the other norm 1 more; the paper has no PGD at l2 2, no square.
  "GFZ": summary(("pgd", "linf", 0.1, 0.75), ("pgd", "linf", 0.3, 0.8), ("pgd", "l2", 0.1, 0.71),
                 ("pgd", "l2", 2, 0.1), ("square", "linf", 0.3, 0.5), ("blur", "l2", 2, None)),
  "CNN": summary(("pgd", "linf", 0.1, 0.3)),  # of the paper's budgets none
  "DFX": summary(("pgd", "linf", 0.1, 0.3)),  # not in the paper
}  # fmt: skip


def test_every_number_of_the_paper_is_held_against_ours_of_the_same_attack_and_budget():
  found = reproduction.pairs(PAPER, SOFT)
  assert found == {
    "GFZ": [
      Pair("pgd", "linf", 0.1, 80.0, 75.0),
      Pair("pgd", "linf", 0.3, 50.0, 80.0),
      Pair("pgd", "l2", 0.1, 70.0, 71.0),
    ]
  }


def test_what_is_within_five_points_either_way_is_counted_and_the_furthest_named():
  text = reproduction.section(PAPER, SOFT)
  cells = [cell.strip() for cell in text.strip().splitlines()[-1].strip("|").split("|")]
  assert cells == ["GFZ", "2 of 3", "5.0", "pgd linf 0.3: 50.0, 80.0"]
  less = {"GFZ": summary(("pgd", "linf", 0.3, 0.2))}
  assert "0 of 1" in reproduction.section(PAPER, less)
  assert "pgd linf 0.3: 50.0, 20.0" in reproduction.section(PAPER, less)


def test_without_a_number_in_common_there_is_no_section():
  assert reproduction.section(PAPER, {"CNN": SOFT["CNN"]}) == ""
