"""What the tables of the HTML report show: plain lists and dicts, made for its templates.

A number is {mean, low, high, n, method, href, partial} or None for "not run"; shares stay shares.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gencls.evaluate import CLEAN, GREY, UNTOUCHED
from gencls.evaluation.minimum_norm import AS_DISTANCE
from gencls.evaluation.regrade_cell import label as regraded_label
from gencls.evaluation.results import Cell, portable_command
from gencls.report import detection_table, results_file, table
from gencls.report.reading import Entry
from gencls.summary import regraded as regrading
from gencls.summary.checks import WORST

FEWER = " (of what others left)"  # behind an attack that did not meet every image
STATUSES = ("fail", "pass", "not run")


def anchor(model: int, label: str, norm: str, eps: float | None) -> str:
  """Where the source of a number stands in the page."""
  at = "minimum" if eps is None else f"{eps:g}"
  text = f"from-{model}-{label}-{norm}-{at}"
  return "".join(c if c.isalnum() or c in "-." else "-" for c in text)


def radii(entries: Sequence[Entry]) -> dict[str, list[float]]:
  """norm -> every eps that any model has, in order."""
  found: dict[str, set[float]] = {}
  for entry in entries:
    for row in entry.summary["worst"]:
      found.setdefault(row["norm"], set()).add(row["eps"])
  return {norm: sorted(eps) for norm, eps in sorted(found.items())}


def attacks(entries: Sequence[Entry]) -> list[str]:
  """The labels of all attacks in the order they are met, grey last; the worst case is none."""
  labels = [row["label"] for e in entries for row in e.summary["rows"] if row["label"] != GREY]
  planned = [p.label for e in entries for p in e.planned if p.norm and p.label != GREY]
  has_grey = any(row["label"] == GREY for e in entries for row in e.summary["rows"])
  return [*dict.fromkeys([*labels, *planned]), *([GREY] if has_grey else [])]


def _number(interval: Mapping[str, Any] | None, href: str, partial: str = "") -> dict | None:
  if interval is None:
    return None
  return {**interval, "href": f"#{href}", "partial": partial, "chosen": ""}


def leaderboard(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """A row for each model: clean accuracy, log-likelihood, and the worst case at every eps."""
  rows = []
  for i, entry in enumerate(entries):
    summary = entry.summary
    clean = summary["clean"] or {"accuracy": None, "metrics": {}}
    worst = {(r["norm"], r["eps"]): _worst(i, r) for r in summary["worst"]}
    counts = {s: table.count(summary, s) for s in STATUSES} | {"fail": len(table.failed(summary))}
    rows.append(
      {
        "model": entry.title,
        "clean": _number(clean["accuracy"], anchor(i, "clean", "", 0.0)),
        "nats": clean["metrics"].get("log_marginal_nats", {}).get("value"),
        "bpd": clean["metrics"].get("bpd", {}).get("value"),
        "worst": worst,
        "checks": counts,
        "missing": len(summary["missing"]),
      }
    )
  return rows


def _worst(i: int, row: Mapping[str, Any]) -> dict | None:
  partial = _partial(row.get("missing", ()), "fall")
  found = _number(row["accuracy"], anchor(i, WORST, row["norm"], row["eps"]), partial)
  if found is not None:
    chosen = {label: count for label, count in row["chosen"].items() if count}
    found["chosen"] = ", ".join(f"{label} {count}" for label, count in chosen.items())
  return found


def _partial(missing: Sequence[str], where: str) -> str:
  """What is said of a number that lacks attacks; empty where it lacks none."""
  return f"not run yet: {', '.join(missing)}; can only {where}" if missing else ""


def numbers(entries: Sequence[Entry], norm: str) -> list[dict[str, Any]]:
  """A row for each model and attack of a norm, the worst case first; eps -> number."""
  rows = []
  for i, entry in enumerate(entries):
    own = [r for r in [*entry.summary["worst"], *entry.summary["rows"]] if r["norm"] == norm]
    planned = [p.label for p in entry.planned if p.norm == norm]
    for label in dict.fromkeys([WORST, *[r["label"] for r in own], *planned]):
      at = {r["eps"]: _any(i, r) for r in own if r["label"] == label}
      rows.append({"model": entry.title, "attack": label, "at": at, "strong": label == WORST})
  return rows


def _any(i: int, row: Mapping[str, Any]) -> dict | None:
  if row["label"] == WORST:
    return _worst(i, row)
  eps = None if "derived" in row else row["eps"]
  label = row["label"].removesuffix(AS_DISTANCE)
  return _number(row["accuracy"], anchor(i, label, row["norm"], eps))


def evading(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """A row for each model and kind of attack: what ends misclassified and accepted, at every eps."""
  rows = []
  for i, entry in enumerate(entries):
    found: Mapping[str, Any] | None = entry.summary.get("detection")  # older files have none
    if not found:
      continue
    for kind, shares in detection_table.worst(found).items():
      at = {
        place: _number(share, anchor(i, WORST, *place), _partial(share["missing"], "rise"))
        for place, share in shares.items()
      }
      rejected = _number(found["test_rejected"], anchor(i, "untouched", "", 0.0))
      words = detection_table.KINDS[kind]
      rows.append({"model": entry.title, "kind": words, "rejected": rejected, "at": at})
  return rows


def detectors(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """Each model's detector in words, and a row for each attack and eps that it met."""
  found = []
  for i, entry in enumerate(entries):
    numbers: Mapping[str, Any] | None = entry.summary.get("detection")  # older files have none
    if not numbers:
      continue
    rows, derived = [], {_at(row) for row in entry.summary["rows"] if "derived" in row}
    for row in numbers["rows"]:
      eps = None if _at(row) in derived else row["eps"]
      href = anchor(i, row["label"].removesuffix(AS_DISTANCE), row["norm"], eps)
      shares = {n: _number(row[n], href) for n in ("evading", "detected")}
      names = {"attack": detection_table.name(row), "kind": detection_table.KINDS[row["against"]]}
      rows.append({**row, **names, **shares, "area": detection_table.area(row)})
    words = detection_table.sentence(numbers)
    found.append({"model": entry.title, "words": words, "rows": rows})
  return found


def _at(row: Mapping[str, Any]) -> tuple[str, str, float]:
  return row["label"], row["norm"], row["eps"]


def checks(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """A row for each check: its name, and per model (status, detail); failures first."""
  by_model = [{c["name"]: c for c in entry.summary["checks"]} for entry in entries]
  names = dict.fromkeys(name for own in by_model for name in own)
  absent = {"status": "not run", "detail": "not part of this evaluation"}
  rows = [{"name": name, "at": [own.get(name, absent) for own in by_model]} for name in names]
  order = {status: i for i, status in enumerate(STATUSES)}
  return sorted(rows, key=lambda row: min(order[c["status"]] for c in row["at"]))


def regraded(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """A row for each model and number of importance samples: the worst case at every eps."""
  rows = []
  for i, entry in enumerate(entries):
    for line in regrading.lines(entry.summary):
      at = {
        where: _number(value, anchor(i, regraded_label(line.num_samples, *where), "", 0.0))
        for where, value in line.at.items()
      }
      n = next(iter(line.at.values()))["n"]
      rows.append({"model": entry.title, "name": line.name, "n": n, "at": at})
  return rows


def costs(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """A row for each model and attack: seconds and passes for one image, over all its eps."""
  rows = []
  for entry in entries:
    if results_file.kept(entry):
      rows += _kept_costs(entry)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in entry.cells:
      if cell.header["norm"] and cell.header["label"] != GREY:
        label = cell.header["label"] + FEWER * ("handed_on" in cell.arrays)
        groups.setdefault((label, cell.header["norm"]), []).append(cell)
    for (label, norm), cells in groups.items():
      seconds = [cell.header["seconds"] / cell.header["num_images"] for cell in cells]
      rows.append(
        {
          "model": entry.title,
          "attack": label,
          "norm": norm,
          "cells": len(cells),
          "seconds": float(np.mean(seconds)),
          **{name: _mean(cells, name) for name in ("forward", "backward")},
        }
      )
  return rows


def _kept_costs(entry: Entry) -> list[dict[str, Any]]:
  """The same without cells: results files do not tell forward from backward passes."""
  groups: dict[tuple[str, str], list[float]] = {}
  for row in _made(entry):
    if row["label"] != GREY:
      label = row["label"] + FEWER * ("handed_on" in row)
      groups.setdefault((label, row["norm"]), []).append(row["seconds"])
  return [
    {
      "model": entry.title,
      "attack": label,
      "norm": norm,
      "cells": len(seconds),
      "seconds": float(np.mean(seconds)) / entry.summary["num_images"],
      "forward": None,
      "backward": None,
    }
    for (label, norm), seconds in groups.items()
  ]


def _made(entry: Entry) -> list[dict[str, Any]]:
  """The rows of a summary that are cells of their own, not read off another."""
  every = [*entry.summary["rows"], *entry.summary.get("minimum", ())]
  return [row for row in every if "derived" not in row]


def _mean(cells: Sequence[Cell], name: str) -> float | None:
  counts = [cell.arrays[name] for cell in cells if name in cell.arrays]
  return float(np.mean(np.concatenate(counts))) if counts else None


def sources(entries: Sequence[Entry]) -> list[dict[str, Any]]:
  """Per model: its cells with their files, and the records that they were made with."""
  found = []
  for i, entry in enumerate(entries):
    if results_file.kept(entry):
      found.append(_kept_source(i, entry))
      continue
    records: dict[str, int] = {}
    rows = []
    for cell, file in zip(entry.cells, entry.files, strict=True):
      header = cell.header
      text = json.dumps(record(header["record"]), sort_keys=True)
      number = records.setdefault(text, len(records) + 1)
      where = {name: header[name] for name in ("label", "norm", "eps", "num_images", "seconds")}
      seed = header["settings"].get("seed")
      at = anchor(i, header["label"], header["norm"], header["eps"])
      rows.append({**where, "file": file, "record": number, "anchor": at, "seed": seed})
    found.append(
      {
        **_source(i, entry),
        "folder": f"{entry.workdir.name}/results/{entry.name}",
        "rows": rows,
        "records": [json.loads(text) for text in records] or [record(entry.summary["record"])],
      }
    )
  return found


def _kept_source(i: int, entry: Entry) -> dict[str, Any]:
  """The same of a model of a results file, whose cells are gone: the file stands for them."""
  summary, seed = entry.summary, entry.summary["protocol"]["seed"]
  common = {"num_images": summary["num_images"], "file": entry.workdir.name, "record": 1}
  rows = [
    {**common, **{name: row.get(name) for name in ("label", "norm", "eps", "seconds")},
     "anchor": anchor(i, row["label"], row["norm"], row["eps"]), "seed": seed}
    for row in [*_ungraded(summary), *_made(entry)]
  ]  # fmt: skip
  own = {"folder": str(entry.workdir.name), "rows": rows, "records": [record(summary["record"])]}
  return {**_source(i, entry), **own}


def _ungraded(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Rows of the clean images, with which no attack has to do."""
  return [{"label": label, "norm": "", "eps": 0.0} for label in (CLEAN, UNTOUCHED)
          if summary[label]]  # fmt: skip


def _source(i: int, entry: Entry) -> dict[str, Any]:
  """What the two kinds of sources have in common."""
  summary = entry.summary
  return {
    "model": entry.title,
    "worst": [_chosen(i, row) for row in summary["worst"] if row["accuracy"]],
    "missing": summary["missing"],
    "config": json.dumps(summary["config"], indent=2),
    "training": record(summary["training"]) if "training" in summary else None,
    "identity": {n: summary[n] for n in ("params", "step") if n in summary},
    "seed": summary["protocol"]["seed"],
    "data": summary["data"],
  }


def _chosen(i: int, row: Mapping[str, Any]) -> dict[str, Any]:
  at = anchor(i, WORST, row["norm"], row["eps"])
  return {"norm": row["norm"], "eps": row["eps"], "anchor": at, **(_worst(i, row) or {})}


def record(values: Mapping[str, Any]) -> dict[str, Any]:
  """What made a number, in words, without this machine's folders."""
  git, devices = values["git"], values["devices"]
  changes = " with uncommitted changes" if git["dirty"] else ""
  count = devices.get("count", 1)
  return {
    "command": portable_command(values["command"]),
    "revision": f"{git['revision'] or 'unknown'}{changes}",
    "versions": ", ".join(f"{name} {version}" for name, version in values["versions"].items()),
    "device": f"{count} x {devices['kind']} ({devices['platform']})",
  }
