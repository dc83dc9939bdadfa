"""Every bad input ends in a clear error, and loses nothing that was finished."""

import pytest
from bad_input import Case, outcome
from cases import CASES
from finished import digests, evaluate


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_bad_input_is_named_and_loses_nothing(case, scene):
  found = outcome(case, scene)
  assert found.expected, f"{found.error or 'nothing'}: {found.message}"
  assert found.unchanged


def test_there_are_a_hundred_different_ones():
  titles = [case.title for case in CASES]
  assert len(titles) == len(set(titles)) >= 100
  assert len({case.kind for case in CASES}) >= 10


def test_the_finished_evaluation_itself_is_no_bad_input(scene):
  """So that what is refused is refused for what was changed, and the digests see files."""
  before = digests(scene)
  evaluate(scene)
  after = digests(scene)
  assert {path for path in before if path.endswith(".npz")} and before.keys() == after.keys()
  assert [path for path in before if before[path] != after[path]] == []


@pytest.mark.parametrize(
  ("act", "expected", "unchanged"),
  [
    (lambda at: None, False, True),  # passes silently
    (lambda at: int("x"), False, True),  # the words of a parser
    (lambda at: [].pop(), False, True),
    (lambda at: (at.run / "config.json").write_text("") and None, False, False),
  ],
)
def test_what_is_not_clear_would_be_noticed(act, expected, unchanged, scene):
  def tried(at):
    try:
      act(at)
    except IndexError as error:
      raise ValueError(str(error)) from error

  found = outcome(Case("a", "b", tried, ("the rule",)), scene)
  assert (found.expected, found.unchanged) == (expected, unchanged)
