"""Markdown tables of one evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from gencls import interop
from gencls.evaluation import minimum_norm
from gencls.markdown import grid, percent
from gencls.report import choices, detection_table
from gencls.sanity import ORIGIN, UNCOMMITTED
from gencls.summary import regraded

_METRIC_TITLES = {
  "label_nll_nats": ("NLL of the label", "nats"),
  "ece": ("expected calibration error, 15 bins", ""),
  "loss_nats": ("training loss", "nats"),
  "elbo_nats": ("mean ELBO", "nats"),
  "importance_weighted_bound_nats": ("mean importance-weighted bound of training", "nats"),
  "log_marginal_nats": ("log p(x)", "nats"),
  "bpd": ("bits per dimension, dequantised", "bits"),
}
_MARKS = {"pass": "pass", "fail": "**FAIL**", "not run": "not run"}


def clean_table(summary: Mapping[str, Any]) -> str:
  """Clean numbers, one a line; what a model does not have, with the reason."""
  clean = summary["clean"]
  what = "draws of what the classifier prepares" if clean["prepared_anew"] else "draws"
  draws = f"mean of {clean['draws']} {what}" if clean["draws"] > 1 else "one draw"
  draws = "deterministic" if clean["deterministic"] else draws
  rows = [["accuracy, %", percent(clean["accuracy"]) + f" ({draws})"]]
  for name, metric in clean["metrics"].items():
    elbo = clean["metrics"].get("elbo_nats", {"value": None})["value"]
    if name == "loss_nats" and elbo is not None and metric["value"] == -elbo:
      continue  # the same number with the other sign
    title, unit = _METRIC_TITLES[name]
    rows.append([f"{title}, {unit}" if unit else title, _metric(metric)])
  return grid(["clean", f"n = {summary['num_images']}"], rows)


def _metric(metric: Mapping[str, Any]) -> str:
  if metric["value"] is None:
    return f"none ({metric['reason']})".replace("|", "\\|")
  error = metric["standard_error"]
  return f"{metric['value']:.4g}" + (f" ± {error:.2g}" if error is not None else "")


def attack_tables(summary: Mapping[str, Any]) -> str:
  """Per norm: a row for each attack, a column for each eps, the worst case last."""
  tables = []
  for norm in dict.fromkeys(row["norm"] for row in summary["worst"]):
    rows = [r for r in [*summary["rows"], *summary["worst"]] if r["norm"] == norm]
    eps = sorted({row["eps"] for row in rows})
    # The grey image stands last but one, beside the worst case.
    labels = list(dict.fromkeys(row["label"] for row in rows if row["label"] != "grey"))
    labels.insert(len(labels) - 1, "grey")
    lines = []
    for label in labels:
      at = {row["eps"]: percent(row["accuracy"]) for row in rows if row["label"] == label}
      strong = "**" if label == labels[-1] else ""
      texts = [f"{strong}{at[e]}{strong}" if e in at else "" for e in eps]
      name = "grey image" if label == "grey" else label
      lines.append([f"{strong}{name}{strong}", *texts])
    tables.append(grid([f"{norm}, eps =", *[f"{e:g}" for e in eps]], lines))
  return "\n\n".join(tables)


def minimum_table(minimum: Sequence[Mapping[str, Any]]) -> str:
  """One row for each minimum-norm attack: how often it succeeds and how far away.

  Targeted attacks have a table of their own, of the images that have a target.
  """
  plain = [row for row in minimum if not row.get("targeted")]
  aimed = [row for row in minimum if row.get("targeted")]
  kinds = [("minimum norm", "broken, %", plain)] if plain or not aimed else []
  if aimed:
    kinds.append(("minimum norm, into the target class", "reached, %", aimed))
  return "\n\n".join(_distance_grid(*kind) for kind in kinds)


def _distance_grid(title: str, found: str, minimum: Sequence[Mapping[str, Any]]) -> str:
  header = [title, found, "median norm", "of successes", "mean relative norm (rho)",
            "of successes"]  # fmt: skip
  fields = ("median_norm_all", "median_norm", "mean_relative_norm",
            "mean_relative_norm_of_successes")  # fmt: skip
  rows = [
    [
      f"{row['label']}, {row['norm']}",
      _share(row["found"]),
      *[minimum_norm.text(row, f) for f in fields],
    ]
    for row in minimum
  ]
  return grid(header, rows)


def _share(interval: Mapping[str, Any] | None) -> str:
  return "none" if interval is None else percent(interval)


def _minimum_section(summary: Mapping[str, Any]) -> str:
  """What minimum-norm attacks found and how it became a curve; empty where there are none."""
  if not summary["minimum"]:
    return ""
  kinds = {row["label"]: row["derived"] for row in summary["rows"] if "derived" in row}
  texts = {
    "distance": "broken at eps where the graded image is wrong and not further away than eps",
    "clip": "as published, the result clipped to each eps and classified again",
  }
  how = [
    f"{', '.join(label for label, own in kinds.items() if own == kind)}: {text}"
    for kind, text in texts.items()
    if kind in kinds.values()
  ]
  text = (
    f"Minimum-norm attacks, each run once ({'; '.join(how)}). Natural errors count as broken at "
    "distance 0, failures as infinitely far; relative norms are ‖η‖₂ / ‖x‖₂."
  )
  if any(row["attack"].get("against") == "detector" for row in summary["minimum"]):
    text += " Attacks on the detector break what ends misclassified and accepted."
  return f"{text}\n\n{minimum_table(summary['minimum'])}\n\n"


def targeted_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """One row for each targeted attack and eps; empty where there are none.

  Args:
    rows: of a summary; those of untargeted attacks are passed over.
  """
  header = ["targeted", "target", "norm", "eps", "n", "left out", "in the target class, %",
            "accuracy, %"]  # fmt: skip
  lines = []
  for row in rows:
    own = row.get("targeted")  # older files have none
    if own:
      shares = [_share(own[name]) for name in ("success_rate", "accuracy")]
      counts = [str(own[name]) for name in ("num_images", "left_out")]
      target = own["target"]
      words = target.replace("_", " ") if isinstance(target, str) else f"class {target}"
      lines.append([row["label"], words, row["norm"], f"{row['eps']:g}", *counts, *shares])
  return grid(header, lines) if lines else ""


def _targeted_section(summary: Mapping[str, Any]) -> str:
  """How often targeted attacks reach their target; empty where there are none."""
  found = targeted_table(summary["rows"])
  text = (
    "Targeted attacks: the share of images that end in their target class, beside the accuracy of "
    "the same images under the same attack, % with 95% interval. Images without a target are left "
    "out: those of the class itself, and where logits choose it those whose logits are not finite. "
    "Everywhere else, as in the worst case, any wrong class counts."
  )
  aimed = [row for row in summary["rows"] if row.get("targeted")]
  if any(row["attack"].get("against") == "detector" for row in aimed):
    text += " What attacks on the detector end in has to be accepted, too."
  return f"{text}\n\n{found}\n\n" if found else ""


def _cut_short(summary: Mapping[str, Any]) -> str:
  """The attacks that time cut short, in words; empty where there are none."""
  rows = [*summary["rows"], *summary["minimum"]]
  found = [
    f"{row['label']} ({row['norm']}, {'minimum' if row['eps'] is None else row['eps']}): "
    f"{row['cut_short']} images"
    for row in rows
    if row.get("cut_short")
  ]
  return f"**Cut short by time: {'; '.join(found)}.**\n\n" if found else ""


def _no_start(summary: Mapping[str, Any]) -> str:
  """The walks that found no success to start from, in words; empty where each found one."""
  found = [
    f"{row['label']} ({row['norm']}): {row['no_start']} images"
    for row in summary["minimum"]
    if row.get("no_start")  # older files do not say
  ]
  text = "No start found, which counts as unbroken"
  return f"**{text}: {'; '.join(found)}.**\n\n" if found else ""


def count(summary: Mapping[str, Any], status: str) -> int:
  """How many sanity checks ended so: "pass", "fail" or "not run"."""
  return sum(check["status"] == status for check in summary["checks"])


def failed(summary: Mapping[str, Any]) -> list[str]:
  """The names of the failed checks; that clean cells are of two revisions is no failure of theirs.

  It says nothing of robustness. Cells of uncommitted code do fail it.
  """
  failures = [check for check in summary["checks"] if check["status"] == "fail"]
  return [c["name"] for c in failures if c["name"] != ORIGIN or UNCOMMITTED in c["detail"]]


def _warning(failed: int, not_run: int) -> str:
  """That checks failed or were not run, in words; empty where all passed."""
  if failed:
    rest = f", {not_run} not run" if not_run else ""
    return f"\n\n**{failed} sanity check(s) failed{rest}: see below.**"
  return f"\n\n{not_run} sanity check(s) not run: see below." if not_run else ""


def checks_table(summary: Mapping[str, Any]) -> str:
  """The sanity checks, failures first."""
  order = {"fail": 0, "pass": 1, "not run": 2}
  checks = sorted(summary["checks"], key=lambda check: order[check["status"]])
  rows = [[_MARKS[c["status"]], c["name"], c["detail"].replace("|", "\\|")] for c in checks]
  return grid(["check", "what", "detail"], rows)


def checks_of_models(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """The sanity checks of several models: a row for each check, a column for each model.

  Args:
    summaries: title -> summary. Below stand what failed, with its detail, and the checks that were
      run of no model.
  """
  found = {title: {c["name"]: c for c in s["checks"]} for title, s in summaries.items()}
  names = list(dict.fromkeys(name for checks in found.values() for name in checks))
  status = {
    name: [checks.get(name, {}).get("status") for checks in found.values()] for name in names
  }
  run = [name for name in names if {"pass", "fail"} & {*status[name]}]
  rows = [[name, *["-" if each is None else _MARKS[each] for each in status[name]]] for name in run]
  failed = [
    f"* {title}, {check['name']}: {check['detail']}"
    for title, checks in found.items()
    for check in checks.values()
    if check["status"] == "fail"
  ]
  left = "; ".join(name for name in names if name not in run)
  parts = [
    grid(["sanity check", *found], rows) if run else "",
    "\n".join(failed),
    f"Run of no model: {left}." if left else "",
  ]
  return "\n\n".join(part for part in parts if part)


def threat_sentence(settings: Mapping[str, Any], attacks: Mapping[str, Mapping[str, Any]]) -> str:
  """The threat model in words.

  Args:
    settings: of the protocol.
    attacks: label -> its settings in the config.
  """
  if settings["threat"] == "known_seed":
    return "Known seed: attack and grading share each image's key, a deterministic classifier."
  foolbox = [label for label, attack in attacks.items() if interop.is_foolbox(attack["name"])]
  draws = {label: a["eot_samples"] for label, a in attacks.items() if label not in foolbox}
  each = ", ".join(f"{label} {count}" for label, count in draws.items())
  queries = f"the mean over fresh keys ({each})" if draws else "a fresh key"
  fixed = f" (those of Foolbox, {', '.join(foolbox)}, see one fixed attack key for each image)"
  return (
    f"Fresh seed: each query of an attack is {queries}{fixed if foolbox else ''}; the "
    f"candidate is chosen per image on {settings['select_draws']} select draws and graded by the "
    f"mean over {settings['grade_draws']} separate draws."
  )


_GRADIENTS = {
  "flip": "Gradients of {0} are the differences that flipping single pixels makes",
  "straight_through": (
    "Gradients pass the threshold or denoiser of {0} by the straight-through estimator"
  ),
  "detached_target": "The likelihood of {0} compares with a detached image, as published",
  "detached": "No gradient passes what stands before {0}: it is detached, as published",
}


def gradient_sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """Of which models the gradient is not that of the function, and what stands for it.

  Args:
    summaries: title -> summary; older ones do not say it.

  Returns:
    Sentences with a space before, or nothing.
  """
  text = ""
  for kind, words in _GRADIENTS.items():
    named = [title for title, summary in summaries.items() if summary.get("gradient") == kind]
    if named:
      text += f" {words.format(', '.join(named))}."
  return text


def handed_on_sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """Which attacks have met only what others left; a sentence with a space before, or nothing."""
  of: dict[str, list[str]] = {}
  for title, summary in summaries.items():
    given = [row["label"] for row in summary["rows"] if "handed_on" in row]
    for label in dict.fromkeys(given):
      before = ", ".join(summary["attacks"][label]["after"])
      of.setdefault(f"{label} after {before}", []).append(title)
  each = [f"{which} ({', '.join(titles)})" for which, titles in of.items()]
  told = " Attacks that met only the images that others had left, and count what both broke: "
  return f"{told}{'; '.join(each)}." if each else ""


def samples_sentence(summary: Mapping[str, Any]) -> str:
  """K of grading and of the attack, for models that have one."""
  graded, attacked = (summary[n].get("num_samples") for n in ("model", "attack_model"))
  if graded is None:
    return ""
  return f" K = {graded}." if graded == attacked else f" K = {graded}, in the attack {attacked}."


def markdown(summary: Mapping[str, Any]) -> str:
  """The whole table.md of one evaluation.

  Args:
    summary: from `summary.summarise`, with the fields that `launch/evaluate.py` adds.
  """
  warning = _warning(len(failed(summary)), count(summary, "not run"))
  settings, made_by = summary["protocol"], summary["made_by"]
  return f"""# {summary["title"]}: {summary["name"]}

The first {summary["num_images"]} images of the {summary["data"]["split"]} split of \
{summary["data"]["name"]}, checkpoint of step {summary["step"]}, seed {settings["seed"]}. \
{threat_sentence(settings, summary["attacks"])}{samples_sentence(summary)}\
{gradient_sentence({summary["title"]: summary})}\
{handed_on_sentence({summary["title"]: summary})}\
{choices.sentence({summary["title"]: summary})}{warning}

{clean_table(summary)}

Accuracy under attack, % with 95% interval ({summary["untouched"]["accuracy"]["method"]}), \
n = {summary["num_images"]}. The untouched image is a candidate everywhere: clean errors count as \
errors. Without attack, under the draws of grading: {percent(summary["untouched"]["accuracy"])}. \
The worst case is chosen per image over every image that an attack, or grey, has in the ball: at \
this eps or a smaller one, and from minimum-norm attacks at any distance up to it.

{attack_tables(summary)}

{detection_table.section(summary)}{_minimum_section(summary)}{_targeted_section(summary)}\
{_cut_short(summary)}{_no_start(summary)}{regraded.section(summary)}{checks_table(summary)}

Last written by `{summary["record"]["command"]}`. The cells: revision \
{" / ".join(made_by["revision"])}; {" / ".join(made_by["versions"])}; \
{" / ".join(made_by["device"])}.
"""
