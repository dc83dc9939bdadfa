"""The detector's part of a report: what it rejects, and what ends misclassified and accepted."""

from collections.abc import Mapping, Sequence
from typing import Any

from gencls.markdown import grid, percent
from gencls.thresholds import RULES

KINDS = {
  "classifier": "attack the classifier",
  "detector": "attack classifier and detector",
  "either": "worst case over both",
}
_TERMS = (
  "Detected: the share of the successes (misclassified, with or without the attack's doing) that "
  "is rejected. AUC: clean test images against successes, over all thresholds; attacks on the "
  "detector aim at the one threshold in use, so theirs says nothing of others."
)
SUFFIX = "_detector"  # of the labels of attacks that differ from others by what they are against


def section(summary: Mapping[str, Any]) -> str:
  """What table.md says of the detector; empty where there is none."""
  found = summary.get("detection")  # older files have none
  if found is None:
    return ""
  n = summary["num_images"]
  return (
    f"{sentence(found)} Misclassified and accepted, % of all n = {n} images with 95% interval, "
    "clean errors included if they are accepted (without attack: "
    f"{percent(found['untouched_evading'])}). The worst case is chosen per image by that "
    f"predicate.\n\n{worst_table({'': found})}\n\n{_TERMS}\n\n{attack_tables(found)}\n\n"
  )


def side_by_side(models: Mapping[str, Mapping[str, Any]]) -> str:
  """What a comparison says of the detectors: what each is, the worst case, and every attack.

  Args:
    models: title -> what `detection.numbers` gave.
  """
  sentences = "\n".join(f"* {title}. {sentence(found)}" for title, found in models.items())
  each = "".join(f"**{title}**\n\n{attack_tables(found)}\n\n" for title, found in models.items())
  return f"{sentences}\n\n{worst_table(models)}\n\n{_TERMS}\n\n{each}"


def sentence(found: Mapping[str, Any]) -> str:
  """The detector and its false-positive rates in words."""
  detector, fitted_on = found["detector"], found["fitted_on"]
  rule = detector["rule"]
  number = RULES[rule["name"]]
  where = f"{fitted_on['used']} of the " if fitted_on["used"] != fitted_on["num_images"] else ""
  by = "one threshold for each class" if detector["per_class"] else "one threshold"
  classes = ", by true labels" if detector["classes"] == "label" else ""
  return (
    f"Detector: {detector['name']}, {by}, {rule['name']} ({number} {rule[number]:g}), fitted to "
    f"{where}{fitted_on['num_images']} {fitted_on['split']} images{classes}. It rejects "
    f"{percent(found['fitting_rejected'])}% of these {fitted_on['split']} images and "
    f"{percent(found['test_rejected'])}% of the clean test images."
  )


def worst(found: Mapping[str, Any]) -> dict[str, dict[tuple[str, float], Mapping[str, Any]]]:
  """kind of attack -> (norm, eps) -> the share that evades; over both only where both were run.

  Its "missing" are the attacks without which it may be too low.
  """
  kinds: dict[str, dict[tuple[str, float], Mapping[str, Any]]] = {
    kind: {
      (row["norm"], row["eps"]): {**row["evading"], "missing": row.get("missing", [])}
      for row in found["worst"]
      if row["kind"] == kind
    }
    for kind in KINDS
  }
  both = kinds["classifier"].keys() & kinds["detector"].keys()
  kinds["either"] = {at: share for at, share in kinds["either"].items() if at in both}
  return {kind: shares for kind, shares in kinds.items() if shares}


def share(evading: Mapping[str, Any]) -> str:
  """A share of `worst` in percent, with a star where attacks are missing."""
  return percent(evading) + " *" * bool(evading["missing"])


def worst_table(models: Mapping[str, Mapping[str, Any]]) -> str:
  """The worst case: a row for each kind of attack, a column for each norm and eps.

  Args:
    models: title -> what `detection.numbers` gave; the title "" is left out.
  """
  rows = [row for found in models.values() for row in found["worst"]]
  columns = sorted({(row["norm"], row["eps"]) for row in rows})
  lines = []
  for title, found in models.items():
    for kind, at in worst(found).items():
      strong = "**" if kind == "either" else ""
      texts = [f"{strong}{share(at[c])}{strong}" if c in at else "" for c in columns]
      name = f"{title}: {KINDS[kind]}" if title else KINDS[kind]
      lines.append([f"{strong}{name}{strong}", *texts])
  header = ["misclassified and accepted, %", *[f"{norm} {eps:g}" for norm, eps in columns]]
  partial = any(row.get("missing") for row in rows)
  legend = "\n\nA share with * lacks attacks that have not been run yet, and can only rise."
  return grid(header, lines) + legend * partial


def attack_tables(found: Mapping[str, Any]) -> str:
  """Per norm a row for each attack and eps, in columns by what it is against."""
  header = ["eps"]
  for kind in ("classifier", "detector"):
    header += [KINDS[kind], "detected, %", "AUC"]
  tables = []
  for norm in dict.fromkeys(row["norm"] for row in found["rows"]):
    own = [row for row in found["rows"] if row["norm"] == norm]
    most = [row for row in found["worst"] if row["norm"] == norm]
    lines = []
    for label in dict.fromkeys(name(row) for row in own):
      mine = [row for row in own if name(row) == label]
      for eps in sorted({row["eps"] for row in mine}):
        lines.append([label, f"{eps:g}", *_columns([r for r in mine if r["eps"] == eps])])
    for eps in sorted({row["eps"] for row in most}):
      at = [row for row in most if row["eps"] == eps]
      lines.append(["**worst case**", f"{eps:g}", *_columns(at, strong="**")])
    tables.append(grid([norm, *header], lines))
  return "\n\n".join(tables)


def name(row: Mapping[str, Any]) -> str:
  """What an attack is called in a table whose columns say what it is against."""
  return row["label"].removesuffix(SUFFIX) if row["against"] == "detector" else row["label"]


def _columns(rows: Sequence[Mapping[str, Any]], strong: str = "") -> list[str]:
  """The columns of the attack on the classifier, then on both; empty where there is none."""
  texts = []
  for kind in ("classifier", "detector"):
    row = next((row for row in rows if row.get("against", row.get("kind")) == kind), None)
    if row is None:
      texts += ["", "", ""]
      continue
    detected = row.get("detected")
    evading = {**row["evading"], "missing": row.get("missing", [])}
    texts += [
      f"{strong}{share(evading)}{strong}",
      percent(detected) if detected else "-",
      area(row) or "-",
    ]
  return texts


def area(row: Mapping[str, Any]) -> str:
  """The AUC of an attack, as "0.912 [0.880, 0.936]", "" where there is none.

  Where the successes are few, and in older files, it has no interval.
  """
  if row.get("auc") is None:
    return ""
  found = row.get("auc_interval")
  ends = f" [{found['low']:.3f}, {found['high']:.3f}]" if found else ""
  return f"{row['auc']:.3f}{ends}"
