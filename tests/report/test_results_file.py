"""Reports whose models come from the JSON of an earlier report."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from processes import ROOT
from toy_evaluation import record
from toy_report import EPS, write_run

from gencls.report import (
  compare,
  html,
  merging,
  one_image,
  reading,
  results_file,
  views,
)

TITLES = ("GFZ", "CNN", "Other")


NORMS = ("linf", "l2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  for i, title in enumerate(TITLES):
    for name in ("toy", "hard"):
      write_run(folder / title, title, skill=(0.9, 0.1, 0.5)[i], seed=i, n=300, name=name,
                norms=NORMS)  # fmt: skip
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
  assert b'{"$columns":{"label":' in files[0]["toy.json"]


def test_a_run_stands_beside_the_models_of_a_file(runs, tmp_path):
  every = keep(runs, tmp_path)
  keep(runs[:2], tmp_path)
  file = tmp_path / "toy.json"
  both = keep([file, runs[2]], tmp_path)  # in its own place
  assert [(each.title, each.summary) for each in both] == [(e.title, e.summary) for e in every]
  assert json.dumps(results_file.load(file)) == json.dumps({e.title: e.summary for e in every})


def test_a_run_takes_the_place_of_the_same_model(runs, tmp_path, caplog):
  keep(runs[:2], tmp_path)
  file, again = tmp_path / "toy.json", tmp_path / "again"
  write_run(again, "GFZ", n=300, norms=NORMS)
  found = compare.gather([file, again], "toy")
  assert [(each.title, each.workdir) for each in found] == [("CNN", file), ("GFZ", again)]
  assert f"GFZ: {again} (finished) stands in the place of {file} (finished)" in caplog.text
  path = again / "results" / "toy" / "plan.json"
  plan = json.loads(path.read_text())
  path.write_text(json.dumps({**plan, "model": {"name": "toy", "width": 2}}))
  found = compare.gather([file, again], "toy")  # fields that only one of them has do not count
  assert [each.title for each in found] == ["CNN", "GFZ"]
  path.write_text(json.dumps({**plan, "model": {"name": "wider"}}))
  found = compare.gather([file, again], "toy")
  assert [each.title for each in found] == ["GFZ", "CNN", "GFZ (again)"]


def test_trainings_tell_models_apart_and_without_them_parameters(tmp_path):
  for title in ("a", "b"):
    write_run(tmp_path / title, "GFZ")
  one, two = ({**reading.read(tmp_path / title, "toy").summary} for title in ("a", "b"))
  assert merging.same_model(one, two)
  assert not merging.same_model(one, {**two, "params": "others"})
  old = {"seed": 0, "train": {"num_epochs": 3}}
  one["training"] = {"config": old}

  def same(**config):
    return merging.same_model(one, {**two, "training": {"config": {**old, **config}}})

  newer = {"num_epochs": 3, "loss": "model", "method": "gradient", "ema_decay": None}
  assert same(train=newer, adversarial={"attack": "pgd"})  # which a plain training does not use
  assert not same(train={**newer, "loss": "adversarial"}, adversarial={"attack": "pgd"})
  assert not same(train={**newer, "method": "fit"})
  assert not same(train={**newer, "micro_batch_size": 25})
  assert not same(train={"num_epochs": 4}) and not same(seed=1)
  one["step"] = 10
  assert not same()


def test_another_evaluation_or_another_step_is_no_replacement(runs, tmp_path):
  keep(runs[:1], tmp_path)
  file, other = tmp_path / "toy.json", tmp_path / "other"
  write_run(other, "GFZ", n=16, attacks=("pgd",))
  with pytest.raises(ValueError, match="differ in data"):
    compare.gather([file, other], "toy")
  write_run(tmp_path / "later", "GFZ", n=300, norms=NORMS)
  path = tmp_path / "later" / "results" / "toy" / "plan.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), "params": "of step 2", "step": 2}))
  titles = [each.title for each in compare.gather([file, path.parents[2]], "toy")]
  assert titles == ["GFZ", "GFZ (later)"]


def test_two_models_of_one_config_keep_their_own_numbers(runs, tmp_path):
  """Trained twice by one config: only the parameters tell them apart."""
  for name in ("toy", "hard"):
    entries = compare.gather([runs[0], runs[1]], name)
    summaries = {each.title: {**each.summary, "title": "GFZ"} for each in entries}
    for title, summary in summaries.items():
      summary.update(params=title, training={**summary["record"], "config": {"seed": 0}})
    if name == "hard":  # in another order
      summaries = dict(reversed(summaries.items()))
    (tmp_path / f"{name}.json").write_text(results_file.to_text(summaries))
  entries = compare.gather([tmp_path / "toy.json"], "toy")
  found = compare.gather_beside(entries, "hard", [tmp_path / "toy.json"])
  assert [(e.title, e.summary["params"]) for e in found] == [("GFZ", "GFZ"), ("CNN", "CNN")]


def test_another_evaluation_made_otherwise_is_refused(runs, tmp_path):
  for name in ("toy", "hard"):
    keep(runs[:1], tmp_path, name)
  write_run(tmp_path / "again", "GFZ", n=300, norms=NORMS)
  write_run(tmp_path / "again", "GFZ", n=300, norms=NORMS, name="hard", attacks=("pgd",))
  given = [tmp_path / "toy.json", tmp_path / "again"]
  entries = compare.gather(given, "toy")
  with pytest.raises(ValueError, match=r"'hard' of 'GFZ' is another evaluation in .*again than"):
    compare.gather_beside(entries, "hard", given)


def test_a_run_with_more_attacks_takes_the_place_and_one_with_fewer_does_not(runs, tmp_path):
  write_run(tmp_path / "fewer", "GFZ", n=300, norms=NORMS, attacks=("pgd",))
  write_run(tmp_path / "more", "GFZ", n=300, norms=NORMS, attacks=("pgd", "square"))
  for name, other in (("fewer", "more"), ("more", "fewer")):
    keep([tmp_path / name], tmp_path / f"of_{name}")
    file = tmp_path / f"of_{name}" / "toy.json"
    if other == "more":
      (entry,) = compare.gather([file, tmp_path / other], "toy")
      assert set(entry.summary["attacks"]) == {"pgd", "square"}
    else:
      with pytest.raises(ValueError, match="differ in attacks"):
        compare.gather([file, tmp_path / other], "toy")


def test_models_that_only_the_other_evaluation_has_are_kept(runs, tmp_path):
  keep(runs[:1], tmp_path)
  keep(runs, tmp_path, "hard")
  entries = compare.gather([tmp_path / "toy.json"], "toy")
  found = compare.gather_beside(entries, "hard", [tmp_path / "toy.json"])
  assert [each.title for each in found] == list(TITLES)


def test_what_is_finished_is_not_lost_to_a_run_that_is_not(runs, tmp_path, caplog):
  (full, _) = keep(runs[:2], tmp_path)
  file, begun = tmp_path / "toy.json", tmp_path / "begun"
  write_run(begun, "GFZ", n=300, norms=NORMS, leave_out=("pgd",))
  found = keep([file, begun], tmp_path)
  assert [(each.title, each.workdir) for each in found] == [("GFZ", file), ("CNN", file)]
  assert results_file.load(file)["GFZ"] == full.summary
  assert f"GFZ: {file} (finished) stands in the place of {begun} (10 to do)" in caplog.text
  empty = tmp_path / "empty"
  write_run(empty, "GFZ", n=300, norms=NORMS, leave_out=("clean",))
  assert compare.gather([file, empty], "toy")[0].workdir == file


def test_what_is_missing_stays_missing(tmp_path):
  write_run(tmp_path / "begun", "GFZ", leave_out=(("pgd", EPS[-1]),))
  (run,) = keep([tmp_path / "begun"], tmp_path)
  (kept,) = compare.gather([tmp_path / "toy.json"], "toy")
  assert kept.summary == run.summary and kept.summary["missing"]
  assert [row["eps"] for row in kept.summary["worst"] if row["missing"]] == [EPS[-1]]
  old = results_file.load(tmp_path / "toy.json")  # as before there were half-finished evaluations
  for row in old["GFZ"]["worst"]:
    del row["missing"]
  del old["GFZ"]["missing"]
  (tmp_path / "toy.json").write_text(results_file.to_text(old))
  (kept,) = compare.gather([tmp_path / "toy.json"], "toy")
  assert kept.summary["missing"] == [] == kept.summary["worst"][-1]["missing"]


def test_models_that_were_compared_stay_together(runs, tmp_path):
  """The CVAE under another rule is an evaluation of another name in the same file."""
  summaries = {each.title: each.summary for each in compare.gather(runs[:2], "toy")}
  summaries["CNN"]["name"] = "toy_other_rule"
  (tmp_path / "toy.json").write_text(results_file.to_text(summaries))
  for name in ("toy", "toy_other_rule"):
    found = compare.gather([tmp_path / "toy.json"], name)
    assert [each.title for each in found] == ["GFZ", "CNN"]
  assert merging.evaluations(tmp_path / "toy.json") == ["toy"]
  (one,) = compare.gather([f"{tmp_path}/toy.json:CNN"], "toy_other_rule")
  assert one.title == "CNN"
  with pytest.raises(ValueError, match="unknown model 'CN'; did you mean 'CNN'"):
    compare.gather([f"{tmp_path}/toy.json:CN"], "toy_other_rule")


def test_one_model_in_two_files_is_named_with_both(runs, tmp_path):
  for out in ("a", "b"):
    keep(runs[:1], tmp_path / out)
  files = [tmp_path / out / "toy.json" for out in ("a", "b")]
  with pytest.raises(ValueError, match=f"'GFZ'.*they are in {files[0]} and {files[1]}"):
    compare.gather(files, "toy")


def test_another_evaluation_of_a_files_models_lies_beside_it(runs, tmp_path, caplog):
  for name in ("toy", "hard"):
    keep(runs[:2], tmp_path, name)
  given = [tmp_path / "toy.json", runs[2]]
  entries = compare.gather(given, "toy")
  found = compare.gather_beside(entries, "hard", given)
  assert [(each.title, each.name) for each in found] == [(title, "hard") for title in TITLES]
  again = tmp_path / "again"  # a run that has only one evaluation yet: the file has the other
  write_run(again, "GFZ", n=300, norms=NORMS)
  entries = compare.gather([*given, again], "toy")
  found = compare.gather_beside(entries, "hard", [*given, again])
  assert {each.title: each.workdir.name for each in found} == {
    "GFZ": "hard.json", "CNN": "hard.json", "Other": "Other"}  # fmt: skip
  summaries = results_file.load(tmp_path / "hard.json")
  summaries["GFZ"]["params"] = "another model that is called so"
  (tmp_path / "hard.json").write_text(results_file.to_text(summaries))
  found = compare.gather_beside(entries, "hard", given)
  # Its numbers must not stand in the row of the GFZ that was given.
  assert [(e.title, e.summary["params"]) for e in found] == [("CNN", "CNN"), ("Other", "Other")]
  assert f"GFZ of {tmp_path / 'hard.json'} is another model" in caplog.text
  only = [f"{tmp_path / 'toy.json'}:CNN", runs[2]]  # one model of the file: nor has it the others
  found = compare.gather_beside(compare.gather(only, "toy"), "hard", only)
  assert [each.title for each in found] == ["CNN", "Other"]
  assert compare.gather_beside(entries, "hart", given) == [] and "'hart'" in caplog.text


class Links(HTMLParser):
  """The addresses inside a page, and what they lead to."""

  def __init__(self):
    super().__init__()
    self.to, self.ids = set(), set()

  def handle_starttag(self, tag, attrs):
    for name, value in attrs:
      if name == "id":
        self.ids.add(value)
      if name == "href" and value and value.startswith("#"):
        self.to.add(value[1:])


def test_the_page_of_a_file_names_it_as_source_and_has_the_cost(runs, tmp_path):
  of_runs = keep(runs, tmp_path)
  found = compare.gather([tmp_path / "toy.json"], "toy")
  links = Links()
  page = html.page({"toy": found}, views.record(record()))
  links.feed(page)
  assert len(links.to) > 100 and not links.to - links.ids
  shipped = compare.gather([ROOT / "docs" / "results" / "nus.json"], "nus_probabilities")
  links = Links()
  links.feed(html.page({"nus": shipped}, views.record(record())))
  assert len(links.to) > 400 and not links.to - links.ids
  assert "<code>toy.json</code>" in page and "toy.json/results" not in page
  one, two = (views.costs(entries) for entries in (of_runs, found))
  for a, b in zip(one, two, strict=True):
    assert b == {**a, "forward": None, "backward": None, "seconds": pytest.approx(a["seconds"])}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("{", "not valid JSON"),
    ('{"A": {"$ref": "#/$shared/0"}}', "leads nowhere"),
    ('{"$shared": [{"a": {"$ref": "#/$shared/0"}}], "A": {"$ref": "#/$shared/0"}}', "to itself"),
    ('{"$shared": [{}], "A": {"$ref": "#/$shared/0", "x": 1}}', "x stand beside the pointer"),
    ('{"A": {"rows": {"$columns": {"eps": [1]}}}}', "columns stand in no list"),
    ('{"A": {"rows": [{"$columns": {"eps": [1], "n": []}}]}}', "eps, n are no lists of one length"),
    ('{"A": {"rows": [{"$columns": {"eps": 1}}]}}', "eps are no lists"),
    ('{"A": {"rows": [{"$columns": {}}]}}', "are no lists of one length"),
    ('{"A": {"rows": [{"$columns": [1]}]}}', "are no columns"),
    ('{"A": {"rows": [{"$columns": {"eps": [1]}, "x": 1}]}}', "columns, x are no columns"),
    ("{}", "holds no model"),
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


@pytest.mark.parametrize(
  "damage",
  [
    lambda summary: summary.update(rows=None),
    lambda summary: summary.update(clean=1),
    lambda summary: summary["rows"][3].pop("norm"),
    lambda summary: summary["worst"][1]["accuracy"].update(low=None),
    lambda summary: summary["worst"].append(7),
    lambda summary: summary.pop("largest_class_share"),
    lambda summary: summary["made_by"].pop("device"),
    lambda summary: summary["checks"][0].pop("status"),
    lambda summary: summary["config"].update(model=None),
    lambda summary: summary["record"].pop("git"),
    lambda summary: summary["clean"]["metrics"].update(log_marginal_nats=3),
    lambda summary: summary["worst"][0].pop("chosen"),
    lambda summary: summary["worst"][0]["accuracy"].pop("method"),
    lambda summary: summary["missing"].append({}),
  ],
)
def test_damage_inside_valid_json_is_refused_with_the_files_name(runs, tmp_path, damage):
  (entry,) = keep(runs[:1], tmp_path)
  summary = json.loads(json.dumps(entry.summary))
  damage(summary)
  path = tmp_path / "toy.json"
  path.write_text(json.dumps({"GFZ": summary}))
  with pytest.raises(ValueError, match=f"{path} is damaged .*'GFZ'"):
    compare.gather([path], "toy")


def test_a_damaged_image_is_refused(runs, caplog):
  (entry,) = compare.gather(runs[:1], "toy")
  shown = one_image.rows([entry], "pgd")
  summary = one_image.recorded({"GFZ": entry.summary}, shown, "pgd")["GFZ"]
  kept = entry._replace(summary=summary, cells=[], workdir=Path("toy.json"))
  (images,) = one_image.rows([kept], "pgd").values()
  assert [image.prediction for image in images] == [image.prediction for image in shown["GFZ"]]
  assert one_image.rows([kept], "fgsm") == {}
  assert "no image under fgsm is kept of GFZ" in caplog.text
  summary["one_image"]["images"][0]["levels"] = "AAAA"
  with pytest.raises(ValueError, match=r"toy\.json is damaged \(the images of 'GFZ'"):
    one_image.rows([kept], "pgd")


def test_a_file_or_evaluation_that_is_not_there(runs, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"there is no results file .*nothing\.json"):
    compare.gather([tmp_path / "nothing.json"], "toy")
  keep(runs[:1], tmp_path)
  with pytest.raises(FileNotFoundError, match="did you mean 'toy'"):
    compare.gather([tmp_path / "toy.json"], "toyy")
