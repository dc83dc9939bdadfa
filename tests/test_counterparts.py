"""Generative classifiers held against their counterparts."""

import pytest
from toy_report import EPS, write_run

from gencls.report import compare, counterparts


@pytest.fixture
def entries(tmp_path):
  for title, skill, seed in (("GFZ", 0.9, 1), ("CNN", 0.1, 2), ("Other", 0.5, 3)):
    write_run(tmp_path / title, title, skill=skill, seed=seed, attacks=("pgd",), n=300)
  return compare.gather([tmp_path / title for title in ("GFZ", "CNN", "Other")], "toy")


@pytest.fixture
def paper():
  accuracy = {"GFZ": {"pgd": [None]}, "CNN": {"pgd": [None]}, "Other": {"pgd": [None]}}
  return {
    "source": "A 2020",
    "data": "toy",
    "counterparts": {"GFZ": ["CNN"]},
    "tables": [{"norm": "linf", "eps": [0.1], "accuracy": accuracy}],
  }


def test_only_the_papers_pairs_in_its_direction(entries, paper):
  (pair,) = counterparts.pairs(paper, entries)
  assert (pair["first"], pair["second"]) == ("GFZ", "CNN") and pair["cost"] == pytest.approx(1.0)
  assert [row["eps"] for row in pair["rows"]] == [0.0, *EPS]
  worst = {t: dict(zip(EPS, s, strict=True)) for t, s in (
    (e.title, [r["accuracy"]["mean"] for r in e.summary["worst"]]) for e in entries)}  # fmt: skip
  for row in pair["rows"][1:]:
    gap = worst["GFZ"][row["eps"]] - worst["CNN"][row["eps"]]
    assert row["difference"]["mean"] == pytest.approx(gap, abs=1e-6)


def test_the_page_says_where_the_interval_leaves_out_zero(entries, paper, tmp_path):
  counterparts.write(paper, entries, tmp_path / "nus_answer")
  text = (tmp_path / "nus_answer.md").read_text()
  (pair,) = counterparts.pairs(paper, entries)
  (line,) = (line for line in text.splitlines() if line.startswith("- **GFZ** against CNN"))
  for row in pair["rows"][1:]:
    low, high = row["difference"]["low"], row["difference"]["high"]
    kind = "ahead" if low > 0 else "behind" if high < 0 else "no difference shown"
    (told,) = (part for part in line.split(": ", 1)[1].split(";") if f"linf {row['eps']:g}" in part)
    assert told.strip().startswith(kind)
  assert "ahead" in line and "A 2020" in text and "GFZ minus CNN" in text


def test_the_verdict_of_each_side():
  low = {"difference": {"low": -0.3, "high": -0.1}}
  assert counterparts.verdict(low) == counterparts.BEHIND
  zero = {"difference": {"low": -0.1, "high": 0.1}}
  assert counterparts.verdict(zero) == counterparts.UNDECIDED


def test_nothing_is_written_without_a_pair(entries, paper, tmp_path):
  counterparts.write({**paper, "counterparts": {}}, entries, tmp_path / "nus_answer")
  assert not list(tmp_path.glob("nus_answer*"))
