"""What models are called in a report."""

from pathlib import Path

import pytest

from gencls.report import titles
from gencls.report.reading import Entry


def entry(folder, title="Bayes", model="naive_bayes", data="mnist"):
  summary = {"title": title, "model": {"name": model}, "data": {"name": data}}
  return Entry(f"kept {folder}", Path("runs") / folder, "pgd", summary, [], [], [])


@pytest.mark.parametrize(
  ("folder", "wanted"),
  [
    ("naive_bayes", "Bayes"),
    ("naive_bayes_mnist-seed0", "Bayes"),
    ("naive_bayes_published_mnist-seed0", "Bayes (published)"),
    ("naive_bayes_wide", "Bayes (wide)"),
    ("naive_bayes_24_epochs-seed0", "Bayes (24 epochs)"),
    ("mine", "Bayes"),
    ("naive_bayes2", "Bayes"),
  ],
)
def test_a_model_is_called_by_its_variant_whatever_stands_beside_it(folder, wanted):
  alone, other = entry(folder), entry("cnn_published", "CNN", "cnn")
  twin = entry("naive_bayes_other_mnist")
  assert titles.of([alone]) == [wanted]
  assert titles.of([other, alone, twin]) == ["CNN (published)", wanted, "Bayes (other)"]


@pytest.mark.parametrize(
  ("folders", "wanted"),
  [
    (["naive_bayes_mnist-seed0", "naive_bayes_mnist-seed1"], ["Bayes (seed0)", "Bayes (seed1)"]),
    (  # seeds are named where they differ, and nowhere else
      ["naive_bayes_mnist-seed0", "naive_bayes_wide_mnist-seed0", "naive_bayes_wide_mnist-seed1"],
      ["Bayes", "Bayes (wide-seed0)", "Bayes (wide-seed1)"],
    ),
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


def test_evaluations_of_one_run_are_told_apart_by_their_names():
  one, two = (entry("mine")._replace(name=name) for name in ("detect_kl", "detect_tv"))
  assert titles.of([one, two]) == ["Bayes (detect_kl)", "Bayes (detect_tv)"]
  other = entry("other")._replace(name="detect_kl")
  wanted = ["Bayes (mine, detect_kl)", "Bayes (mine, detect_tv)", "Bayes (other)"]
  assert titles.of([one, two, other]) == wanted


def test_a_model_of_a_results_file_keeps_the_title_that_it_has_there(tmp_path):
  file = tmp_path / "pgd.json"
  file.write_text("{}")
  entries = [entry("naive_bayes_a"), entry("naive_bayes_b")._replace(workdir=file)]
  assert titles.of(entries) == ["Bayes (a)", "kept naive_bayes_b"]


@pytest.mark.parametrize("title", ["Bayes", "Naive"])
def test_a_title_that_a_results_file_has_taken_is_not_given_again(tmp_path, title):
  file = tmp_path / "pgd.json"
  file.write_text("{}")
  kept = entry("gone", title)._replace(workdir=file, title="Bayes")
  found = titles.of([entry("naive_bayes_mnist-seed0"), kept])
  assert found == ["Bayes (seed0)", "Bayes"]
