"""A sweep against the naive way: one process a trial, one after the other.

python -m benchmarks.sweep                      # the demo's sweep, about 7 minutes on two cores

Both train the same trials with the same steps, and write the same files. Half of the naive trials come before the sweep
and half after it, so that a machine that gets slower or faster meanwhile does so for both. Each side begins with an
empty cache, which its own trials share, and the sweep's time has its planning and its report in it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nin_jax import streams

ROOT = Path(__file__).parent.parent


def timed(words: list[str], cache: Path) -> float:
  """Runs a command with a cache of its own for what is compiled; seconds."""
  environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
  began = time.monotonic()
  subprocess.run(
    [sys.executable, "-m", *words],
    cwd=ROOT,
    env={**environment, "XDG_CACHE_HOME": str(cache)},
    check=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  return time.monotonic() - began


def main() -> None:
  streams.set_up()
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--config", default="configs/inception_digits.py")
  parser.add_argument("--sweep", default="bottleneck")
  parser.add_argument("overrides", nargs="*", help="as --config.train.epochs=8.0 after --")
  asked = parser.parse_args()
  flags = [f"--config={asked.config}", *asked.overrides]
  plan = json.loads(
    subprocess.check_output(
      [sys.executable, "-m", "experiments.sweep", *flags, f"--sweep={asked.sweep}", "--plan", "--format=json"], cwd=ROOT
    )
  )
  trials = plan["trials"]
  with tempfile.TemporaryDirectory() as name:
    directory, naive = Path(name), []

    def alone(trial: dict) -> None:
      own = [f"--config.{field}={value}" for field, value in trial["overrides"].items()]
      words = ["experiments.train", *flags, *own, f"--workdir={directory / 'naive' / trial['trial']}"]
      naive.append(timed(words, directory / "naive-cache"))
      print(f"  {trial['trial']}: {naive[-1]:.1f} s", flush=True)

    print("$ python -m benchmarks.sweep", shlex.join(sys.argv[1:]))
    print(f"{len(trials)} trials of {asked.config}, sweep {asked.sweep}, on {os.cpu_count()} cores")
    for trial in trials[: len(trials) // 2]:
      alone(trial)
    words = ["experiments.sweep", *flags, f"--sweep={asked.sweep}", f"--workdir={directory / 'sweep'}"]
    together = timed(words, directory / "sweep-cache")
    print(f"  the sweep: {together:.1f} s", flush=True)
    for trial in trials[len(trials) // 2 :]:
      alone(trial)
    results = (directory / "sweep" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(results) == len(trials), "the sweep has not trained all trials"
    print(f"naive {sum(naive):.0f} s, sweep {together:.0f} s: {sum(naive) / together:.2f} times sooner")


if __name__ == "__main__":
  main()
