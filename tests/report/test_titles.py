"""What models are called in a report."""

from pathlib import Path

import pytest

from gencls.report import titles
from gencls.report.reading import Entry


def entry(folder, title="Bayes", model="naive_bayes", data="mnist"):
  summary = {"title": title, "model": {"name": model}, "data": {"name": data}}
  return Entry(f"kept {folder}", Path("runs") / folder, "pgd", summary, [], [], [])


@pytest.mark.parametrize(
  ("folders", "wanted"),
  [
    (["naive_bayes_mnist-seed0"], ["Bayes"]),
    (
      ["naive_bayes_mnist-seed0", "naive_bayes_published_mnist-seed0"],
      ["Bayes", "Bayes (published)"],
    ),
    (["naive_bayes_mnist-seed0", "naive_bayes_mnist-seed1"], ["Bayes (seed0)", "Bayes (seed1)"]),
    (
      ["naive_bayes_mnist-seed0", "naive_bayes_wide_mnist-seed0", "naive_bayes_wide_mnist-seed1"],
      ["Bayes (seed0)", "Bayes (wide-seed0)", "Bayes (wide-seed1)"],
    ),
    (["naive_bayes", "naive_bayes_wide"], ["Bayes", "Bayes (wide)"]),
    (["mine", "naive_bayes2"], ["Bayes (mine)", "Bayes (naive_bayes2)"]),
    (  # what is left of two is the same: their whole names
      ["naive_bayes_mnist_a", "naive_bayes_a"],
      ["Bayes (naive_bayes_mnist_a)", "Bayes (naive_bayes_a)"],
    ),
  ],
)
def test_models_called_alike_are_told_apart_by_their_folders(folders, wanted):
  found = titles.of([entry(folder) for folder in folders])
  assert found == wanted
  assert len(set(found)) == len(found)


def test_another_model_keeps_its_own_title():
  entries = [entry("naive_bayes_a"), entry("naive_bayes_b"), entry("cnn", "CNN", "cnn")]
  assert titles.of(entries) == ["Bayes (a)", "Bayes (b)", "CNN"]


def test_a_model_of_a_results_file_keeps_the_title_that_it_has_there(tmp_path):
  file = tmp_path / "pgd.json"
  file.write_text("{}")
  entries = [entry("naive_bayes_a"), entry("naive_bayes_b")._replace(workdir=file)]
  assert titles.of(entries) == ["Bayes (a)", "kept naive_bayes_b"]


def test_a_title_that_a_results_file_has_taken_is_not_given_again(tmp_path):
  file = tmp_path / "pgd.json"
  file.write_text("{}")
  kept = entry("gone")._replace(workdir=file, title="Bayes")
  found = titles.of([entry("naive_bayes_mnist-seed0"), kept])
  assert found == ["Bayes (seed0)", "Bayes"]
