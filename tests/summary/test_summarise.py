"""What a summary says of where its cells were made."""

import pytest
from toy_evaluation import run

from gencls.evaluation.attack_specs import AttackSpec
from gencls.summary.summarise import summarise

CPU = {"kind": "cpu", "platform": "cpu"}
PGD = AttackSpec("pgd", "pgd", "linf", (0.1, 0.2), "margin", 1, {"num_steps": 2})
DEEPFOOL = AttackSpec("deepfool", "deepfool", "l2", (0.5,), "margin", 1, {"num_steps": 2})


@pytest.mark.parametrize(
  ("devices", "told", "kinds"),
  [
    (({}, {}), ("cpu (cpu)", "cpu (cpu)"), ["cpu (cpu)"]),  # of before cores were recorded
    (({"cores": 1}, {"cores": 2}), ("cpu (cpu), 1 cores", "cpu (cpu), 2 cores"), ["cpu (cpu)"]),
    # A GPU's seconds do not hang on the cores of its host.
    (
      ({"cores": 2}, {"kind": "H100", "platform": "gpu", "cores": 2}),
      ("cpu (cpu), 2 cores", "H100 (gpu)"),
      ["cpu (cpu)", "H100 (gpu)"],
    ),
  ],
)
def test_each_row_says_where_its_seconds_were_spent(tmp_path, devices, told, kinds):
  cells = run(tmp_path, the_specs=[PGD, DEEPFOOL])
  for cell in cells:  # the minimum-norm attack last
    cell.header["record"]["devices"] = CPU | devices[cell.header["label"] == "deepfool"]
  found = summarise(cells)
  assert found["made_by"]["device"] == kinds
  rows = {row["label"]: row["device"] for row in [*found["rows"], *found["minimum"]]}
  assert (rows["pgd"], rows["deepfool"]) == told
