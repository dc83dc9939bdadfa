"""The finished run, made once."""

import finished
import pytest


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
  """(folder, the run read back)."""
  folder = tmp_path_factory.mktemp("finished") / "run"
  return folder, finished.make(folder)


@pytest.fixture
def scene(finished_run, tmp_path):
  """A copy of it, and an empty folder."""
  return finished.scene(*finished_run, tmp_path)
