"""Reports whose models come from the JSON of an earlier report."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_report import EPS, write_run

from gencls.report import compare, counterparts, difference, results_file

SETTINGS = {
  "name": "pgd",
  "hyperparameters": {"num_steps": 40, "step_size": 0.01},
  "eps": [0.1] * 9,
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
  LEAVES | st.just(SETTINGS),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
  max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=6), TREES, max_size=5))
def test_what_is_shared_comes_back(tree):
  text = json.dumps(results_file.share(tree))
  assert results_file.resolve(json.loads(text)) == tree


def test_what_repeats_stands_once_and_what_stands_once_stays():
  outer = {"settings": SETTINGS, "more": "x" * 100}
  shared = results_file.share({"a": outer, "b": outer, "c": {"alone": "y" * 100}})
  text = json.dumps(shared)
  assert text.count('"num_steps"') == text.count("x" * 100) == 1
  assert len(shared["$shared"]) == 1  # the settings are inside `outer` alone
  assert shared["c"] == {"alone": "y" * 100}
  assert results_file.share({"a": {"b": 1}, "c": {"b": 1}}) == {"a": {"b": 1}, "c": {"b": 1}}
  with pytest.raises(ValueError, match=r"not have a field called \$ref"):
    results_file.share({"a": {"$ref": "#/b"}})


TITLES = ("GFZ", "CNN", "Other")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  for i, title in enumerate(TITLES):
    for name in ("toy", "hard"):
      write_run(folder / title, title, skill=(0.9, 0.1, 0.5)[i], seed=i, n=300, name=name,
                norms=("linf", "l2"))  # fmt: skip
  return [folder / title for title in TITLES]


def report(workdirs, out, name="toy"):
  entries = compare.gather(workdirs, name)
  compare.write(entries, name, out)
  return entries


def keep(workdirs, out, name="toy"):
  """The JSON of `report` without its figures and their time."""
  entries = compare.gather(workdirs, name)
  out.mkdir(exist_ok=True)
  text = results_file.to_text({each.title: each.summary for each in entries})
  (out / f"{name}.json").write_text(text)
  return entries


def test_a_report_from_the_file_is_the_report_from_the_runs(runs, tmp_path):
  report(runs, tmp_path / "a")
  report([tmp_path / "a" / "toy.json"], tmp_path / "b")
  files = [{p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in "ab"]
  assert "toy_one_image.png" in files[0] and files[0] == files[1]
  assert files[0]["toy.json"].startswith(b'{"$shared":[')


def test_a_run_stands_beside_the_models_of_a_file(runs, tmp_path):
  every = keep(runs, tmp_path / "all")
  keep(runs[:2], tmp_path / "some")
  file = tmp_path / "some" / "toy.json"
  both = keep([file, runs[2]], tmp_path / "some")  # in its own place
  assert [(each.title, each.summary) for each in both] == [(e.title, e.summary) for e in every]
  assert results_file.load(file) == {each.title: each.summary for each in every}
  keep(runs[:2], tmp_path / "some")
  again = compare.gather([file, runs[0]], "toy")  # the same model stands there once
  assert [(each.title, bool(each.cells)) for each in again] == [("CNN", False), ("GFZ", True)]
  write_run(tmp_path / "wide", "GFZ", n=300, norms=("linf", "l2"))
  path = tmp_path / "wide" / "results" / "toy" / "plan.json"
  plan = json.loads(path.read_text())
  path.write_text(json.dumps({**plan, "model": {"name": "toy", "width": 2}}))
  titles = [each.title for each in compare.gather([file, tmp_path / "wide"], "toy")]
  assert titles == ["GFZ", "CNN", "GFZ (wide)"]


def test_another_evaluation_of_a_files_models_lies_beside_it(runs, tmp_path):
  for name in ("toy", "hard"):
    keep(runs[:2], tmp_path / "docs", name)
  entries = compare.gather([tmp_path / "docs" / "toy.json", runs[2]], "toy")
  found = compare.gather_beside(entries, "hard")
  assert [(each.title, each.name) for each in found] == [(title, "hard") for title in TITLES]
  (tmp_path / "docs" / "hard.json").unlink()
  assert [each.title for each in compare.gather_beside(entries, "hard")] == ["Other"]


def test_models_of_a_file_are_compared_by_their_intervals(runs, tmp_path):
  paired = keep(runs, tmp_path)
  found = compare.gather([tmp_path / "toy.json"], "toy")
  paper = {
    "source": "A 2020",
    "data": "toy",
    "counterparts": {"GFZ": ["CNN"]},
    "tables": [{"norm": "linf", "eps": [0.1],
                "accuracy": {title: {"pgd": [None]} for title in TITLES}}],
  }  # fmt: skip
  (one,), (two,) = counterparts.pairs(paper, paired), counterparts.pairs(paper, found)
  assert one["cost"] == pytest.approx(two["cost"]) and one["failed"] == two["failed"]
  for a, b in zip(one["rows"], two["rows"], strict=True):
    assert {n: a[n] for n in ("what", "norm", "eps", "partial")} == {
      n: b[n] for n in ("what", "norm", "eps", "partial")
    }
    assert (a["first"], a["second"]) == pytest.approx((b["first"], b["second"]))
    assert b["difference"]["method"] == "Newcombe, unpaired"
    assert b["difference"]["low"] < a["difference"]["mean"] < b["difference"]["high"]
  mixed = difference.rows(paired[0], found[1])
  assert [row["difference"] for row in mixed] == [row["difference"] for row in two["rows"]]
  text = counterparts.markdown([two], "A 2020", found)
  assert "Newcombe, unpaired; each by itself" in text
  text = counterparts.markdown([one, {**two, "first": "Other"}], "A 2020", found)
  assert "over image pairs: GFZ against CNN; Newcombe, unpaired: Other against CNN" in text
  assert len(one["rows"]) == 2 * len(EPS) + 1


def test_two_runs_of_a_file_side_by_side(runs, tmp_path):
  keep(runs[:1], tmp_path)
  text = difference.write([tmp_path / "toy.json", runs[1]], "toy", None, {})
  assert "Newcombe, unpaired" in text and "| - " in text
  keep(runs, tmp_path)
  with pytest.raises(ValueError, match="two models, got 3: GFZ, Other, CNN"):
    difference.write([tmp_path / "toy.json", runs[1]], "toy", None, {})


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "not valid JSON"),
    ('{"A": {"$ref": "#/$shared/0"}}', "leads nowhere"),
    ('{"$shared": [{"a": {"$ref": "#/$shared/0"}}], "A": {"$ref": "#/$shared/0"}}', "to itself"),
    ('{"$shared": 1, "A": {"$ref": "#/$shared/0"}}', "leads nowhere"),
    ('{"A": {"rows": []}}', "'A' has no name, title"),
    ('{"A": 1}', "'A' has no name"),
  ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
  path = tmp_path / "a.json"
  path.write_text(content)
  with pytest.raises(ValueError, match=message) as error:
    compare.gather([path], "toy")
  assert "launch/report.py" in str(error.value) and path.read_text() == content


def test_a_file_or_evaluation_that_is_not_there(runs, tmp_path):
  with pytest.raises(FileNotFoundError):
    compare.gather([tmp_path / "nothing.json"], "toy")
  keep(runs[:1], tmp_path)
  with pytest.raises(FileNotFoundError, match="did you mean 'toy'"):
    compare.gather([tmp_path / "toy.json"], "toyy")
