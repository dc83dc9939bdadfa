"""What is packed comes back as it was, in fewer characters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencls.report import compact, results_file

SETTINGS = {
  "name": "pgd",
  "hyperparameters": {"num_steps": 40, "step_size": 0.01},
  "eps": [0.1] * 9,
}
KEYWORDS = ("$columns", "$ref", "$shared", "$without")
NAMES = st.text(max_size=6).filter(lambda name: name not in KEYWORDS)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ROWS = st.fixed_dictionaries(
  {"eps": st.floats(0, 1), "low": LEAVES}, optional={"handed_on": st.integers(), "seconds": LEAVES}
)
TREES = st.recursive(
  LEAVES | st.just(SETTINGS) | st.lists(ROWS | st.just(SETTINGS), max_size=5),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
  max_leaves=30,
)


@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_what_is_packed_comes_back(tree):
  text = json.dumps(compact.pack(tree))
  assert json.dumps(compact.unpack(json.loads(text))) == json.dumps(tree)


def test_neighbours_with_the_same_keys_are_columns():
  rows = [{"eps": 0.1, "accuracy": {"mean": 0.5}}, {"eps": 0.2, "accuracy": {"mean": 0.25}}]
  packed = compact.pack({"rows": [*rows, {"eps": 0.3}, {}, {}, None, {"mean": 1, "eps": 0.3}]})
  assert packed == {
    "rows": [
      {"$columns": {"eps": [0.1, 0.2], "accuracy": [{"$columns": {"mean": [0.5, 0.25]}}]}},
      {"eps": 0.3}, {}, {}, None, {"mean": 1, "eps": 0.3},
    ]
  }  # fmt: skip
  # The order of keys is not lost either: these two differ.
  other = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
  assert compact.pack({"rows": other}) == {"rows": other}


def test_what_repeats_stands_once_and_what_stands_once_stays():
  outer = {"settings": SETTINGS, "more": "x" * 100}
  shared = compact.pack({"a": outer, "b": outer, "c": {"alone": "y" * 100}})
  text = json.dumps(shared)
  assert text.count('"num_steps"') == text.count("x" * 100) == 1
  assert len(shared["$shared"]) == 1  # the settings are inside `outer` alone
  assert shared["c"] == {"alone": "y" * 100}
  assert compact.pack({"a": {"b": 1}, "c": {"b": 1}}) == {"a": {"b": 1}, "c": {"b": 1}}
  names = [str(i) for i in range(40)]
  assert compact.pack({"a": names, "b": [names]})["b"] == [{"$ref": "#/$shared/0"}]


def test_rows_that_lack_keys_are_columns_where_that_is_shorter():
  whole = {"label": "pgd", "handed_on": 3, "accuracy": 0.5}
  rows = [whole, {"label": "fgm", "accuracy": 0.75}] * 2
  columns = {
    "label": ["pgd", "fgm", "pgd", "fgm"],
    "handed_on": [3, 3],
    "accuracy": [0.5, 0.75, 0.5, 0.75],
  }
  assert compact.pack({"rows": rows}) == {
    "rows": [{"$columns": columns, "$without": {"handed_on": [1, 3]}}]
  }


@pytest.mark.parametrize(
  ("packed", "error"),
  [
    ({"$columns": {"a": [1], "b": [1, 2]}}, "no lists of one length"),
    ({"$columns": {"a": [1], "b": [1]}, "$without": {"b": [1]}}, "no lists of one length"),
    ({"$columns": {"a": [1, 2], "b": [1]}, "$without": {"b": [7]}}, "no lists of one length"),
    ({"$columns": {"a": 1}}, "no lists of one length"),
    ({"$columns": {"a": [1]}, "$without": {"c": [0]}}, "which rows lack it"),
    ({"$columns": {"a": [1]}, "more": 1}, "no columns"),
  ],
)
def test_columns_that_make_no_rows_are_refused(packed, error):
  with pytest.raises(ValueError, match=error):
    compact.unpack({"rows": [packed]})


@pytest.mark.parametrize("word", KEYWORDS)
@pytest.mark.parametrize("rows", [1, 300])
def test_a_keyword_of_the_file_is_refused_short_or_long(word, rows):
  for summaries in (
    {word: {"rows": []}},
    {"A": {"rows": [{"eps": 1}] * rows, "config": {word: 3}}},
  ):
    with pytest.raises(ValueError, match=rf"\{word} must not be a field of results"):
      results_file.to_text(summaries)
