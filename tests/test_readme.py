"""The README says what the result files say, and names only what exists."""

import importlib.util
import re

import pytest
from processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def fill_readme():
  spec = importlib.util.spec_from_file_location("fill_readme", ROOT / "docs" / "fill_readme.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_tables_are_those_of_the_result_files():
  assert fill_readme().filled(README) == README, "run: python docs/fill_readme.py"


def test_a_typed_number_would_be_noticed():
  digits = re.search(r"\d+\.\d", README[README.index("<!-- from") :])
  assert digits, "the README has no table"
  start = README.index("<!-- from") + digits.start()
  changed = README[:start] + "99.9" + README[start + len(digits[0]) :]
  assert fill_readme().filled(changed) == README


@pytest.mark.parametrize(
  "path", sorted(set(re.findall(r"(?:configs|launch|docs|benchmarks)/[\w/.]*\w\.\w+", README)))
)
def test_named_files_exist(path):
  assert (ROOT / path).is_file()
