"""Models of one table: the same attacks, whether broken images were attacked again or not."""

import copy

import pytest
from toy_report import write_run

from gencls.report import comparable, compare, merging, table


@pytest.fixture
def summaries(tmp_path):
  for title in ("A", "B"):
    write_run(tmp_path / title, title, skill=0.5, seed=1, attacks=("pgd", "fgsm"), n=30)
  entries = compare.gather([tmp_path / title for title in ("A", "B")], "toy")
  return {entry.title: entry.summary for entry in entries}


@pytest.mark.parametrize("models", [None, "thresholded"])
def test_images_that_were_handed_on_decide_nothing(summaries, models):
  for summary in summaries.values():
    summary["pixel_threshold"] = 0.5
    summary["attacks"]["fgsm"] |= {"models": models}
  changed = summaries["B"]["attacks"]["fgsm"]
  changed["after"] = ["pgd"]
  comparable.check(summaries)
  plain = copy.deepcopy(summaries["B"])
  plain["attacks"]["fgsm"]["after"] = None
  assert merging.evaluated_as_hard(summaries["B"], plain)  # a run takes the place of an older file
  assert table.handed_on_sentence(summaries) == ""  # no cell was made so
  for row in summaries["B"]["rows"]:
    if row["label"] == "fgsm":
      row["handed_on"] = 3
  told = table.handed_on_sentence(summaries)
  assert told.endswith("count what both broke: fgsm after pgd (B).")
  changed["loss"] = "dlr"
  with pytest.raises(ValueError, match="evaluate both with the same config"):
    comparable.check(summaries)


def test_nothing_is_said_where_nothing_was_handed_on(summaries):
  assert table.handed_on_sentence(summaries) == ""
