"""The templates for array jobs: their syntax, and that they call what exists."""

import os
import re
import shlex
import stat
import subprocess

import pytest
import yaml
from processes import ROOT

FOLDER = ROOT / "launch" / "batch"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
FLAG = re.compile(r"(?<![\w-])--(\w+)=")

# In the place of python: tells how it was called, | between arguments. --list prints two commands.
COMMANDS = (["launch/train.py", "--a=(8, 16)"], ["launch/train.py", "--b=it's $HOME"])
FAKE = """#!/bin/bash
(IFS="|"; echo "$*" >> "$CALLS")
case "$*" in *--list=train*) cat "$COMMANDS" ;; esac
"""


def defined(script):
  """The flags that a command defines."""
  text = (ROOT / "launch" / script).read_text()
  return set(re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", text))


def calls(script, arguments, folder, **environment):
  """How a template calls Python, and the process that ended."""
  fake, log = folder / "fake", folder / "calls"
  fake.write_text(FAKE)
  fake.chmod(0o755)
  commands = folder / "commands"
  commands.write_text("".join(shlex.join([str(fake), *each]) + "\n" for each in COMMANDS))
  names = ("SLURM_ARRAY_TASK_COUNT", "NUM_TASKS", "TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES")
  clean = {name: value for name, value in os.environ.items() if name not in names}
  ended = subprocess.run(
    ["bash", str(FOLDER / script), *arguments],
    env=clean | {"PYTHON": str(fake), "CALLS": str(log), "COMMANDS": str(commands)} | environment,
    capture_output=True,
    text=True,
    check=False,
  )
  return log.read_text().splitlines() if log.exists() else [], ended


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_can_be_started(path):
  subprocess.run(["bash", "-n", str(path)], check=True)
  assert path.stat().st_mode & stat.S_IXUSR


def test_slurm_tasks_call_the_sweep_with_flags_that_exist(tmp_path):
  (found,), ended = calls(
    "slurm_array.sh", ["c.py", "a folder"], tmp_path, SLURM_ARRAY_TASK_COUNT="8"
  )
  assert ended.returncode == 0
  assert found == "launch/sweep.py|--config=c.py|--workdir=a folder|--num_tasks=8"
  assert set(FLAG.findall(found)) <= defined("sweep.py")
  _, ended = calls("slurm_array.sh", ["c.py"], tmp_path)
  assert ended.returncode != 0
  assert "the folder of the sweep" in ended.stderr


def test_hosts_of_a_tpu_pod_train_together_and_evaluate_apart(tmp_path):
  hosts = {"TPU_WORKER_HOSTNAMES": "h0,h1,h2", "TPU_WORKER_ID": "1"}
  found, ended = calls("tpu_pod.sh", ["c.py", "a folder"], tmp_path, **hosts)
  assert ended.returncode == 0, ended.stderr
  together = "--coordinator=h0:8476|--num_processes=3|--process_id=1"
  assert found == [
    "launch/sweep.py|--config=c.py|--workdir=a folder|--list=train",
    *(f"{'|'.join(command)}|{together}" for command in COMMANDS),
    "launch/sweep.py|--config=c.py|--workdir=a folder|--task_index=1|--num_tasks=3",
  ]
  assert set(FLAG.findall(together)) <= defined("train.py")
  assert set(FLAG.findall(found[0] + found[3])) <= defined("sweep.py")


def test_the_pods_of_kubernetes_are_as_many_as_the_tasks():
  job = yaml.safe_load((FOLDER / "kubernetes_job.yaml").read_text())
  spec = job["spec"]
  container = spec["template"]["spec"]["containers"][0]
  arguments = dict(text.lstrip("-").split("=") for text in container["command"][2:])
  assert container["command"][:2] == ["python", "launch/sweep.py"]
  assert arguments.keys() <= defined("sweep.py")
  assert (ROOT / arguments["config"]).is_file()
  assert spec["completions"] == spec["parallelism"] == int(arguments["num_tasks"])
  assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
  (rule,) = spec["podFailurePolicy"]["rules"]  # which needs restartPolicy: Never
  assert (rule["action"], rule["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
  assert spec["template"]["spec"]["restartPolicy"] == "Never"
  (volume,) = spec["template"]["spec"]["volumes"]
  (mount,) = container["volumeMounts"]
  assert mount["name"] == volume["name"]
  assert arguments["workdir"].startswith(mount["mountPath"])


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_templates_name_files_that_exist(path):
  for name in re.findall(r"(?:configs|launch)/[\w/]+\.\w+", path.read_text()):
    assert (ROOT / name).is_file(), name
