"""Generative classifiers held against their counterparts."""

import json

import pytest
from toy_report import EPS, write_run

from gencls.report import compare, counterparts


def gather(tmp_path, **leave_out):
  for title, skill, seed in (("GFZ", 0.9, 1), ("CNN", 0.1, 2), ("Other", 0.5, 3)):
    missing = leave_out.get(title, ())
    write_run(tmp_path / title, title, skill=skill, seed=seed, attacks=("pgd", "fgsm"), n=300,
              leave_out=missing)  # fmt: skip
  return compare.gather([tmp_path / title for title in ("GFZ", "CNN", "Other")], "toy")


@pytest.fixture
def paper():
  accuracy = {name: {"pgd": [None]} for name in ("GFZ", "CNN", "Other")}
  return {
    "source": "A 2020",
    "data": "toy",
    "counterparts": {"GFZ": ["CNN"]},
    "tables": [{"norm": "linf", "eps": [0.1], "accuracy": accuracy}],
  }


def verdicts(path):
  """Column -> cell, of the one pair in the first table."""
  lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
  header, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[:3])
  assert row[:2] == ["GFZ", "CNN"]
  return dict(zip(header, row, strict=True))


def test_only_the_papers_pairs_in_its_direction(tmp_path, paper):
  entries = gather(tmp_path)
  (pair,) = counterparts.pairs(paper, entries)
  assert (pair["first"], pair["second"]) == ("GFZ", "CNN")
  assert [row["eps"] for row in pair["rows"]] == [0.0, *EPS]
  worst = {e.title: {r["eps"]: r["accuracy"]["mean"] for r in e.summary["worst"]} for e in entries}
  for row in pair["rows"][1:]:
    gap = worst["GFZ"][row["eps"]] - worst["CNN"][row["eps"]]
    assert row["difference"]["mean"] == pytest.approx(gap, abs=1e-6)


def timed(tmp_path, factors, **leave_out):
  """The runs with seconds: of FGSM a hundred times those of PGD, growing with eps."""
  entries = gather(tmp_path, **leave_out)
  for entry, factor in zip(entries, factors, strict=True):
    for row in entry.summary["rows"]:
      long = 100.0 if row["label"] == "fgsm" else 1.0
      row["seconds"] = factor * long * (1 + row["eps"]) * (1 if "attack" in row else 1000.0)
  return entries


def test_the_cost_is_of_the_attacks_that_both_have_made(tmp_path, paper):
  entries = timed(tmp_path, (3.0, 2.0, 1.0), CNN=("fgsm",))
  for entry, factor in zip(entries, (3.0, 2.0, 1.0), strict=True):
    rows = entry.summary["rows"]
    rows.append({**rows[-1], "label": "pgd", "derived": "clip", "seconds": 1000.0 * factor**2})
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] == pytest.approx(1.5)  # 3 over 2: FGSM, clean, grey, read off do not count


def test_a_cell_that_was_held_up_does_not_change_the_cost(tmp_path, paper):
  entries = timed(tmp_path, (3.0, 2.0, 1.0))
  for row in entries[0].summary["rows"]:
    if (row["label"], row["eps"]) == ("pgd", EPS[0]):
      row["seconds"] = 1e4
  (pair,) = counterparts.pairs(paper, entries)
  (steady,) = counterparts.pairs(paper, timed(tmp_path / "steady", (3.0, 2.0, 1.0)))
  assert steady["cost"] == pytest.approx(1.5)
  assert 1.5 <= pair["cost"] < 1.5 * (1 + max(EPS))  # the next eps at most


def test_an_attack_that_met_fewer_images_is_no_cost(tmp_path, paper):
  entries = timed(tmp_path, (1.0, 1.0, 1.0))
  for row in entries[0].summary["rows"]:
    row["seconds"] *= {"pgd": 2.0, "fgsm": 8.0}.get(row["label"], 1.0)
    if row["label"] == "fgsm":
      row["handed_on"] = 7
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] == pytest.approx(2.0)


def test_the_cost_is_that_of_the_median_attack(tmp_path, paper):
  """Not of the sum, in which the longest attack decides."""
  entries = timed(tmp_path, (1.0, 1.0, 1.0))
  for row in entries[0].summary["rows"]:
    row["seconds"] *= {"pgd": 2.0, "fgsm": 8.0}.get(row["label"], 1.0)
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] == pytest.approx(5.0)


def test_there_is_no_cost_of_attacks_on_different_devices(tmp_path, paper):
  entries = timed(tmp_path, (3.0, 2.0, 1.0))
  for row in entries[1].summary["rows"]:
    row["device"] = "another"
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] is None
  for entry, device in zip(entries, ("one", "another", "one"), strict=True):
    entry.summary["made_by"]["device"] = [device]
    for row in entry.summary["rows"]:
      row.pop("device", None)  # as rows of before are
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] is None
  for entry in entries:
    entry.summary["made_by"]["device"] = ["one", "another"]  # and so of which they are is unknown
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] is None
  for entry in entries:  # one attack of both ran in the same place, the other ones did not
    for row in entry.summary["rows"]:
      row["device"] = "one" if row["label"] == "pgd" and row["eps"] == EPS[0] else entry.title
      row["seconds"] = (
        {"GFZ": 5.0, "CNN": 2.0}.get(entry.title, 1.0) if row["device"] == "one" else 9.0
      )
  (pair,) = counterparts.pairs(paper, entries)
  assert pair["cost"] == pytest.approx(2.5)


def test_roles_tell_apart_what_the_paper_calls_alike(tmp_path, paper):
  """The first role whose settings a model has; the paper's name where it has none."""
  entries = gather(tmp_path)
  entries[1].summary["model"] = {**entries[1].summary["model"], "training": "for the labels"}
  paper["counterparts"] = {"GFZ": ["CNN, for the labels"]}
  assert counterparts.pairs(paper, entries) == []
  paper["roles"] = {
    "CNN, otherwise": {"model.training": "for the images"},
    "CNN, for the labels": {"model.training": "for the labels"},
  }
  (pair,) = counterparts.pairs(paper, entries)
  assert (pair["first"], pair["second"]) == ("GFZ", "CNN")
  paper["counterparts"] = {"GFZ": ["CNN"]}
  assert counterparts.pairs(paper, entries) == []


def test_the_page_says_where_the_interval_leaves_out_zero(tmp_path, paper):
  entries = timed(tmp_path, (364.0, 2.0, 1.0))
  assert counterparts.write(paper, entries, tmp_path / "answer", {"command": "a"})
  record = json.loads((tmp_path / "answer.json").read_text())
  assert record["evaluation"]["num_images"] == 300 and record["made_by"] == {"command": "a"}
  told = verdicts(tmp_path / "answer.md")
  for row in record["pairs"][0]["rows"][1:]:
    low, high = row["difference"]["low"], row["difference"]["high"]
    kind = "**ahead**" if low > 0 else "behind" if high < 0 else "="
    kind = "under 5%" if max(row["first"], row["second"]) < 0.05 else kind
    assert told[f"linf {row['eps']:g}"] == kind
  assert "**ahead**" in told.values() and "5 of them" in (tmp_path / "answer.md").read_text()
  assert told["cost"] == "182 times"  # and neither table nor words say 1.8e+02
  assert "attacks take 182 times as long" in (tmp_path / "answer.md").read_text()


def test_the_page_names_the_generative_models_that_it_is_not_about(tmp_path, paper):
  paper["counterparts"]["DFX"] = ["CNN"]
  assert counterparts.not_met(paper, gather(tmp_path)) == ["DFX"]
  counterparts.write(paper, gather(tmp_path), tmp_path / "answer", {})
  assert "both of a pair. Not among them: DFX." in (tmp_path / "answer.md").read_text()
  flawed = {**paper, "flaws": {"GFZ": {"model.name": "toy"}}}
  assert counterparts.not_met(flawed, gather(tmp_path)) == ["GFZ", "DFX"]


@pytest.mark.parametrize(("lacks", "told"), [("GFZ", "not run in full"), ("CNN", "**ahead**")])
def test_no_lead_that_missing_attacks_could_take_away(tmp_path, paper, lacks, told):
  entries = gather(tmp_path, **{lacks: (("pgd", EPS[0]),)})
  counterparts.write(paper, entries, tmp_path / "answer", {})
  assert verdicts(tmp_path / "answer.md")[f"linf {EPS[0]:g}"] == told
  assert f"- {lacks}: pgd linf {EPS[0]:g}" in (tmp_path / "answer.md").read_text()


def test_models_that_are_not_graded_yet_and_those_with_the_papers_mistakes_have_no_pair(
  tmp_path, paper
):
  entries = gather(tmp_path / "a", CNN=("clean",))
  assert counterparts.pairs(paper, entries) == []
  entries = gather(tmp_path / "b")
  flawed = {**paper, "flaws": {"CNN": {"model.name": "toy"}}}
  assert counterparts.pairs(flawed, entries) == []
  for name in ("answer.md", "answer.json"):
    (tmp_path / name).write_text("of another day")
  assert not counterparts.write(flawed, entries, tmp_path / "answer", {})
  assert not list(tmp_path.glob("answer*"))


def test_failed_checks_are_named(tmp_path, paper):
  entries = gather(tmp_path)
  entries[0].summary["checks"].append({"name": "a check", "status": "fail", "detail": ""})
  counterparts.write(paper, entries, tmp_path / "answer", {})
  assert "a check" in (tmp_path / "answer.md").read_text()
