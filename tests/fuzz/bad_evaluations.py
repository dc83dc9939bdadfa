"""Configs of evaluations and sweeps, and arguments of reports, that mean nothing."""

import bad_input
from bad_input import Case
from bad_training import INF, NAN
from finished import NAME, Scene, evaluate, evaluation_config, module

from gencls import sweep, sweep_cells
from gencls.evaluation import stored
from gencls.report import compare, difference

_OTHER = {"name": "other"}  # the finished one is refused for being another evaluation
_KL = {**_OTHER, "detector.name": "kl"}
_FRESH = {**_OTHER, "threat": "fresh_seed", "select_draws": 1, "grade_draws": 20}
_FIELDS = [
  ("name", "../other"),
  ("name", ""),
  ("name", "a/b"),
  ("name", "analyses", "name must not be 'analyses'", "launch/analyse.py"),
  ("seed", 1, "holds another evaluation", "seed: 0 -> 1"),
  ("split", "tests", _OTHER, "unknown split 'tests'", "did you mean 'test'"),
  ("num_images", 0, _OTHER),
  ("num_images", 10_000, _OTHER),
  ("num_images", 2.5, _OTHER),
  ("seed", -1, _OTHER),
  ("threat", "known", _OTHER, "unknown threat model 'known'", "did you mean 'known_seed'"),
  ("select_draws", 2, _OTHER, "select_draws", "got 2 and 1"),
  ("grade_draws", 3, _OTHER, "grade_draws", "got 1 and 3"),
  ("grade_draws", 19, _FRESH, "grade_draws >= 20", "got 19"),
  ("select_draws", 0, _FRESH, "select_draws >= 1", "and 0"),
  ("clean_draws", 0, _OTHER),
  ("clean", ("acuracy",), _OTHER, "unknown clean metric 'acuracy'", "did you mean 'accuracy'"),
  ("clean", "accuracy", _OTHER),
  ("batch_size", 0, _OTHER),
  ("batch_size", 1.5, _OTHER),
  ("keep_images", -1, _OTHER),
  ("step", "newest", _OTHER, 'step must be "latest", "best" or a number', "'newest'"),
  ("step", 999, _OTHER, "no checkpoint of step 999"),
  ("model.num_samples", 0, _OTHER),
  ("model.num_samples", 5, _OTHER, "'num_samples'", "of 'cnn'"),
  ("model.rule", "nearest", _OTHER, "'rule'", "of 'cnn'"),
  ("attack_model.num_samples", -1, _OTHER),
]
_SEEN = {**_OTHER, "surface.num_images": 1}
_PROBES = [
  ("probe_gradient", "yes", _OTHER),
  ("surface.num_images", -1, _OTHER),
  ("surface.num_images", 1.5, _OTHER),
  ("surface.eps", NAN, _SEEN),
  ("surface.eps", -0.1, _SEEN),
  ("surface.points", 4, _SEEN, "must be odd"),
  ("regrade_samples", (0,), _OTHER, "regrade_samples must be whole numbers >= 1, got 0"),
  ("regrade_samples", (2.5,), _OTHER),
  ("regrade_samples", (10,), {**_OTHER, "keep_images": 0}, "keep_images=0"),
  ("transfer_from", "runs/other", _OTHER),
]
_DETECTOR = [
  ("detector.name", "margnal", _OTHER, "unknown detector 'margnal'", "did you mean 'marginal'"),
  ("detector.name", "marginal", _OTHER, "'marginal' needs logits that are log p(x, y)"),
  ("detector.threshold", "quantil", _KL, "unknown threshold 'quantil'"),
  ("detector.threshold", "fixed", _KL, "needs a finite bits_per_dim, got None"),
  ("detector.false_positive_rate", 1.0, _KL),
  ("detector.false_positive_rate", NAN, _KL),
  ("detector.alpha", INF, _KL),
  ("detector.fitted_on", "test", _KL, "unknown detector.fitted_on 'test'"),
  ("detector.num_images", 0, _KL),
  ("detector.classes", "labels", _KL, "unknown classes 'labels'", "did you mean 'label'"),
  ("detector.per_class", "yes", _KL),
]
_ATTACK = [
  ("name", "fgms", "unknown attack 'fgms'", "or 'fgsm'"),
  ("norm", "linf2", "norm", "got 'linf2'"),
  ("norm", "l0.5", "norm", "got 'l0.5'"),
  ("eps", (-0.1,), "eps must be finite and >= 0", "-0.1"),
  ("eps", (NAN,), "eps must be finite and >= 0", "nan"),
  ("eps", (0.1, 0.1), "an eps is listed twice", "(0.1, 0.1)"),
  ("eps", "0.1"),
  ("eps", 0.1),
  ("eps", ("a",)),
  ("loss", "hinge", "unknown loss 'hinge'"),
  ("eot_samples", 0),
  ("eot_samples", 2, "eot_samples=2", "randomness='fixed'"),
  ("grade_as", "clip", "grade_as='clip' is for minimum-norm attacks"),
  ("max_seconds", 0.0),
  ("max_seconds", NAN),
  ("max_seconds", INF),
  ("max_queries", 0),
  ("max_queries", 1.5),
  ("target", "nxt", "unknown target 'nxt'", "did you mean 'next'"),
  ("target", "10", "target must be < 3", "got 10"),
  ("against", "detectr", "unknown against 'detectr'", "did you mean 'detector'"),
  ("against", "detector", "against='detector'", "the evaluation has none"),
  ("accept_weight", 2.0, "accept_weight=2.0", "does not see"),
  ("models", "threshold", "unknown models 'threshold'", "did you mean 'thresholded'"),
  ("num_step", 3, "'num_step'", "fgsm"),
  ("check_result", 1, "check_result must be True or False", "got 1"),
]
_PGD = [
  ("num_steps", 0, "num_steps", "got 0"),
  ("num_steps", 2.5),
  ("num_steps", NAN),
  ("num_restarts", 0, "num_restarts must be >= 1", "and 0"),
  ("step_size", NAN, "step_size", "nan"),
  ("step_size", -1.0, "step size", "got -1.0"),
  ("random_start", "no"),
  ("schedule", "linea", "unknown schedule 'linea'"),
  ("per_sample", True, "per_sample=True needs a model", "log_weights"),
  ("start", "nearest", "unknown start 'nearest'", "did you mean 'nearest_wrong'"),
]


def _of(label: str, rows: list[tuple], **more: object) -> list[tuple]:
  given = {**_OTHER, **{f"attacks.{label}.{name}": value for name, value in more.items()}}
  return [(f"attacks.{label}.{field}", value, given, *words) for field, value, *words in rows]


def _incomplete(at: Scene) -> None:
  attacks = evaluation_config()["attacks"]
  evaluate(at, name="other", attacks={**attacks, "fgsm": {"name": "fgsm", "eps": (0.1,)}})


def _taken(at: Scene) -> None:
  evaluate(at, name="other", attacks={"clean": evaluation_config()["attacks"]["fgsm"]})


def _sweep(at: Scene, **fields: object) -> None:
  base = module("configs.sweeps.base")
  config = base.get_config(
    {"a": base.model("configs/cnn_digits.py")}, {"f": base.attack("configs/attacks/clean.py")}
  ).to_dict()
  cells = sweep.cells({**config, **fields})
  sweep_cells.open_sweep(at.empty, cells, list, fields.get("retries", 1))


def _model(*overrides: str, **fields: object) -> dict[str, object]:
  return {"config": "c.py", "variant": "", "overrides": overrides, **fields}


_SWEEPS = [
  ("seeds", (), "seeds must be one or more", "[]"),
  ("seeds", (1, 1), "seeds", "[1, 1]"),
  ("seeds", (-1,), "seeds", "[-1]"),
  ("seeds", (0.5,), "seeds", "[0.5]"),
  ("retries", -1),
  ("models", {"a/b": _model()}, "label", "'a/b'"),
  ("models", {"train": _model()}, "label", "'train'"),
  ("models", {"a": _model("num_epochs 3")}, "field=value", "'num_epochs 3'"),
  ("attacks", {"f": _model(models=("b",))}, "attack 'f'", "['b']"),
]


def _results_file(name: str, content: bytes, *words: str) -> Case:
  damage = bad_input.write(lambda at: at.empty / "a.json", lambda _: content)
  return Case("report", name, lambda at: _report(at, [at.empty / "a.json"]), words, damage=damage)


_REPORTS = [
  Case("report", "a folder that is no run", lambda at: _report(at, [at.empty]),
       ("evaluation", NAME), FileNotFoundError),
  Case("report", "an evaluation that is not there", lambda at: _report(at, [at.run], "tou"),
       ("unknown evaluation 'tou'", "did you mean 'toy'"), FileNotFoundError),
  Case("report", "the same run twice", lambda at: _report(at, [at.run, at.run]),
       ("two models are called 'CNN (toy)'", "give each run or results file once")),
  Case("report", "an attack that was not run",
       lambda at: compare.write(compare.gather([at.run], NAME), NAME, at.empty, "pgdd"),
       ("unknown attack 'pgdd'",)),
  Case("report", "one run to be compared",
       lambda at: difference.write([at.run], NAME, None, {}), ("two work directories", "got 1")),
  Case("report", "results of an evaluation that is not there",
       lambda at: stored.read(at.run, "nothing"), ("unknown evaluation 'nothing'",),
       FileNotFoundError),
  Case("report", "a results file that is not there", lambda at: _report(at, [at.empty / "a.json"]),
       ("a.json",), FileNotFoundError),
  _results_file("half a results file", b'{"CNN": {"name"', "is damaged", "not valid JSON"),
  _results_file("a results file with a pointer to nothing", b'{"CNN": {"$ref": "#/$shared/0"}}',
                "is damaged", "'#/$shared/0' leads nowhere"),
  _results_file("a results file with a pointer to itself",
                b'{"$shared": [{"$ref": "#/$shared/0"}], "CNN": {"$ref": "#/$shared/0"}}',
                "is damaged", "'#/$shared/0' leads back to itself"),
  _results_file("other JSON as a results file", b'{"CNN": {"rows": []}}',
                "not the numbers of a comparison", "'CNN' has no name, title"),
]  # fmt: skip


def _report(at: Scene, workdirs: list, name: str = NAME) -> None:
  module("launch.report").write([str(each) for each in workdirs], name, at.empty, None)


def _task(environment: dict[str, str], index: int | None = None, count: int | None = None):
  return lambda at: sweep.task_of(environment, index, count)


_TASKS = [
  Case("sweep", "a task's index that is no number", _task({"SLURM_ARRAY_TASK_ID": "%a"}),
       ("SLURM_ARRAY_TASK_ID", "'%a'")),
  Case("sweep", "an index without a number of tasks", _task({}, 3), ("--num_tasks", "3 and None")),
  Case("sweep", "a task beyond the last", lambda at: sweep.share([], 4, 4),
       ("between 0 and 3", "got 4")),
  Case("sweep", "a column that is not there",
       lambda at: module("launch.sweep").listed([], "trian", at.empty),
       ("unknown column of the sweep 'trian'",)),
]  # fmt: skip
_OWN = [
  Case("evaluation", "an attack without most of its fields", _incomplete,
       ("attacks.fgsm has no norm",)),
  Case("evaluation", "an attack that is called as a cell of its own", _taken,
       ("attack 'clean'", "the label is taken")),
]  # fmt: skip
CASES: list[Case] = [
  *bad_input.settings("evaluation", evaluate, _FIELDS),
  *bad_input.settings("probe", evaluate, _PROBES),
  *bad_input.settings("detector", evaluate, _DETECTOR),
  *bad_input.settings("attack", evaluate, _of("fgsm", _ATTACK)),
  *bad_input.settings("attack", evaluate, _of("pgd", _PGD, eps=(0.1,))),
  *bad_input.settings("sweep", _sweep, _SWEEPS),
  *_OWN,
  *_REPORTS,
  *_TASKS,
]
