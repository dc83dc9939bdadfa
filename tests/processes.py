"""Training in processes of its own: what tests of kills, devices and several processes share."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(workdir, *overrides, config="cnn_digits.py:smoke"):
  return [
    sys.executable,
    str(ROOT / "launch" / "train.py"),
    f"--config={ROOT}/configs/{config}",
    f"--workdir={workdir}",
    *overrides,
  ]


def environment(cache, devices=1):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "XLA_FLAGS": flags,
  }


def start(arguments, cache, devices=1):
  """A process whose output can be read when it has ended."""
  return subprocess.Popen(
    arguments,
    env=environment(cache, devices),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process, code=0, timeout=300):
  """Waits, checks the exit code, and returns the output."""
  try:
    output, _ = process.communicate(timeout=timeout)
  finally:
    process.kill()
  assert process.returncode == code, output
  return output


def losses(workdir):
  """{step: training loss}."""
  lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
  return {row["step"]: row["train/loss_nats"] for row in map(json.loads, lines)}


def free_port():
  with socket.socket() as server:
    server.bind(("localhost", 0))
    return server.getsockname()[1]
