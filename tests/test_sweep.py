"""Sweeps as lists: cells, their dependencies, and the shares of tasks."""

import importlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import ROOT

from gencls import sweep

SWEEPS = sorted(
  path.stem for path in (ROOT / "configs" / "sweeps").glob("*.py") if path.stem != "base"
)
VARIANTS = ("", "full", "cpu", "smoke")


def part(config, variant="", overrides=(), **more):
  return {"config": config, "variant": variant, "overrides": overrides, **more}


def config(**changes):
  plain = {
    "models": {"gfz": part("configs/gfz.py", "cpu", ("train.num_epochs=3",)), "cnn": part("c.py")},
    "attacks": {
      "pgd": part("configs/attacks/pgd.py", models=()),
      "latent": part("l.py", models=("gfz",)),
    },
    "seeds": (0, 7),
    "retries": 1,
  }
  return plain | changes


def test_cells_are_the_product_in_an_order_that_can_be_run():
  found = sweep.cells(config())
  assert [cell.name for cell in found] == [
    *("gfz-seed0-train", "gfz-seed0-pgd", "gfz-seed0-latent"),
    *("gfz-seed7-train", "gfz-seed7-pgd", "gfz-seed7-latent"),
    *("cnn-seed0-train", "cnn-seed0-pgd", "cnn-seed7-train", "cnn-seed7-pgd"),
  ]
  before = set()
  for cell in found:
    assert set(cell.needs) <= before
    assert cell.needs == (() if cell.column == "train" else (f"{cell.run}-train",))
    before.add(cell.name)


def test_commands_are_those_of_train_and_evaluate():
  train, attack, *_ = sweep.cells(config())
  folder = Path("runs/s")
  assert sweep.command(train, folder, Path(""))[1:] == [
    "launch/train.py",
    "--config=configs/gfz.py:cpu",
    "--config.train.num_epochs=3",
    "--config.seed=0",
    "--workdir=runs/s/runs/gfz-seed0",
  ]
  assert sweep.command(attack, folder, Path("/gencls"))[1:] == [
    "/gencls/launch/evaluate.py",
    "--config=configs/attacks/pgd.py",
    "--config.name=pgd",
    "--workdir=runs/s/runs/gfz-seed0",
  ]
  assert attack.product == "results/pgd/table.json"


@pytest.mark.parametrize(
  ("changes", "match"),
  [
    ({"seeds": (1, 1)}, r"seeds must be one or more different numbers, got \[1, 1\]"),
    ({"seeds": ()}, r"got \[\]"),
    ({"models": {"a/b": part("c.py")}, "attacks": {}}, "letters, digits and _ only.* got 'a/b'"),
    ({"attacks": {"train": part("c.py", models=())}}, "not 'train'"),
    ({"attacks": {"pgd": part("c.py", models=("gfy",))}}, r"does not have: \['gfy'\]"),
    ({"models": {"a": part("c.py", overrides=("x",))}, "attacks": {}}, "field=value, got 'x'"),
  ],
)
def test_what_cannot_be_a_sweep_says_why(changes, match):
  with pytest.raises(ValueError, match=match):
    sweep.cells(config(**changes))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(0, 5), st.integers(1, 30), st.data())
def test_shares_cover_all_and_nobody_waits_for_another_task(runs, evaluations, count, data):
  attacks = {}
  for i in range(evaluations):
    after = data.draw(st.lists(st.sampled_from(list(attacks)), max_size=2)) if attacks else []
    attacks[f"a{i}"] = part("a.py", models=(), after=tuple(after))
  cells = sweep.cells(config(models={"m": part("m.py")}, attacks=attacks, seeds=range(runs)))
  shares = [sweep.share(cells, index, count) for index in range(count)]
  names = [cell.name for own in shares for cell in own]
  assert set(names) == {cell.name for cell in cells}
  dealt = [cell.name for own in shares for cell in own if cell.column != "train"]
  assert len(dealt) == len(set(dealt))
  for own in shares:
    mine = {cell.name for cell in own}
    assert all(set(cell.needs) <= mine for cell in own)
    assert own == [cell for cell in cells if cell.name in mine]  # in their order
  if count <= runs:
    assert len(names) == len(cells)  # no training in two shares
    sizes = [len(own) for own in shares]
    assert max(sizes) - min(sizes) <= 1 + evaluations


def test_a_task_that_does_not_exist_is_told_how_to_number():
  with pytest.raises(ValueError, match=r"between 0 and 7 .of 8 tasks., got 8: .*--array=0-7"):
    sweep.share(sweep.cells(config()), 8, 8)


@pytest.mark.parametrize(
  ("environment", "flags", "expected"),
  [
    ({}, (None, None), (0, 1)),
    ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, (None, None), (3, 8)),
    ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2"}, (None, 8), (3, 8)),
    ({"JOB_COMPLETION_INDEX": "0"}, (None, 4), (0, 4)),
    ({"JOB_COMPLETION_INDEX": "0"}, (2, 4), (2, 4)),
  ],
)
def test_the_task_is_read_from_flags_or_the_scheduler(environment, flags, expected):
  assert sweep.task_of(environment, *flags) == expected


def test_half_a_task_is_refused():
  for environment, flags in (({"JOB_COMPLETION_INDEX": "1"}, (None, None)), ({}, (None, 4))):
    with pytest.raises(ValueError, match="needs --task_index and --num_tasks"):
      sweep.task_of(environment, *flags)


def has_field(config, path):
  *folders, last = path.split(".")
  for name in folders:
    config = config[name]
  return last in config


def test_an_evaluation_can_have_other_fields_for_some_models_under_one_name():
  parts = {"pgd": part("p.py"), "other": {**part("p.py", overrides=("k=1",)), "name": "pgd"}}
  parts["pgd"]["models"], parts["other"]["models"] = ("a",), ("b",)
  config = {"models": {"a": part("c.py"), "b": part("c.py")}, "attacks": parts, "seeds": (0,)}
  found = {cell.run: cell for cell in sweep.cells(config) if cell.column == "pgd"}
  assert found["a-seed0"].arguments == ("--config=p.py", "--config.name=pgd")
  assert found["b-seed0"].arguments == ("--config=p.py", "--config.k=1", "--config.name=pgd")
  assert found["b-seed0"].product == "results/pgd/table.json"
  parts["other"]["models"] = ("a", "b")
  with pytest.raises(ValueError, match="model 'a' has two evaluations called 'pgd'"):
    sweep.cells(config)


def test_an_evaluation_comes_after_those_that_it_names():
  parts = {"one": part("a.py", models=()), "two": part("a.py", models=(), after=("one",))}
  plain = config(models={"m": part("m.py")}, attacks=parts, seeds=(0,))
  assert [cell.column for cell in sweep.cells(plain)] == ["train", "one", "two"]
  assert sweep.cells(plain)[-1].needs == ("m-seed0-train", "m-seed0-one")
  turned = plain | {"attacks": {name: parts[name] for name in ("two", "one")}}
  assert sweep.cells(turned) == sweep.cells(plain)
  parts["one"]["after"] = ("two",)
  with pytest.raises(ValueError, match="of model 'm' these can never run, they come after each"):
    sweep.cells(plain)
  del parts["one"]
  with pytest.raises(ValueError, match=r"does not have: {'two': \['one'\]}"):
    sweep.cells(plain)


def test_the_ising_model_of_the_zoo_is_attacked_through_both_its_gradients(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.nus")
  every = {cell.name: cell for cell in sweep.cells(module.get_config("cpu").to_dict())}
  both, flip = (every[f"ising_mnist-seed0-{name}"] for name in ("nus_honest", "nus_honest_flip"))
  assert flip.name in both.needs
  assert "--config.transfer_from=(':nus_honest_flip',)" in both.arguments
  assert "--config.attack_model.backward=flip" in flip.arguments
  assert "--config.attack_model.backward=straight_through" in both.arguments
  # One gradient, that of flips: once is enough.
  assert "ising_discriminative_mnist-seed0-nus_honest" in every
  assert "ising_discriminative_mnist-seed0-nus_honest_flip" not in every


def test_every_model_of_the_zoo_has_both_protocols(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.nus")
  for arg, suffixes in (("", ("",)), ("cpu", ("", "_100"))):
    cells = sweep.cells(module.get_config(arg).to_dict())
    runs = {cell.run for cell in cells}
    columns = [{cell.run for cell in cells if cell.column == f"nus_honest{s}"} for s in suffixes]
    assert set.union(*columns) == runs and len(runs) == 26
    assert ["cvae_mnist-seed0" in column for column in columns] == [s == "" for s in suffixes]
    for suffix, honest in zip(suffixes, columns, strict=True):
      assert honest == {c.run for c in cells if c.column == f"nus_probabilities{suffix}"}


def test_only_slow_models_on_a_cpu_go_without_carlini_and_wagner(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.nus")
  for arg, expected in (("", set()), ("cpu", set(module.SLOW))):
    without = {
      cell.run.split("_mnist")[0]
      for cell in sweep.cells(module.get_config(arg).to_dict())
      if cell.column == "nus_probabilities" and f"--config.{module.NO_SEARCHES}" in cell.arguments
    }
    assert without == expected


def test_honest_evaluations_of_the_zoo_are_told_the_right_gradient(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.nus")
  for arg in ("", "cpu"):
    every = sweep.cells(module.get_config(arg).to_dict())
    told = {}
    for cell in every:
      own = [each for each in cell.arguments if each.startswith("--config.attack_model")]
      if own:
        told[cell.run.split("_mnist")[0], cell.column] = " ".join(own)
    assert {
      run: argument for (run, column), argument in told.items() if column == "nus_honest"
    } == {
      "cnn_denoised_published": "--config.attack_model.detached=False "
      "--config.attack_model.backward=field",
      "gaussian_naive_bayes_published": "--config.attack_model.backward=flip",
      "ising": "--config.attack_model.backward=straight_through",
    }
    for name in ("nus_honest_fresh", "nus_probabilities_fresh"):
      fresh = {cell.run.split("_mnist")[0] for cell in every if cell.column.startswith(name)}
      assert fresh == set(module.CNN_VAES)
    published = {  # the gradients that the paper's attacks followed
      run: argument for (run, column), argument in told.items()
      if column.startswith("nus_probabilities")
    }  # fmt: skip
    assert published == {
      **dict.fromkeys(
        ("gaussian_naive_bayes_binarized", "ising"),
        "--config.attack_model.backward=straight_through",
      ),
      **dict.fromkeys(module.CNN_VAES, "--config.attack_model.detached_target=True"),
    }


def test_models_of_one_table_of_the_zoo_meet_the_same_attacks(monkeypatch):
  """Else the report refuses them; an attack may be left out of some."""
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.nus")
  for arg in ("", "cpu", "smoke"):
    changed: dict[str, set[tuple[str, ...]]] = {}
    for cell in sweep.cells(module.get_config(arg).to_dict()):
      own = [each for each in cell.arguments if each.startswith("--config.attacks.")]
      made = tuple(each for each in own if each != f"--config.{module.NO_SEARCHES}")
      changed.setdefault(cell.column, set()).add(made)
    assert all(len(each) == 1 for each in changed.values()), changed
    if arg == "cpu":
      assert {f"--config.{each}" for each in module.FEWER[2:]} == set(
        next(iter(changed["nus_probabilities_100"]))
      )


def test_every_factorisation_has_the_published_and_the_honest_evaluation(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.deep_bayes_table")
  for arg in ("", "cpu"):
    every = sweep.cells(module.get_config(arg).to_dict())
    for column in ("clean", "deep_bayes_table", "detect"):
      assert len({cell.run for cell in every if cell.column == column}) == 14, column


@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_configs_name_configs_that_have_these_variants_and_fields(name, monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module(f"configs.sweeps.{name}")
  for arg in VARIANTS:
    found = module.get_config(arg)
    plain = found.to_dict()
    assert sweep.cells(plain)
    for each in (*plain["models"].values(), *plain["attacks"].values()):
      target = importlib.import_module(each["config"].removesuffix(".py").replace("/", "."))
      config = target.get_config(each["variant"])
      for field in each["overrides"]:
        assert has_field(config.to_dict(), field.split("=")[0]), field
  with pytest.raises(ValueError, match="did you mean 'smoke'"):
    module.get_config("smoek")
  with pytest.raises((AttributeError, KeyError)):
    found.seedz = 1
  assert re.search(rf"launch/sweep\.py --config=configs/sweeps/{name}\.py", module.__doc__)


def test_the_factorisations_are_seven_and_latent_attacks_go_where_there_is_a_decoder(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  module = importlib.import_module("configs.sweeps.mnist_factorisations")
  cells = sweep.cells(module.get_config().to_dict())
  assert len({cell.run for cell in cells}) == 7
  assert sum(cell.column == "generative" for cell in cells) == 5
  assert len(cells) == 7 * (1 + len(module.SUITE)) + 5 == 47
