"""Copies the tables that the commands wrote into the pages, so that none of them is typed.

  python docs/fill_readme.py

Each block of README.md and docs/results/README.md between `<!-- from docs/results/X.md -->` and
`<!-- end -->` becomes the tables of that file, without those of the sanity checks; of
`<!-- from docs/results/X.md, first 2 -->` the first two.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / "README.md")
BLOCK = re.compile(
  r"(<!-- from (docs/results/\S+\.md)(?:, first (\d+))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def tables(path: Path, first: int | None = None) -> str:
  """The Markdown tables of a file, all or the first ones, without the text around them."""
  text = path.read_text(encoding="utf-8")
  found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
  shown = [table for table in found if not table.startswith("| sanity check")][:first]
  return "\n\n".join(shown).strip()


def filled(text: str) -> str:
  """A page's text with every block as its file has it."""

  def block(m: re.Match[str]) -> str:
    return f"{m[1]}\n{tables(ROOT / m[2], int(m[3]) if m[3] else None)}\n\n{m[4]}"

  return BLOCK.sub(block, text)


if __name__ == "__main__":
  for page in PAGES:
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
