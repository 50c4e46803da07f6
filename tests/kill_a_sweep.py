"""Kills a sweep's workers and its parent with SIGKILL at random moments, and checks that it ends as if undisturbed.

python tests/kill_a_sweep.py --kills=12               # about 4 minutes on two cores

Every trial is then to have exactly one result, equal to an undisturbed run's, bit for bit but for the times.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMES = {"images_per_second", "step_seconds", "flops_per_second", "mfu", "wall_seconds", "attempts"}
FLAGS = ("--sweep=widths", "--workers=2")
CONFIG = """
from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config


def get_config():
  config = default()
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 2, 4, 0, 0, 2)
  config.data.batch_size = 32
  config.train.steps = STEPS
  config.eval.every_steps = 50
  config.eval.train_images = 64
  config.checkpoint.every_steps = 10
  config.checkpoint.keep = 2
  config.log.every_steps = 10
  config.log.tensorboard = False
  return config


def sweep_widths():
  return {"model.inception_1a.reduce3x3": [1, 2], "seed": [0, 1]}
"""


def launch(config: Path, workdir: Path, flags: Sequence[str]) -> subprocess.Popen:
  """Starts the sweep, its output to WORKDIR.txt; a worker that dies without progress counts for nothing here."""
  flags = [f"--config={config}", f"--workdir={workdir}", "--retries=100", *flags]
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(config.parent / "cache")}
  environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # which compiles sooner
  environment.pop("XLA_FLAGS", None)
  with workdir.with_suffix(".txt").open("ab") as out:
    command = [sys.executable, "-m", "experiments.sweep", *flags]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)


def workers(parent: int) -> list[int]:
  """The pids of a sweep's worker processes."""
  found = []
  for thread in Path(f"/proc/{parent}/task").glob("*"):
    for pid in (thread / "children").read_text().split():
      if b"nin_jax.sweep.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
        found.append(int(pid))
  return found


def latest(workdir: Path) -> int:
  """The sum over trials of the steps of their newest checkpoints: it grows as training goes on."""
  newest: collections.Counter = collections.Counter()
  for path in workdir.glob("trials/*/checkpoints/*"):
    if path.name.isdigit():
      newest[path.parts[-3]] = max(newest[path.parts[-3]], int(path.name))
  return sum(newest.values())


def recorded(workdir: Path) -> int:
  """The size of what the parent writes about the trials: it grows with each, and with a search's points."""
  names = ("sweep.json", "search.journal", "results.jsonl", "report.html")
  return sum((workdir / name).stat().st_size for name in names if (workdir / name).exists())


def disturbed(
  config: Path, workdir: Path, flags: Sequence[str], kills: int, chance: random.Random, records: float = 0.0
) -> list[str]:
  """Runs the sweep to its end with kills on the way; returns what was killed, less where it ended before.

  Args:
    config, workdir, flags: of the sweep.
    kills: how many.
    chance: decides.
    records: the part of the kills that wait until the parent has written something.
  """
  killed, process = [], launch(config, workdir, flags)
  while len(killed) < kills:
    # Either while processes start, or once there is a checkpoint or a record that the last kill had not seen.
    moving, grows = chance.random() < 0.8, recorded if chance.random() < records else latest
    seen, end = grows(workdir), time.monotonic() + (120 if moving else chance.uniform(0, 6))
    while time.monotonic() < end and process.poll() is None and not (moving and grows(workdir) > seen):
      time.sleep(0.002 if grows is recorded else 0.02)
    if moving:
      time.sleep(chance.uniform(0, 0.01 if grows is recorded else 0.5))
    pids = workers(process.pid) if process.poll() is None else []
    if pids and chance.random() < 0.6 - 0.4 * (grows is recorded):
      os.kill(chance.choice(pids), signal.SIGKILL)
      killed.append("worker")
      continue
    process.kill()
    if process.wait() != -signal.SIGKILL:
      break
    process = launch(config, workdir, flags)
    killed.append("parent")
  if process.wait() != 0:
    raise AssertionError(workdir.with_suffix(".txt").read_text()[-3000:])
  return killed


def contents(workdir: Path) -> dict:
  """What is a function of the sweep alone: its results, and each trial's metrics."""
  read = lambda path: [json.loads(line) for line in path.read_text().splitlines()]
  timeless = lambda rows: [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
  metrics = {path.parent.name: timeless(read(path)) for path in sorted(workdir.glob("trials/*/metrics.jsonl"))}
  return {"results.jsonl": timeless(read(workdir / "results.jsonl")), **metrics}


def compare(
  config: Path, flags: Sequence[str], kills: int, chance: random.Random, records: float = 0.0
) -> tuple[list[str], dict]:
  """Compares a sweep with kills with one without, both beside the config; returns what was killed, and `contents`.

  Raises:
    AssertionError: they differ.
  """
  directory = config.parent
  if launch(config, directory / "undisturbed", flags).wait() != 0:
    raise AssertionError((directory / "undisturbed.txt").read_text()[-3000:])
  killed = disturbed(config, directory / "disturbed", flags, kills, chance, records)
  wanted, got = contents(directory / "undisturbed"), contents(directory / "disturbed")
  planned = [trial["trial"] for trial in json.loads((directory / "undisturbed" / "sweep.json").read_text())["trials"]]
  assert [row["trial"] for row in got["results.jsonl"]] == planned, "not each trial once, in the order of the plan"
  for name in wanted:
    assert got[name] == wanted[name], f"{name} is not that of an undisturbed sweep"
  return killed, wanted


def check(kills: int, seed: int, directory: Path) -> list[str]:
  """Compares a sweep with kills with one without; returns what was killed.

  Raises:
    AssertionError: they differ.
  """
  config = directory / "killed.py"
  config.write_text(CONFIG.replace("STEPS", str(60 + 20 * kills)))
  killed, wanted = compare(config, FLAGS, kills, random.Random(seed))
  assert len(killed) == kills, "it ended before its last kill; more steps are needed"
  assert {row["status"] for row in wanted["results.jsonl"]} == {"done"}
  return killed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--kills", type=int, default=12)
  parser.add_argument("--seed", type=int, default=0)
  asked = parser.parse_args()
  with tempfile.TemporaryDirectory() as directory:
    began = time.monotonic()
    killed = check(asked.kills, asked.seed, Path(directory))
    counts = ", ".join(f"{count} × {what}" for what, count in collections.Counter(killed).items())
    print(f"{len(killed)} kills ({counts}): the same; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
  main()
