"""The pages say what the result files say, and name only what exists."""

import importlib
import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import ROOT

import gencls
from gencls import sweep
from gencls.attacks.reconstruction_starts import wrong_reconstructions
from gencls.evaluate import check_specs
from gencls.evaluation import settings
from gencls.intervals import share_interval
from gencls.report import claims, compare, counterparts
from gencls.report import published as papers

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
  path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
  for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")),
               ROOT / "docs" / "results" / "README.md"]
}  # fmt: skip
NAMED = r"(?:configs|launch|docs|benchmarks)/[\w/.]*\w\.\w+"


def fill_readme():
  spec = importlib.util.spec_from_file_location("fill_readme", ROOT / "docs" / "fill_readme.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_result_files(page):
  assert fill_readme().filled(PAGES[page]) == PAGES[page], "run: python docs/fill_readme.py"


def test_a_block_may_have_the_first_tables_or_one_alone():
  source = "docs/results/fashion_mnist/detect.md"
  page = fill_readme()
  whole, two = (
    page.filled(f"<!-- from {source}{which} -->\n<!-- end -->") for which in ("", ", first 2")
  )
  assert two.count("\n|--") == 2 < whole.count("\n|--")
  second = page.filled(f"<!-- from {source}, table 2 -->\n<!-- end -->")
  first, alone = (
    text.split("-->\n", 1)[1].removesuffix("<!-- end -->").strip() for text in (two, second)
  )
  assert first in whole and first.startswith("| model (n = ")
  assert first.endswith(alone) and alone.count("\n|--") == 1


def test_every_page_with_tables_is_filled():
  filled = {path.relative_to(ROOT).as_posix() for path in fill_readme().PAGES}
  assert {page for page, text in PAGES.items() if "<!-- from" in text} == filled


@pytest.mark.parametrize(
  ("folder", "published", "name", "as_published", "honest"),
  [
    (".", "nus", "nus", ("nus", "nus_probabilities"), "nus_honest"),
    ("nus_100", "nus", "nus_100", ("nus_100", "nus_probabilities_100"), "nus_honest_100"),
    ("mnist", "deep_bayes_mnist", "deep_bayes_table", ("deep_bayes_table",) * 2, "detect"),
  ],
)
def test_pages_that_hold_papers_to_their_claims_are_those_of_the_result_files(
  folder, published, name, as_published, honest
):
  """Made anew from the files beside them, by the code of today."""
  results, remake = ROOT / "docs" / "results" / folder, "run launch/report.py on the results files"
  numbers = papers.read(ROOT / "docs" / "published" / f"{published}.json")
  ours, hard = (
    compare.gather([results / f"{file}.json"], evaluation)
    for file, evaluation in (as_published, (honest, honest))
  )
  summaries, held = ({each.title: each.summary for each in found} for found in (ours, hard))
  found = claims.markdown(numbers, summaries, held)
  assert found == (results / f"{name}_claims.md").read_text(encoding="utf-8"), remake
  answer = results / f"{name}_answer.md"
  if pairs := counterparts.pairs(numbers, hard):
    found = counterparts.markdown(pairs, numbers, hard)
    assert found == answer.read_text(encoding="utf-8"), remake
  else:
    assert not answer.exists()


def test_a_typed_number_would_be_noticed():
  digits = re.search(r"\d+\.\d", README[README.index("<!-- from") :])
  assert digits, "the README has no table"
  start = README.index("<!-- from") + digits.start()
  changed = README[:start] + "99.9" + README[start + len(digits[0]) :]
  assert fill_readme().filled(changed) == README


@pytest.mark.parametrize(
  "path", sorted({name for text in PAGES.values() for name in re.findall(NAMED, text)})
)
def test_named_files_exist(path):
  assert (ROOT / path).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
  links = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
  broken = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
  assert not [link for link in broken if not link.startswith("http")]


def python_of(text):
  return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_configs_of_ones_own_are_what_the_commands_take(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  made = {}
  for page in ("docs/commands.md", "docs/sweeps.md"):
    (block,) = python_of(PAGES[page])
    exec(block, made.setdefault(page, {}))
    made[page] = made[page]["get_config"]().to_dict()
  settings.check(made["docs/commands.md"])
  specs = importlib.import_module("launch.evaluate").specs(made["docs/commands.md"]["attacks"])
  assert len(specs) == 3
  check_specs(specs)
  assert len(sweep.cells(made["docs/sweeps.md"])) == 2 * (3 + 3 + 1)


def test_the_lines_that_attack_a_model_of_ones_own_run(capsys):
  section = README[README.index("## Attack your own JAX model") :].split("\n## ")[0]
  own, generative = (python_of(text) for text in (section, PAGES["docs/attacks.md"]))
  assert (len(own), len(generative)) == (2, 1)
  rng = np.random.default_rng(0)
  params = jnp.asarray(rng.normal(size=(16, 10)), jnp.float32)
  x = jnp.asarray(rng.uniform(0.35, 0.65, size=(4, 4, 4, 1)), jnp.float32)

  def my_model(params, x):
    return (x.reshape(len(x), -1) - 0.5) @ params

  def weights_fn(keys, x):
    return jnp.stack([my_model(params, x), my_model(params + 0.1, x)], axis=2)

  names = {
    **{"jax": jax, "jnp": jnp, "gencls": gencls, "my_model": my_model, "params": params, "x": x},
    "y": np.argmax(my_model(params, x), axis=1),
    "weights_fn": weights_fn,
    "reconstruct_fn": lambda keys, x, y: jnp.clip(x + 0.1 * y.reshape(-1, 1, 1, 1), 0, 1),
    "decode_fn": lambda keys, z, y: jax.nn.sigmoid(z @ jnp.ones((8, 16))).reshape(x.shape),
    "wrong_reconstructions": wrong_reconstructions,
    "share_interval": share_interval,
  }
  exec(own[0], names)
  wrong = np.argmax(my_model(params, names["adv"]), axis=1) != names["y"]
  assert wrong.all() and np.max(np.abs(names["adv"] - x)) <= 0.3 + 1e-6
  assert "Interval(mean=0.0, low=0.0" in capsys.readouterr().out
  plain = names["logits_fn"]
  exec(own[1], names)
  np.testing.assert_array_equal(names["logits_fn"](None, x), plain(None, x))
  exec(generative[0], names)
  assert np.any(names["adv"] != x) and names["attack"].num_steps > 100
