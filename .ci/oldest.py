"""Runs with the oldest versions that the requirements accept (constraints-oldest.txt), those of Colab and TPU VMs.

pip replaces none of them, and a training, a cost table, a sweep and its report work. The environment is .venv-oldest.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".venv-oldest"
OUT = ROOT / "workdirs" / "oldest"
TPU_VM = ("rich==15.0.0", "pillow==12.3.0")  # the versions that differ there
MISSING_ON_COLAB = "# Colab has none of these."  # ends the part of constraints-oldest.txt that Colab has


def python(*arguments) -> str:
  """The stdout of a command of the environment's Python."""
  command = [VENV / "bin" / "python", *arguments]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def pip(*arguments) -> str:
  return python("-m", "pip", "--disable-pip-version-check", *arguments)


def canonical(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def replaced(installed: list[dict], report: dict) -> dict[str, str]:
  """Packages that are installed and that pip would install in another version.

  Args:
    installed: pip list --format=json.
    report: pip install --dry-run --report.
  """
  before = {canonical(package["name"]): package["version"] for package in installed}
  after = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in report["install"]}
  return {name: f"{before[name]} → {after[name]}" for name in sorted(before.keys() & after.keys())}


def check_nothing_is_replaced(requirements: str, *given: str):
  """Fails if pip install -r FILE would replace a package; those in `given` (name==version) are as they are there."""
  report = json.loads(pip("install", "--quiet", "--dry-run", "--report=-", "-r", requirements, *given))
  found = replaced(json.loads(pip("list", "--format=json")), report)
  for requirement in given:
    found.pop(requirement.partition("==")[0])
  assert not found, f"pip install -r {requirements} replaces {found}"
  print(" ".join(("pip install -r", requirements, *given, "replaces nothing")), flush=True)


def install():
  """Makes the environment that Colab and TPU VMs have, checks what pip would do there, and installs what is missing."""
  venv.create(VENV, clear=True, with_pip=True)
  print(f"The oldest versions, with Python {platform.python_version()} (Colab: 3.13): {sys.executable}", flush=True)
  colab = VENV / "colab.txt"
  colab.write_text((ROOT / "constraints-oldest.txt").read_text().partition(MISSING_ON_COLAB)[0])
  pip("install", "-r", colab)
  for requirements in ("requirements.txt", "requirements-ray.txt", "requirements-search.txt"):
    check_nothing_is_replaced(requirements)
    check_nothing_is_replaced(requirements, *TPU_VM)
  pip("install", "-r", "requirements.txt", "-c", "constraints-oldest.txt")
  pip("check")


def run():
  """A training, a cost table, a sweep of two trials and its report."""
  shutil.rmtree(OUT, ignore_errors=True)
  config = "--config=.ci/two_widths.py"
  python("-m", "experiments.train", config, f"--workdir={OUT / 'train'}")
  result = json.loads((OUT / "train" / "result.json").read_text())
  assert result["steps"] == 20, result
  cost = json.loads(python("-m", "experiments.cost", config, "--train", "--format=json"))
  assert cost["total"]["macs"] == 3_515_968, cost["total"]
  print(python("-m", "experiments.cost", config, "--train"))
  python("-m", "experiments.sweep", config, "--sweep=widths", f"--workdir={OUT / 'sweep'}")
  trials = [json.loads(line) for line in (OUT / "sweep" / "results.jsonl").read_text().splitlines()]
  assert [trial["steps"] for trial in trials] == [20, 20], trials
  print(python("-m", "experiments.report", f"--workdir={OUT / 'sweep'}"))
  for name in ("report.html", "pareto.png", "pareto.svg"):
    assert (OUT / "sweep" / name).stat().st_size > 10_000, name


if __name__ == "__main__":
  install()
  start = time.monotonic()
  run()
  print(f"A training, a cost table, a sweep and its report: {time.monotonic() - start:.0f} s after pip")
