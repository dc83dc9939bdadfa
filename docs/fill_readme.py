"""Copies the tables that the commands wrote into the pages, so that none of them is typed.

  python docs/fill_readme.py

Each block of README.md and docs/results/README.md between `<!-- from docs/results/X.md -->` and
`<!-- end -->` becomes the tables of that file, without those of the sanity checks.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / "README.md")
BLOCK = re.compile(r"(<!-- from (docs/results/\S+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(path: Path) -> str:
  """The Markdown tables of a file, without the text around them."""
  text = path.read_text(encoding="utf-8")
  found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
  return "\n\n".join(table for table in found if not table.startswith("| sanity check")).strip()


def filled(text: str) -> str:
  """A page's text with every block as its file has it."""
  return BLOCK.sub(lambda m: f"{m[1]}\n{tables(ROOT / m[2])}\n\n{m[3]}", text)


if __name__ == "__main__":
  for page in PAGES:
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
