"""Models of results files are compared image by image; of older ones by their intervals."""

import numpy as np
import pytest
from test_results_file import NORMS, TITLES, keep
from toy_report import EPS, write_run

import gencls
from gencls import paired
from gencls.report import compare, counterparts, difference, results_file
from gencls.summary import columns, shares


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  for i, title in enumerate(TITLES):
    skill = (0.9, 0.1, 0.5)[i]
    write_run(folder / title, title, skill=skill, seed=i, n=300, name="toy", norms=NORMS)
  return [folder / title for title in TITLES]


def before_images(path):
  """The file as older ones are, which do not say which images are right."""
  summaries = results_file.load(path)
  for summary in summaries.values():
    for holder in (summary["clean"], *summary["worst"]):
      del holder["counted"]
  path.write_text(results_file.to_text(summaries))


def test_models_of_a_file_are_compared_image_by_image(runs, tmp_path):
  of_runs = keep(runs, tmp_path)
  found = compare.gather([tmp_path / "toy.json"], "toy")
  assert difference.rows(*found[:2]) == difference.rows(*of_runs[:2])
  assert difference.rows(found[0], of_runs[1]) == difference.rows(*of_runs[:2])
  worst = of_runs[0].summary["worst"][0]
  right = columns.at(gencls.load_results(of_runs[0].workdir, "toy"), "worst case",
                     worst["norm"], worst["eps"]).counted  # fmt: skip
  np.testing.assert_allclose(shares.unpack(worst["counted"]), right, atol=1e-6)


def _other_images(counted):
  counted["images"] += 8


def _of_others(counted):
  counted |= shares.pack(1 - shares.unpack(counted), counted["draws"])


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (_other_images, "are not the counts of 308 images"),
    (lambda counted: counted.update(shares.pack(np.ones(8), 1)), "8 images under counted, of 300"),
    (_of_others, "the images under counted have another mean than"),
    (lambda counted: counted.update(draws=0), "counts of 0 draws are no shares"),
  ],
)
@pytest.mark.parametrize("where", ["clean", "worst"])
def test_damaged_images_are_named_with_their_file(runs, tmp_path, change, said, where):
  keep(runs, tmp_path)
  summaries = results_file.load(tmp_path / "toy.json")
  found = summaries["CNN"][where]
  change((found if where == "clean" else found[0])["counted"])
  (tmp_path / "toy.json").write_text(results_file.to_text(summaries))
  with pytest.raises(ValueError, match=rf"toy.json is damaged \('CNN': .*{said}"):
    results_file.load(tmp_path / "toy.json")


def test_models_of_an_older_file_are_compared_by_their_intervals(runs, tmp_path):
  of_runs = keep(runs, tmp_path)
  before_images(tmp_path / "toy.json")
  found = compare.gather([tmp_path / "toy.json"], "toy")
  paper = {
    "source": "A 2020",
    "data": "toy",
    "counterparts": {"GFZ": ["CNN"]},
    "tables": [{"norm": "linf", "eps": [0.1],
                "accuracy": {title: {"pgd": [None]} for title in TITLES}}],
  }  # fmt: skip
  (one,), (two,) = counterparts.pairs(paper, of_runs), counterparts.pairs(paper, found)
  assert one["cost"] == two["cost"] == pytest.approx(1.0) and one["failed"] == two["failed"]
  assert len(one["rows"]) == 2 * len(EPS) + 1
  same = ("what", "norm", "eps", "partial")
  for a, b in zip(one["rows"], two["rows"], strict=True):
    assert [a[name] for name in same] == [b[name] for name in same]
    assert (a["first"], a["second"]) == pytest.approx((b["first"], b["second"]))
    assert b["difference"]["method"] == paired.UNPAIRED
    assert b["difference"]["low"] < a["difference"]["mean"] < b["difference"]["high"]
  mixed = difference.rows(of_runs[0], found[1])
  assert [row["difference"] for row in mixed] == [row["difference"] for row in two["rows"]]
  text = counterparts.markdown([one, {**two, "first": "Other"}], paper, found)
  rows = [line for line in text.splitlines() if line.startswith("|")][2:4]
  pairs = [[cell.strip() for cell in line.split("|")[1:3]] for line in rows]
  assert "where it says unpaired" in text and pairs == [["GFZ", "CNN"], ["Other", "CNN (unpaired)"]]
  assert "unpaired" not in counterparts.markdown([one], paper, of_runs)


def test_two_models_of_older_files_side_by_side(runs, tmp_path):
  keep(runs, tmp_path)
  before_images(tmp_path / "toy.json")
  file = f"{tmp_path}/toy.json"
  for two in ([f"{file}:GFZ", f"{file}:CNN"], [f"{file}:GFZ", runs[1]]):
    text = difference.write(two, "toy", None, {})
    assert "# GFZ minus CNN" in text and paired.UNPAIRED in text and "| - " in text
  with pytest.raises(ValueError, match="two models, got 3: GFZ, Other, CNN; one of a results file"):
    difference.write([file, runs[1]], "toy", None, {})
