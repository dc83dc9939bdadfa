"""Bad inputs as a user gives them: to the commands."""

import sys

import finished
import pytest
from processes import ROOT, command, finish, start


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


def said(arguments, cache):
  """The last line of a command that fails."""
  return finish(start([sys.executable, *arguments], cache), code=1).strip().splitlines()[-1]


@pytest.mark.slow
def test_training_refuses_and_leaves_the_folder_free(tmp_path, cache):
  arguments = command(tmp_path, "--config.train.learning_rate=nan")[1:]
  assert said(arguments, cache) == "ValueError: train.learning_rate must be finite, got nan"
  assert list(tmp_path.glob("*.json")) == []
  finish(start(command(tmp_path), cache))


@pytest.mark.slow
def test_evaluation_and_report_refuse_what_is_damaged(tmp_path, finished_run, cache):
  scene = finished.scene(*finished_run, tmp_path)
  before = finished.digests(scene)
  evaluate = ["launch/evaluate.py", f"--config={ROOT}/configs/attacks/clean.py:smoke"]
  arguments = [str(ROOT / evaluate[0]), evaluate[1], f"--workdir={scene.run}"]
  line = said([*arguments, "--config.batch_size=0"], cache)
  assert line == "ValueError: batch_size must be >= 1 or None, got 0"
  line = said([*arguments, "--config.name=../up"], cache)
  assert line.startswith("ValueError: name names a folder") and line.endswith("got '../up'")
  assert finished.digests(scene) == before
  (scene.run / "config.json").write_text("{")
  line = said(arguments, cache)
  assert line.startswith(f"ValueError: {scene.run}/config.json is damaged (it is not valid JSON")
  report = [str(ROOT / "launch" / "report.py"), f"--workdirs={scene.run}", "--name=tyo"]
  line = said([*report, f"--out={tmp_path / 'out'}"], cache)
  assert line.startswith("FileNotFoundError: ") and "did you mean 'toy'" in line
