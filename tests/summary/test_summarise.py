"""What a summary says of where its cells were made."""

import pytest
from toy_evaluation import run

from gencls.summary.summarise import summarise


@pytest.mark.parametrize(
  ("devices", "told"),
  [
    ([{}, {}], ["cpu (cpu)"]),  # of before cores were recorded
    ([{"cores": 2}, {"cores": 2}], ["cpu (cpu, 2 cores)"]),
    ([{"cores": 1}, {"cores": 2}], ["cpu (cpu, 1 cores)", "cpu (cpu, 2 cores)"]),
    # A GPU's seconds do not hang on the cores of its host.
    ([{"kind": "H100", "platform": "gpu", "cores": 2}, {}], ["H100 (gpu)", "cpu (cpu)"]),
  ],
)
def test_cells_of_other_cores_were_made_elsewhere(tmp_path, devices, told):
  cells = run(tmp_path, the_specs=[])
  first, *rest = cells
  first.header["record"]["devices"] = {"kind": "cpu", "platform": "cpu"} | devices[0]
  for cell in rest:
    cell.header["record"]["devices"] = {"kind": "cpu", "platform": "cpu"} | devices[1]
  assert rest and summarise(cells)["made_by"]["device"] == told
