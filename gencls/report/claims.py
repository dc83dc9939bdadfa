"""What a paper claims, what its protocol finds on our model, and what holds: one row for a model.

The budgets are those that the file of published numbers names, `headline`: a list of norm and eps.
A claim is the least that the paper reports there, over its attacks, with the name of that attack.
The same attacks on our model stand beside it, and the worst case of the honest evaluation, whatever
its attacks are. Below, how many of all the paper's numbers ours give again (`reproduction.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gencls.markdown import grid, percent
from gencls.report import bounds, comparable, compare, published, reproduction
from gencls.workdir import atomic_write

NOT_RUN = "not run"
Summaries = Mapping[str, Mapping[str, Any]]  # title -> summary


class Claim(NamedTuple):
  """What there is of one model at one budget; None where there is no number."""

  paper: float | None  # percent
  attack: str | None  # that left so much in the paper
  ours: Mapping[str, Any] | None  # an interval
  holds: Mapping[str, Any] | None  # an interval
  partial: bool  # whether attacks of what holds are missing: it may be lower


def rows(
  numbers: Mapping[str, Any], summaries: Summaries, honest: Summaries
) -> dict[str, list[Claim]]:
  """Title -> at each budget the paper's number in percent, ours as published, and what holds.

  Args:
    numbers: from `published.read`, with `headline`.
    summaries: title -> summary, evaluated as published.
    honest: the same models, evaluated as hard as we can.

  Returns:
    Of the models that the paper has at one of the budgets. `ours` is None as long as an attack of
    the paper's is missing: the least over some of them would be no reproduction.
  """
  found = {}
  for title, name in published.models(numbers, summaries).items():
    own = [
      _claim(_reported(numbers, name, norm, eps), summaries[title], honest.get(title), norm, eps)
      for norm, eps in numbers["headline"]
    ]
    if any(claim.paper is not None for claim in own):
      found[title] = own
  return found


def _reported(numbers: Mapping[str, Any], name: str, norm: str, eps: float) -> dict[str, float]:
  """Attack -> the paper's accuracy of a model, of the attacks that have one at this budget."""
  found: dict[str, float] = {}
  for each in published.tables(numbers):
    if each["norm"] == norm and eps in each["eps"]:
      for label, row in each["accuracy"].get(name, {}).items():
        value = row[each["eps"].index(eps)]
        if value is not None:
          found[label] = min(value, found.get(label, value))
  return found


def _claim(
  reported: Mapping[str, float],
  summary: Mapping[str, Any],
  honest: Mapping[str, Any] | None,
  norm: str,
  eps: float,
) -> Claim:
  ours = {
    row["label"]: row["as_returned"]
    for row in summary["rows"]
    if row["norm"] == norm and row["eps"] == eps and row.get("as_returned") is not None
  }
  again = [ours[label] for label in reported if label in ours]
  whole = reported and len(again) == len(reported)
  worst = next(
    (row for row in (honest or {}).get("worst", ()) if (row["norm"], row["eps"]) == (norm, eps)),
    {"accuracy": None},
  )
  least = min(reported, key=lambda label: reported[label]) if reported else None
  return Claim(
    paper=None if least is None else reported[least],
    attack=least,
    ours=min(again, key=lambda interval: interval["mean"]) if whole else None,
    holds=worst["accuracy"],
    partial=worst["accuracy"] is not None and bool(worst.get("missing")),
  )


def markdown(numbers: Mapping[str, Any], summaries: Summaries, honest: Summaries) -> str:
  """The page: where the numbers come from, and the table.

  Raises:
    ValueError: if the two evaluations are not of the same images.
  """
  one, hard = next(iter(summaries.values())), next(iter(honest.values()))
  images = [(each["data"]["split"], each["num_images"]) for each in (one, hard)]
  if images[0] != images[1]:
    raise ValueError(
      "what is claimed and what holds have to be of the same images, got "
      f"{images[0][1]} {images[0][0]} images ({one['name']}) and {images[1][1]} {images[1][0]} "
      f"images ({hard['name']}): evaluate both with the same --config.num_images"
    )
  header = [f"model (n = {one['num_images']})", "clean, %"]
  for norm, eps in numbers["headline"]:
    header += [f"{norm} {eps:g}: the paper", "its attacks on ours", "**worst case**"]
  found, lines = rows(numbers, summaries, honest), []
  for title, own in found.items():
    name = compare.marked(title, honest[title]) if title in honest else title
    cells = [name, _clean(honest.get(title, summaries[title]))]
    for claim in own:
      cells.append("-" if claim.paper is None else f"{claim.paper:.1f} ({claim.attack})")
      cells.append("-" if claim.ours is None else percent(claim.ours))
      held = NOT_RUN if claim.holds is None else f"**{percent(claim.holds)}**"
      cells.append(held + " \\*" * claim.partial)
    lines.append(cells)
  ours, shown = ({t: each for t, each in s.items() if t in found} for s in (summaries, honest))
  return (
    f"# What was claimed, and what holds, on {one['data']['name']}\n\n"
    f"Accuracy in percent. The paper: {numbers['source']}, the least over its attacks, and "
    f"the attack ({numbers['images']}). Its attacks on ours: the least over the same ones "
    f"(`{one['name']}`), on the first {one['num_images']:,} {one['data']['split']} images."
    f"{comparable.left_out_sentence(ours)} Worst case: per example, over the "
    f"attacks of `{hard['name']}`, on the same images, as clean accuracy is."
    f"{comparable.left_out_sentence(shown)} {bounds.sentence(shown)} 95% intervals "
    f"over images. {bounds.threats(one, hard)}"
    f"\n\n{grid(header, lines)}\n\n{reproduction.section(numbers, summaries)}"
    f"{compare.failed(shown)}{compare.not_run(shown)}"
  ).rstrip() + "\n"


def _clean(summary: Mapping[str, Any]) -> str:
  return (
    NOT_RUN if summary["clean"] is None else f"{100 * summary['clean']['accuracy']['mean']:.1f}"
  )


def write(numbers: Mapping[str, Any], summaries: Summaries, honest: Summaries, path: Path) -> bool:
  """Writes the page where the published numbers name budgets for it.

  Returns:
    Whether they do, the paper has one of the models there, and one has been evaluated as hard as
    we can; if not, no page is left.

  Raises:
    ValueError: if the two evaluations are not of the same images.
  """
  if not (honest and numbers.get("headline") and rows(numbers, summaries, honest)):
    path.unlink(missing_ok=True)
    return False
  atomic_write(path, markdown(numbers, summaries, honest))
  return True
