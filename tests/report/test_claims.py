"""What was claimed, what its protocol finds on ours, and what holds."""

import json

import pytest

from gencls import sanity
from gencls.markdown import percent
from gencls.report import bounds, claims, published
from gencls.sanity import ORIGIN, UNCOMMITTED
from gencls.summary import detection, regraded, unseen

PAPER = {
  "source": "A 2020",
  "data": "toy",
  "images": "10 test images",
  "headline": [["linf", 0.3], ["l2", 2]],
  "tables": [
    {
      "norm": "linf",
      "eps": [0.1, 0.3],
      "accuracy": {
        "GFZ": {"fgsm": [90.0, 60.0], "pgd": [80.0, 50.0], "blur": [1.0, None]},
        "CNN": {"pgd": [30.0, None]},
      },
    },
    {"norm": "l2", "eps": [2], "accuracy": {"GFZ": {"fgm": [70.0]}}},
    {"norm": "l2", "eps": [2, 3], "accuracy": {"GFZ": {"carlini_wagner": [65.0, 4.0]}}},
  ],
}


def interval(mean):
  return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def summary(name, rows=(), worst=(), failed=0, n=1000):
  threat = "fresh_seed" if name == "soft" else "known_seed"
  return {
    "name": name,
    "protocol": {"threat": threat, "select_draws": 5, "grade_draws": 20},
    "attacks": {"pgd": {"name": "pgd", "eot_samples": 7}},
    "data": {"name": "toy", "split": "test"},
    "num_images": n,
    "clean": {"accuracy": interval(0.91 if name == "soft" else 0.92)},
    "checks": [{"name": f"check {i}", "status": "fail"} for i in range(failed)],
    "rows": [
      {"label": label, "norm": norm, "eps": eps, "as_returned": interval(mean)}
      for label, norm, eps, mean in rows
    ],
    "worst": [
      {"norm": norm, "eps": eps, "accuracy": interval(mean), "missing": missing}
      for norm, eps, mean, missing in worst
    ],
  }


LINF = [("fgsm", "linf", 0.3, 0.55), ("pgd", "linf", 0.3, 0.45), ("square", "linf", 0.3, 0.2),
        ("pgd", "linf", 0.1, 0.1), ("blur", "linf", 0.3, 0.3)]  # fmt: skip


def test_the_least_of_the_papers_attacks_stands_beside_the_least_of_the_same_ones():
  held = summary("hard", worst=[("linf", 0.3, 0.02, []), ("linf", 0.1, 0.9, [])])
  found = claims.rows(PAPER, {"GFZ": summary("soft", LINF)}, {"GFZ": held})["GFZ"]
  # blur has no number in the paper at 0.3, square none at all: neither counts.
  assert found[0] == (50.0, "pgd", interval(0.45), interval(0.02), False)
  # Of the two attacks in l2 we have none; the paper's least is over both of its tables.
  assert found[1] == (65.0, "carlini_wagner", None, None, False)


def test_some_of_the_papers_attacks_are_no_reproduction():
  rows = [*LINF, ("fgm", "l2", 2, 0.6)]
  found = claims.rows(PAPER, {"GFZ": summary("soft", rows)}, {})["GFZ"]
  assert found[1].ours is None
  whole = [*rows, ("carlini_wagner", "l2", 2, 0.7)]
  assert claims.rows(PAPER, {"GFZ": summary("soft", whole)}, {})["GFZ"][1].ours == interval(0.6)


def test_models_without_a_claim_there_are_left_out_and_variants_are_not():
  two = {title: summary("soft", LINF) for title in ("GFZ (one)", "GFZ (two)", "CNN", "DFX")}
  assert list(claims.rows(PAPER, two, {})) == ["GFZ (one)", "GFZ (two)"]


def test_each_model_has_its_own_numbers_and_repeated_labels_count_by_the_least():
  again = {"norm": "linf", "eps": [0.3], "accuracy": {"GFZ": {"pgd": [44.0]}}}
  paper = {**PAPER, "tables": [*PAPER["tables"], again]}
  soft = {"GFZ (a)": summary("soft", LINF), "GFZ (b)": summary("soft", [*LINF[:1], *LINF[2:]])}
  hard = {"GFZ (b)": summary("hard", worst=[("linf", 0.3, 0.02, [])])}
  found = claims.rows(paper, soft, hard)
  assert [own[0] for own in found.values()] == [
    (44.0, "pgd", interval(0.45), None, False),
    (44.0, "pgd", None, interval(0.02), False),  # without PGD
  ]


def test_the_page_says_what_has_not_been_run_and_what_failed(tmp_path):
  path = tmp_path / "toy_claims.md"
  soft = {"GFZ": summary("soft", LINF)}
  hard = {"GFZ": summary("hard", worst=[("linf", 0.3, 0.02, ["square"])], failed=2)}
  hard["GFZ"]["missing"] = [{"label": "square", "norm": "linf", "eps": 0.3}]
  hard["ABC"] = {**hard["GFZ"]}  # the paper has no such model: the page does not speak of it
  assert claims.write(PAPER, soft, hard, path)
  text = path.read_text()
  cells = row(text)
  held = f"**{percent(interval(0.02))}** \\*"
  name = "GFZ (2 check(s) failed)"
  assert cells == [
    *(name, "92.0", "50.0 (pgd)", percent(interval(0.45)), held),
    *("65.0 (carlini_wagner)", "-", claims.NOT_RUN),
  ]
  assert "A 2020" in text and "10 test images" in text and "first 1,000 test images" in text
  assert "- GFZ: square linf 0.3" in text and "`soft`" in text and "`hard`" in text
  assert "- GFZ: check 0, check 1\n" in text
  assert "`soft`: Fresh seed: each query of an attack is the mean over fresh keys (pgd 7)" in text
  assert "`hard`: Known seed: attack and grading share each image's key" in text
  assert "By failed checks it may be lower still for GFZ. " in text
  assert "| model (n = 1000) " in text and "ABC" not in text
  hard["GFZ"] |= summary("hard", worst=[("linf", 0.3, 0.02, [])])
  hard["GFZ"]["missing"] = []
  assert claims.write(PAPER, soft, hard, path) and "\\*" not in path.read_text()
  hard["GFZ"]["worst"][0] |= {"accuracy": None, "missing": ["all"]}  # nothing is graded there yet
  assert claims.write(PAPER, soft, hard, path)
  assert row(path.read_text())[4] == claims.NOT_RUN
  hard["GFZ"]["clean"] = None
  assert claims.write(PAPER, soft, hard, path)
  assert row(path.read_text())[1] == claims.NOT_RUN
  assert claims.write(PAPER, soft | {"GFZ (b)": soft["GFZ"]}, hard, path)  # not attacked hard yet
  assert "| GFZ (b) " in path.read_text() and "| 91.0 " in path.read_text()


def test_what_a_worst_case_is_a_bound_of_follows_from_the_failed_checks():
  def one(*failed):
    return {"checks": [{"name": n, "status": "fail", "detail": UNCOMMITTED} for n in failed]}

  alone = bounds.sentence({"A": one()})
  assert (
    alone == "A worst case is an upper bound of what other attacks under its threat model leave."
  )
  assert bounds.sentence({"A": one(ORIGIN, detection.RATE)}) == alone
  # What is no accuracy, or of another number of samples, is no bound of it.
  others = one(regraded.NAME, unseen.HELD, detection.ADAPTIVE, "pgd: the share right or rejected")
  assert bounds.sentence({"A": others}) == alone
  every = {"A": one("doubling", unseen.NAME), "B": one(), "C": one(sanity.THREAT)}
  told = bounds.sentence({**every, "D": one("doubling")})
  assert "By failed checks it may be lower still for A and D. The numbers of A and C are" in told


def row(text):
  line = next(line for line in text.splitlines() if line.startswith("| GFZ"))
  return [cell.strip() for cell in line.strip("|").split("|")]


def test_claims_and_what_holds_are_of_the_same_images(tmp_path):
  hard = {"GFZ": summary("hard", n=200)}
  with pytest.raises(ValueError, match=r"1000 test images \(soft\) and 200 test images \(hard\)"):
    claims.write(PAPER, {"GFZ": summary("soft", LINF)}, hard, tmp_path / "claims.md")


@pytest.mark.parametrize("case", ["no headline", "no number there", "nothing is honest"])
def test_without_budgets_or_numbers_no_page_is_left(tmp_path, case):
  path = tmp_path / "toy_claims.md"
  path.write_text("old")
  headline = {"no headline": None, "no number there": [["linf", 0.2]]}.get(case, PAPER["headline"])
  hard = {} if case == "nothing is honest" else {"GFZ": summary("hard")}
  paper = {**PAPER, "headline": headline}
  assert not claims.write(paper, {"GFZ": summary("soft", LINF)}, hard, path)
  assert not path.exists()


def test_a_headline_that_no_table_has_is_refused(tmp_path):
  path = tmp_path / "paper.json"
  path.write_text(json.dumps({**PAPER, "headline": [["linf", 0.3]]}))
  assert published.read(path)["headline"] == [["linf", 0.3]]
  path.write_text(json.dumps({**PAPER, "headline": [["linf", 0.03]]}))
  with pytest.raises(ValueError, match=r"headline has \['linf', 0.03\], tables have"):
    published.read(path)
