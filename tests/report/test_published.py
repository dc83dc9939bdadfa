"""Published numbers beside ours."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from toy_report import write_run

from gencls import models
from gencls.markdown import percent
from gencls.report import attack_curves, compare, published

FILES = Path(__file__).resolve().parents[2] / "docs" / "published"


def get_config(name, arg):
  sys.path.insert(0, str(FILES.parent.parent))
  config = importlib.import_module(f"configs.attacks.{name}").get_config(arg).to_dict()
  sys.path.remove(str(FILES.parent.parent))
  return config


def interval(mean):
  return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def summary(rows, detector=None):
  found = [
    {"label": a, "norm": "linf", "eps": e, "accuracy": interval(0.01), "as_returned": interval(m)}
    for a, e, m in rows
  ]
  own = {"data": {"name": "mnist"}, "num_images": 100, "rows": found, "detection": None}
  own["attacks"] = {}
  if detector:
    detected = [
      {"label": "pgd", "norm": "linf", "eps": 0.2, "against": "classifier", "detected": interval(s)}
      for s in (0.4,)
    ]
    aware = {**detected[0], "against": "detector", "detected": interval(0.9)}
    own["detection"] = {"detector": {"name": detector}, "rows": [*detected, aware]}
  return own


@pytest.fixture
def paper(tmp_path):
  numbers = {
    "source": "A 2020",
    "data": "mnist",
    "images": "10 test images",
    "norm": "linf",
    "eps": [0.1, 0.2],
    "accuracy": {"GFZ": {"fgsm": [90.0, 80.0], "pgd": [70.0, None]}},
    "detected": {"joint": {"GFZ": {"pgd": [None, 33.0]}}},
  }
  path = tmp_path / "paper.json"

  def write(**changed):
    path.write_text(json.dumps({**numbers, **changed}))
    return path

  return write


def cells(text, first):
  (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} "))
  return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_each_number_stands_under_its_attack_and_eps(paper):
  ours = summary([("pgd", 0.1, 0.5), ("fgsm", 0.2, 0.6), ("other", 0.1, 0.9), ("pgd", 0.3, 0.8)])
  text = published.section(published.read(paper()), {"GFZ (again)": ours, "CNN": ours})
  assert cells(text, "GFZ (again), paper") == ["90.0", "80.0", "70.0", "-"]
  wanted = ["-", "60.0 [50.0, 70.0]", "50.0 [40.0, 60.0]", "-"]
  assert cells(text, "GFZ (again), ours") == wanted
  assert "CNN" not in text and "detected" not in text and "n = 100" in text and "A 2020" in text


def test_the_honest_row_and_the_worst_case_stand_below(paper):
  ours = summary([("pgd", 0.1, 0.5)])
  ours["worst"] = [{"norm": "linf", "eps": 0.1, "accuracy": interval(0.45)}]
  hard = summary([("pgd", 0.1, 0.5)])
  hard["worst"] = [{"norm": "linf", "eps": e, "accuracy": interval(0.2)} for e in (0.1, 0.2, 0.9)]
  text = published.section(published.read(paper()), {"GFZ": ours}, {"GFZ": hard})
  header = cells(text, "accuracy, %")
  assert header[-2:] == ["worst case linf 0.1", "worst case linf 0.2"]
  assert cells(text, "GFZ, paper")[-2:] == ["-", "-"]
  assert cells(text, "GFZ, ours")[-2:] == ["45.0 [35.0, 55.0]", "-"]
  # As graded, not as returned: the worse of what the attack returned and the untouched image.
  assert cells(text, "GFZ, honest")[2:] == ["1.0 [-9.0, 11.0]", "-", *["20.0 [10.0, 30.0]"] * 2]


def test_a_number_that_counts_what_others_broke_is_not_that_of_an_attack(paper):
  ours, hard = (summary([("fgsm", 0.1, 0.5), ("pgd", 0.1, 0.5)]) for _ in range(2))
  hard |= {"worst": [], "untouched": None}
  hard["rows"][1]["handed_on"] = 7
  text = published.section(published.read(paper()), {"GFZ": ours}, {"GFZ": hard})
  own = dict(zip(cells(text, "accuracy, %"), cells(text, "GFZ, honest"), strict=True))
  assert own["fgsm linf 0.1"] == "1.0 [-9.0, 11.0]" and own["pgd linf 0.1"] == "-"
  assert list(attack_curves.panels({"GFZ": hard}, "accuracy")) == ["fgsm (linf)"]


def test_what_evades_the_detector_of_the_honest_evaluation_stands_below_it(paper):
  def evading(values, **fields):
    own = [{"norm": "linf", "eps": e, "evading": interval(m), **fields} for e, m in values]
    return [row | {"detected": None} for row in own]

  hard = summary([("pgd", 0.1, 0.5)])
  rows = evading([(0.1, 0.3), (0.2, 0.4)], label="pgd", against="classifier")
  rows += evading([(0.1, 0.7)], label="pgd_detector", against="detector")
  worst = evading([(0.1, 0.35)], kind="classifier") + evading([(0.1, 0.75)], kind="detector")
  worst += evading([(0.1, 0.8)], kind="either")
  hard["detection"] = {"detector": {"name": "marginal"}, "rows": rows, "worst": worst}
  found = published.read(paper(accuracy={"GFZ": {"pgd": [70.0, None]}, "CNN": {"pgd": [1.0, 1.0]}}))
  ours = {"GFZ": summary([]), "CNN": summary([])}
  text = published.section(found, ours, {"GFZ": hard, "CNN": summary([])})
  name = "GFZ, honest, misclassified and accepted (detector marginal): "
  blind = ["30.0 [20.0, 40.0]", "40.0 [30.0, 50.0]", "35.0 [25.0, 45.0]", "-"]
  assert cells(text, name + "attack the classifier") == blind
  seeing = ["70.0 [60.0, 80.0]", "-", "75.0 [65.0, 85.0]", "-"]
  assert cells(text, name + "attack classifier and detector") == seeing
  lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| GFZ")]
  assert lines[2] == "GFZ, honest" and lines[3].startswith(name)  # right below the accuracy
  assert "more is worse" in text and "CNN, honest, misclassified" not in text
  assert "both" not in text
  assert "more is worse" not in published.section(found, ours, {"GFZ": summary([])})


def test_clean_accuracies_stand_beside_each_other(paper):
  found = published.read(paper(clean={"GFZ": 98.0}, accuracy={"GFZ": {}, "CNN": {}}))
  ours = {**summary([]), "clean": {"accuracy": interval(0.5)}}
  text = published.section(found, {"GFZ": ours, "CNN": {**ours, "clean": None}})
  assert cells(text, "GFZ") == ["98.0", "50.0 [40.0, 60.0]"] and cells(text, "CNN") == ["-", "-"]
  assert "clean accuracy" not in published.section(published.read(paper()), {"GFZ": ours})


def test_several_tables_and_the_papers_names(paper):
  tables = [
    {"norm": "linf", "eps": [0.1], "accuracy": {"CNN-VAE": {"pgd": [70.0]}}},
    {"norm": "l2", "eps": [1, 2], "accuracy": {"CNN-VAE": {"pgd": [60.0, None]}}},
  ]
  found = published.read(paper(tables=tables, models={"gfz": "CNN-VAE", "cnn": "CNN"}))
  ours = {**summary([("pgd", 0.1, 0.5)]), "model": {"name": "gfz"}}
  text = published.section(found, {"GFZ": ours, "CNN": {**ours, "model": {"name": "cnn"}}})
  one, two = text.split("accuracy, %")[1:]
  assert cells(one, "GFZ, paper") == ["70.0"] and cells(two, "GFZ, paper") == ["60.0", "-"]
  assert cells(one, "GFZ, ours") == ["50.0 [40.0, 60.0]"] and cells(two, "GFZ, ours") == ["-", "-"]
  assert "CNN," not in text  # we have the model, the paper has no numbers of it
  with pytest.raises(ValueError, match="a table needs norm, eps, accuracy; one has no eps"):
    published.read(paper(tables=[{"norm": "l2"}]))


def test_a_table_is_left_out_with_all_of_its_attacks(paper):
  found = published.read(paper())
  for left_out, shown in ((("pgd", "fgsm"), False), (("pgd",), True)):
    ours = {**summary([]), "attacks": {label: {"eps": []} for label in left_out}}
    assert ("GFZ, paper" in published.section(found, {"GFZ": ours})) == shown


def test_what_is_not_as_published_is_said(paper):
  settings = {"protocol.threat": "fresh_seed", "attacks.pgd.loss": "cross_entropy", "model.k": 10}
  found = published.read(paper(settings=settings, notes=["A note."]))
  ours = {**summary([]), "protocol": {"threat": "known_seed"}, "model": {}, "attacks": {"pgd": {}}}
  ours["attacks"]["pgd"]["loss"] = "margin"
  text = published.section(found, {"GFZ": ours})
  said = "protocol.threat: known_seed (fresh_seed); attacks.pgd.loss: margin (cross_entropy)"
  assert f"A note. **Not as published: {said}.**" in text
  other = {**ours, "protocol": {"threat": "fresh_seed"}}
  text = published.section(found, {"GFZ": ours, "GFZ (2)": other})  # what is of one model alone
  said = "protocol.threat: known_seed (fresh_seed) (GFZ); attacks.pgd.loss: margin (cross_entropy)"
  assert f"**Not as published: {said}.**" in text
  older = {**ours, "attacks": {"pgd": {"loss": None}}}  # of before there was the setting
  assert "attacks.pgd.loss: not set (cross_entropy)" in published.section(found, {"GFZ": older})
  left_out = {**other, "attacks": {"pgd": {"loss": "margin", "eps": []}}}
  text = published.section(found, {"GFZ": left_out})
  assert "Not as published" not in text
  ours["protocol"]["threat"], ours["attacks"]["pgd"]["loss"] = "fresh_seed", "cross_entropy"
  assert "Not as published" not in published.section(found, {"GFZ": ours})


def test_the_published_settings_are_those_of_our_config():
  """configs/attacks/deep_bayes_table.py is what docs/published/deep_bayes_mnist.json describes."""
  config = get_config("deep_bayes_table", "cpu")
  detector = config["detector"]
  seen = {
    "protocol": {"threat": config["threat"]},
    "attacks": config["attacks"],
    "detection": {"detector": detector, "fitted_on": {"split": detector["fitted_on"]}},
  }
  found = published.read(FILES / "deep_bayes_mnist.json")
  paths = [path for path in found["settings"] if "num_samples" not in path]
  for path in paths:
    value = seen
    for name in path.split("."):
      value = value[name]
    assert value == found["settings"][path], path
  assert len(paths) == 14


def test_only_the_papers_detector_and_attacks_that_do_not_see_it(paper):
  found = published.read(paper())
  text = published.section(found, {"GFZ": summary([], "joint")}).split("detected by joint")[1]
  assert cells(text, "GFZ, paper") == ["-", "-", "-", "33.0"]
  assert cells(text, "GFZ, ours") == ["-", "-", "-", "40.0 [30.0, 50.0]"]
  assert "detected by" not in published.section(found, {"GFZ": summary([], "kl")})


def test_what_cannot_be_put_side_by_side_is_refused(paper):
  with pytest.raises(ValueError, match="published numbers are of mnist, the evaluations of digits"):
    other = {**summary([]), "data": {"name": "digits"}}
    published.section(published.read(paper()), {"GFZ": other})
  with pytest.raises(ValueError, match="none of CNN, GFZ2 is in A 2020: GFZ"):
    published.section(published.read(paper()), {"CNN": summary([]), "GFZ2": summary([])})
  with pytest.raises(
    ValueError, match=r"GFZ, fgsm has 1 numbers; one for each eps of \[0.1, 0.2\]"
  ):
    published.read(paper(accuracy={"GFZ": {"fgsm": [1.0]}}))
  broken = paper()
  broken.write_text("{")
  with pytest.raises(ValueError, match=r"not valid JSON.*published numbers are one JSON object"):
    published.read(broken)
  broken.write_text("{}")
  with pytest.raises(ValueError, match="it has no source, data"):
    published.read(broken)


@pytest.mark.parametrize("path", sorted(FILES.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_published_numbers_are_whole(path):
  found = published.read(path)
  assert set(found.get("models", ())) <= set(models.REGISTRY)
  for table in published.tables(found):
    if "models" in found:
      assert set(table["accuracy"]) <= set(found["models"].values())
    for model, attacks in table["accuracy"].items():
      for attack, row in attacks.items():
        values = [value for value in row if value is not None]
        assert all(0 <= value <= 100 for value in values), (model, attack)
        if path.stem == "deep_bayes_mnist":  # the other's attacks hide gradients, and do not fall
          assert values == sorted(values, reverse=True), (model, attack)


def test_the_zoos_settings_are_those_of_our_config():
  """configs/attacks/nus_probabilities.py is what docs/published/nus.json describes."""
  settings = published.read(FILES / "nus.json")["settings"]
  config = get_config("nus_probabilities", "full")
  attacks = config["attacks"]
  of_model = {path for path in settings if not path.startswith("attacks.")}
  assert of_model == {"attack_model.detached_target"}  # which the sweep says of the CNN-VAEs
  for path in settings.keys() - of_model:
    _, label, name = path.split(".")
    assert attacks[label][name] == settings[path], path
  labels = {label for table in published.tables(published.read(FILES / "nus.json"))
            for each in table["accuracy"].values() for label in each}  # fmt: skip
  assert labels == set(attacks)


def test_what_attacks_cost_stands_beside_the_paper(paper):
  seconds = {"reference": "CNN", "models": {"GFZ": {"pgd": 300}, "CNN": {"pgd": 6}}}
  accuracy = {name: {"pgd": [None, None]} for name in ("GFZ", "CNN", "Other")}
  found = published.read(paper(seconds=seconds, accuracy=accuracy))
  rows = [("pgd", eps, 0.5) for eps in (0.1, 0.2, 0.3)]
  ours = {name: summary(rows) for name in accuracy}
  for name, took in (
    ("GFZ", (9.0, 4.0, 3.9)),
    ("CNN", (5.0, 0.5, 0.4)),
    ("Other", (1.0, 1.0, 1.0)),
  ):
    ours[name]["made_by"] = {"device": ["gpu" if name == "Other" else "cpu"]}
    for row, each in zip(ours[name]["rows"], took, strict=True):
      row["seconds"] = each  # the first one compiles
  text = published.section(found, ours).split("Seconds of an attack")[1]
  assert cells(text, "GFZ, paper") == ["300 (50)"]
  assert cells(text, "GFZ (n = 100, cpu)") == ["4 (8)"]
  assert cells(text, "CNN (n = 100, cpu)") == ["0.5 (1)"]
  assert cells(text, "Other (n = 100, gpu)") == ["1"]  # no ratio over another device
  for name, device in (("GFZ", "cpu"), ("CNN", "cpu, 1 cores")):  # of the rows, where they tell
    ours[name] |= {"rows": [{**row, "device": device} for row in ours[name]["rows"]]}
  text = published.section(found, ours).split("Seconds of an attack")[1]
  assert cells(text, "GFZ (n = 100, cpu)") == ["4"]
  assert cells(text, "CNN (n = 100, cpu, 1 cores)") == ["0.5 (1)"]
  ours["CNN"]["rows"] = [{**row, "device": "cpu"} for row in ours["CNN"]["rows"]]
  assert "| 4 (8)" in published.section(found, ours)
  # Of several devices no median is divided, whether rows or a file of before have them.
  for each in (ours["GFZ"], ours["CNN"]):
    each["rows"] = [{**row, "device": d} for row, d in zip(each["rows"], "aab", strict=True)]
  assert "| 4 " in published.section(found, ours) and "4 (8)" not in published.section(found, ours)
  for each in (ours["GFZ"], ours["CNN"]):
    each["made_by"] = {"device": ["a", "b"]}
    each["rows"] = [{**row, "device": None} for row in each["rows"]]
  assert "4 (8)" not in published.section(found, ours)
  for each in (ours["GFZ"], ours["CNN"]):
    each["made_by"] = {"device": ["a"]}
  assert "4 (8)" in published.section(found, ours)
  ours["CNN"]["num_images"] = 1000
  text = published.section(found, ours).split("Seconds of an attack")[1]
  assert cells(text, "GFZ (n = 100, a)") == ["4"]  # nor over another number of images


def test_a_model_with_the_papers_mistakes_is_known_by_its_settings(paper):
  found = published.read(paper(flaws={"GFZ": {"model.detached": True, "model.k": 1}}))
  flawed = {"model": {"detached": True, "k": 1}}
  assert published.as_published(found, "GFZ", flawed)
  assert not published.as_published(found, "GFZ", {"model": {"detached": True, "k": 2}})
  assert not published.as_published(found, "GFZ", {"model": {}})
  assert not published.as_published(found, "CNN", flawed)


def test_what_holds_stands_first_and_runs_without_it_are_no_error(tmp_path, paper):
  for title, names in (("GFZ", ("toy", "hard")), ("CNN", ("toy",))):
    for name in names:
      skill = 0.3 + (name == "toy")
      write_run(tmp_path / title, title, attacks=("pgd",), name=name, skill=skill, detector=True)
  entries = compare.gather([tmp_path / "GFZ", tmp_path / "CNN"], "toy")
  entries = [entry._replace(title=f"{entry.title} (1)") for entry in entries]
  honest = compare.gather_beside(entries, "hard")
  assert [entry.title for entry in honest] == ["GFZ (1)"]  # the same title in both
  numbers = published.read(paper(data="toy", accuracy={"GFZ": {"pgd": [70.0, None]}}))
  compare.write(entries, "nus", tmp_path, None, numbers, honest)
  text = (tmp_path / "nus.md").read_text()
  assert text.startswith("# nus (toy) on toy") and "worst case of `hard`" in text
  first, second = (part for part in text.split("| model (n = 100)")[1:])
  assert "CNN" not in first and "CNN" in second
  (hard,) = (row for row in honest[0].summary["worst"] if row["eps"] == 0.1)
  assert percent(hard["accuracy"]) in first
  assert cells(text, "GFZ (1), honest")[-2] == percent(hard["accuracy"])
  (hard,) = (row for row in honest[0].summary["detection"]["worst"]
             if (row["kind"], row["eps"]) == ("classifier", 0.1))  # fmt: skip
  name = "GFZ (1), honest, misclassified and accepted (detector kl): attack the classifier"
  assert cells(text, name)[-2] == percent(hard["evading"])
  assert "* GFZ (1), honest. Detector: kl" in text and "* CNN (1). Detector: kl" in text
  assert percent(hard["evading"]) in cells(text, "GFZ (1), honest: attack the classifier")


def test_a_papers_points_stand_beside_the_version_with_its_mistakes():
  numbers = {
    "models": {"toy": "GFZ"},
    "flaws": {"GFZ": {"model.size": 2}},
    "tables": [
      {"norm": "linf", "eps": [0.1, 0.3], "accuracy": {"GFZ": {"pgd": [70.0, None]}}},
      {"norm": "linf", "eps": [0.5], "accuracy": {"GFZ": {"pgd": [1.0]}, "CNN": {"pgd": [2.0]}}},
    ],
  }
  own = {"right": 1, "flawed": 2, "another": 1}
  summaries = {title: {"model": {"name": "toy", "size": size}} for title, size in own.items()}
  found = published.points(numbers, summaries)
  assert found == {"pgd (linf)": {"flawed": [(0.1, 70.0), (0.5, 1.0)]}}
  del summaries["flawed"]
  assert list(published.points(numbers, summaries)["pgd (linf)"]) == ["right"]


def test_the_curves_beside_a_paper_are_of_what_the_attacks_returned(tmp_path, paper, monkeypatch):
  write_run(tmp_path / "GFZ", "GFZ", attacks=("pgd", "fgsm", "mim"))
  entries = compare.gather([tmp_path / "GFZ"], "toy")
  draw, drawn = attack_curves.draw, []
  monkeypatch.setattr(attack_curves, "draw", lambda *given: drawn.append(given) or draw(*given))
  numbers = published.read(paper(data="toy", accuracy={"GFZ": {"pgd": [70.0, None]}}))
  for beside in (numbers, None):
    compare.write(entries, "toy", tmp_path, None, beside)
  (theirs, title, _, points), (ours, own_title, _, no_points) = drawn
  assert points == {"pgd (linf)": {"GFZ": [(0.1, 70.0)]}} and no_points is None
  assert title == f"{own_title}, of the images as the attacks returned them"
  rows = [row for row in entries[0].summary["rows"] if row["label"] == "pgd"]
  for panels, field in ((theirs, "as_returned"), (ours, "accuracy")):
    (line,) = panels["pgd (linf)"]
    assert line.mean[1:] == [row[field]["mean"] for row in rows]
  assert theirs["pgd (linf)"][0].mean != ours["pgd (linf)"][0].mean
