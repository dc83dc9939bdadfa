"""Copies the tables that the commands wrote into the pages, so that none of them is typed.

  python docs/fill_readme.py

Each block of README.md and docs/results/README.md between `<!-- from docs/results/X.md -->` and
`<!-- end -->` becomes the tables of that file, without those of the sanity checks; of
`<!-- from docs/results/X.md, first 2 -->` the first two, of `…, table 2 -->` the second alone.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / "README.md")
BLOCK = re.compile(
  r"(<!-- from (docs/results/\S+\.md)(?:, (first|table) (\d+))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def tables(path: Path, which: str | None = None, num: int = 0) -> str:
  """The Markdown tables of a file, all, the `first` num or `table` num alone, without the text."""
  text = path.read_text(encoding="utf-8")
  found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
  shown = [table for table in found if not table.startswith("| sanity check")]
  if which:
    shown = shown[num - 1 if which == "table" else 0 : num]
  return "\n\n".join(shown).strip()


def filled(text: str) -> str:
  """A page's text with every block as its file has it."""

  def block(m: re.Match[str]) -> str:
    return f"{m[1]}\n{tables(ROOT / m[2], m[3], int(m[4] or 0))}\n\n{m[5]}"

  return BLOCK.sub(block, text)


if __name__ == "__main__":
  for page in PAGES:
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
