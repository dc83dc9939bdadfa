"""`gencls doctor`: what it finds, what it says of it, and what it keeps to itself."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gencls import __main__, doctor, selftest
from gencls.doctor import FAIL, NOTE, OK, Line


def test_the_self_test_passes_here():
  outcomes = selftest.run()
  assert [outcome.ok for outcome in outcomes] == [True] * 3, outcomes
  assert "bit-identical" in outcomes[2].detail


def test_a_step_that_raises_has_failed(monkeypatch):
  def broken(*args, **kwargs):
    raise OSError("no space left\nand more")

  monkeypatch.setattr(selftest.train, "train", broken)
  outcomes = selftest.run()
  assert [outcome.ok for outcome in outcomes] == [False]
  assert outcomes[0].detail.startswith("OSError: no space left (")


@pytest.mark.slow
def test_an_attack_that_finds_nothing_has_failed(monkeypatch):
  class Nothing:
    def __init__(self, x):
      self.x = x

  monkeypatch.setattr(selftest.attacks, "run", lambda attack, keys, x, y, **_: Nothing(x))
  assert [outcome.ok for outcome in selftest.run()] == [True, False, True]


def test_one_failure_makes_the_exit_code(monkeypatch):
  lines = [Line(OK, "a", "fine"), Line(NOTE, "b", "absent"), Line(FAIL, "c", "bad", "mend it")]
  written = []
  monkeypatch.setattr(doctor, "examine", lambda: iter(lines))
  assert doctor.run(written.append) == 1
  assert "mend it" in written[2] and written[-1] == "\n1 failed"
  monkeypatch.setattr(doctor, "examine", lambda: iter(lines[:2]))
  assert doctor.run(written.append) == 0


def test_a_cache_that_cannot_be_written_is_a_failure(monkeypatch, tmp_path):
  file = tmp_path / "file"
  file.write_text("")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(file / "xla"))
  line = doctor._cache()
  assert line.status == FAIL and "JAX_COMPILATION_CACHE_DIR" in line.fix
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
  assert doctor._cache().status == OK


def test_a_missing_package_is_a_failure(monkeypatch):
  monkeypatch.setattr("gencls.workdir.versions", lambda: {"python": "3", "jax": "not installed"})
  found = list(doctor._packages())
  assert found == [Line(FAIL, "jax", "not installed", doctor._REINSTALL)]


def test_data_sets_are_found(monkeypatch, tmp_path):
  found = {line.name: line for line in doctor._data_sets()}
  assert found["data: digits"].detail == "embedded"
  monkeypatch.setenv("GENCLS_DATA_DIR", str(tmp_path / "nowhere"))
  again = {line.name: line for line in doctor._data_sets()}
  assert again["data: mnist"].status in (NOTE, FAIL)


def test_paths_name_neither_home_nor_user(monkeypatch):
  home, user = str(Path.home()), getpass.getuser()
  assert doctor.private(f"{home}/data/mnist") == "~/data/mnist"
  monkeypatch.setattr(getpass, "getuser", lambda: "jane")
  assert doctor.private("/scratch/jane/data") == "/scratch/<user>/data"
  assert doctor.private(f"{home}x/data").endswith("x/data")
  assert user == user.strip()


def test_unknown_commands_are_refused(capsys):
  with pytest.raises(SystemExit) as error:
    __main__.main(["doktor"])
  assert error.value.code == 2
  assert "doctor" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_as_it_is_typed():
  command = [sys.executable, "-m", "gencls", "doctor"]
  done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
  assert done.returncode == 0, done.stdout + done.stderr
  assert "Everything works." in done.stdout
  home = str(Path.home())
  assert home == "/" or home not in done.stdout


def test_importing_gencls_imports_no_plotting():
  code = (
    "import gencls, sys; sys.exit(bool({'bokeh', 'jinja2', 'tornado', 'jax'} & set(sys.modules)))"
  )
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
  code = code.replace("import gencls", "import gencls, gencls.summary.columns, gencls.report.html")
  code = code.replace(", 'jax'", "")
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
