"""Kills a training with SIGKILL again and again, and checks that it ends as if nothing had happened.

python tests/kill_and_resume.py --kills=10            # both pipelines, 1 and 4 devices: about 10 minutes on two cores

Moments are drawn at random: while it starts (imports, compilation, restoring), between two steps, while a checkpoint
is being written; for `campaign.py` also while the test images are evaluated, and while it ends. What has to be the
same, bit for bit, as without a kill: every number in `metrics.jsonl` that is not a time, each step once; the
parameters, optimizer state, batch statistics and average of each checkpoint that is left, and which ones are; the best;
and `result.json` but for times.
"""

import argparse
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

ROOT = Path(__file__).resolve().parent.parent
TIMES = {"images_per_second", "step_seconds", "flops_per_second", "mfu", "wall_seconds"}
MOMENTS = ("start", "step", "checkpoint")
CONFIG = '''
"""All that has a state: momentum, batch statistics, an average, dropout, a schedule, means between two log lines."""
from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config


def get_config():
  config = default()
  config.seed = 7
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 0, 4, 0, 0, 2)
  model.dropout = 0.2
  config.data.batch_size = 32
  config.data.flip = True
  config.data.brightness = 0.2
  config.optimizer.schedule = "cosine"
  config.train.averaging = "ema"
  config.eval.every_steps = 20
  config.eval.train_images = 64
  config.checkpoint.every_steps = 4
  config.checkpoint.keep = 2
  config.log.every_steps = 3
  return config
'''
PIPELINES = {
  "resident": ["--config.data.translate=1"],
  "stream": ["--config.data.random_resized_crop=(0.5,1.0)", "--config.data.image_size=8", "--config.data.workers=1"],
}


def steps(kills: int) -> int:
  """So many that the run has not ended before its last kill."""
  return 60 * (2 + kills // 2)


def launch(config: Path, workdir: Path, flags: Sequence[str], devices: int) -> subprocess.Popen:
  """Starts the training; its output goes to WORKDIR.txt."""
  command = [sys.executable, "-m", "experiments.train", f"--config={config}", f"--workdir={workdir}"]
  env = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # which compiles sooner
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
  }
  with workdir.with_suffix(".txt").open("a") as said:
    return subprocess.Popen([*command, *flags], cwd=ROOT, env=env, stdout=said, stderr=said, start_new_session=True)


def wait_for(moment: str, process: subprocess.Popen, workdir: Path, chance: random.Random) -> None:
  """Returns at a random moment of a kind, or when the process has ended."""
  if moment == "start":
    time.sleep(chance.uniform(0.2, 5))
    return
  checkpoints, metrics = workdir / "checkpoints", workdir / "metrics.jsonl"
  config = workdir / "config.json"
  size = metrics.stat().st_size if metrics.exists() else 0
  more = chance.randint(1, 4)  # log lines
  while process.poll() is None:
    now = metrics.stat().st_size if metrics.exists() else 0
    if now - size > more * 200 or (moment == "end" and now):
      row = last_row(metrics)
      if moment == "checkpoint" and any(checkpoints.glob("*.orbax-checkpoint-tmp*")):
        time.sleep(chance.uniform(0, 0.03))
        return
      if moment == "step":
        time.sleep(chance.uniform(0, 0.2))
        return
      if moment in ("evaluation", "end") and row:
        settings = json.loads(config.read_text())
        every = settings["train"]["steps"] if moment == "end" else settings["eval"]["every_steps"]
        if row["step"] % every == 0 and row["split"] == "train":  # its line stands there before the evaluation begins
          time.sleep(chance.uniform(0, 0.5 if moment == "end" else 0.03))
          return
    time.sleep(0.0005)


def last_row(metrics: Path) -> dict | None:
  """The last line of `metrics.jsonl`; None while it is being written."""
  try:
    return json.loads(metrics.read_bytes()[-1000:].splitlines()[-1])
  except (OSError, ValueError, IndexError):
    return None


def killed(
  config: Path, workdir: Path, flags: Sequence[str], devices: int, moments: Sequence[str], chance: random.Random
) -> list[str]:
  """Trains to the end through a kill at each of the moments; returns what they met, less where it ended before."""
  met = []
  for moment in moments:
    process = launch(config, workdir, flags, devices)
    wait_for(moment, process, workdir, chance)
    process.send_signal(signal.SIGKILL)
    if process.wait() == 0:
      break
    if process.returncode != -signal.SIGKILL:
      raise AssertionError(f"it ended by itself: {workdir.with_suffix('.txt').read_text()}")
    unfinished = list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
    met.append(f"{moment} with a checkpoint being written" if unfinished else moment)
  process = launch(config, workdir, flags, devices)
  if process.wait() != 0:
    raise AssertionError(workdir.with_suffix(".txt").read_text())
  return met


def contents(workdir: Path) -> dict:
  """What is a function of the config alone."""
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  walls = [row["wall_seconds"] for row in rows]
  assert walls == sorted(walls), "the wall time went back"
  records = {}
  for path in sorted((workdir / "checkpoints").iterdir()):
    record = json.loads(json.loads((path / "record" / "metadata").read_text())["contents"])
    del record["progress"]["meter"]
    records[path.name] = record  # checksums of each array; "progress": test, best
  result = json.loads((workdir / "result.json").read_text())
  return {
    "files": sorted(path.name for path in workdir.iterdir()),
    "config.json": json.loads((workdir / "config.json").read_text()),
    "metrics.jsonl": [{name: row[name] for name in row.keys() - TIMES} for row in rows],
    "checkpoints": records,
    "result.json": {name: result[name] for name in result.keys() - TIMES},
  }


def compare(
  config: Path, flags: Sequence[str], devices: int, moments: Sequence[str], chance: random.Random
) -> tuple[list[str], dict]:
  """Compares a run with kills with one without, both beside the config; returns what the kills met, and `contents`.

  Raises:
    AssertionError: they differ.
  """
  unbroken, broken = config.parent / "unbroken", config.parent / "broken"
  met = killed(config, broken, flags, devices, moments, chance)
  if launch(config, unbroken, flags, devices).wait() != 0:
    raise AssertionError(unbroken.with_suffix(".txt").read_text())
  wanted, got = contents(unbroken), contents(broken)
  for name in wanted:
    assert got[name] == wanted[name], f"{name} is not that of an unbroken run"
  return met, wanted


def check(pipeline: str, devices: int, kills: int, seed: int, directory: Path) -> list[str]:
  """Compares a run with kills with one without; returns what the kills met.

  Raises:
    AssertionError: they differ.
  """
  config = directory / "killed.py"
  config.write_text(CONFIG.replace("  return config", f"  config.train.steps = {steps(kills)}\n  return config"))
  moments = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
  met, wanted = compare(config, PIPELINES[pipeline], devices, moments, random.Random(seed))
  assert len(met) == kills, "it ended before its last kill; more steps are needed"
  assert len(wanted["metrics.jsonl"]) == steps(kills) // 3 + steps(kills) // 20
  return met


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--pipelines", nargs="+", choices=PIPELINES, default=list(PIPELINES))
  parser.add_argument("--devices", nargs="+", type=int, default=[1, 4])
  asked = parser.parse_args()
  for pipeline in asked.pipelines:
    for devices in asked.devices:
      with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        met = check(pipeline, devices, asked.kills, asked.seed, Path(directory))
        seconds = time.monotonic() - began
        print(
          f"{pipeline}, {devices} device(s): {len(met)} kills ({', '.join(met)}): the same; {seconds:.0f} s", flush=True
        )


if __name__ == "__main__":
  main()
