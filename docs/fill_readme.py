"""Copies the tables that the commands wrote into README.md, so that none of them is typed.

  python docs/fill_readme.py

Each block of README.md between `<!-- from docs/results/X.md -->` and `<!-- end -->` becomes the
tables of that file, without those of the sanity checks.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- from (docs/results/\S+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(path: Path) -> str:
  """The Markdown tables of a file, without the text around them."""
  text = path.read_text(encoding="utf-8")
  found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
  return "\n\n".join(table for table in found if not table.startswith("| sanity check")).strip()


def filled(text: str) -> str:
  """The README's text with every block as its file has it."""
  return BLOCK.sub(lambda m: f"{m[1]}\n{tables(ROOT / m[2])}\n\n{m[3]}", text)


if __name__ == "__main__":
  readme = ROOT / "README.md"
  readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
