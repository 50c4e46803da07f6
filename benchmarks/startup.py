"""How soon a process is there: what importing takes, and the first step of a training, cold and warm.

python -m benchmarks.startup [--json FILE]      # about 3 minutes on two cores

Each measurement is a process of its own, in turns; medians. `import nin_jax` alone imports nothing, so what a program
then uses is measured beside it. A first step ends with its line in metrics.jsonl (`log.every_steps=1`). "first" is with
empty caches, once, and decodes the data set; "cold" is with the data set decoded and nothing compiled, "warm" with what
the cold start before it has kept.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import output
from nin_jax import streams

ROOT = Path(__file__).parent.parent
REFERENCE = "import jax, flax, optax"
IMPORTS = (REFERENCE, "import nin_jax", "from nin_jax import train", "from nin_jax import train, models, cost")
DEAD_SECONDS = 600.0


def imported(code: str) -> float:
  """Seconds that a process takes that does this and nothing else."""
  began = time.monotonic()
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
  return time.monotonic() - began


def first_step(flags: list[str], directory: Path, cache: Path) -> float:
  """Seconds from the start of a training to the line of its first step."""
  shutil.rmtree(directory, ignore_errors=True)
  words = ["experiments.train", *flags, f"--workdir={directory}", "--config.log.every_steps=1"]
  environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
  began, metrics = time.monotonic(), directory / "metrics.jsonl"
  process = subprocess.Popen(
    [sys.executable, "-m", *words],
    cwd=ROOT,
    env=environment | {"XDG_CACHE_HOME": str(cache)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )
  try:
    while not (metrics.exists() and metrics.stat().st_size):
      if process.poll() is not None or time.monotonic() > began + DEAD_SECONDS:
        raise RuntimeError(f"no first step: {process.stderr.read().decode()}")
      time.sleep(0.005)
    return time.monotonic() - began
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def main() -> None:
  streams.set_up()
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--config", action="append", help="by default inception_digits.py, and nin_cifar10.py with --dir")
  parser.add_argument("--dir", default="", help="where CIFAR-10 was prepared by TFDS")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--json", type=Path, help="write the numbers to this file")
  asked = parser.parse_args()
  configs = asked.config or ["configs/inception_digits.py", *(["configs/nin_cifar10.py"] if asked.dir else [])]
  _, about = output.begin("startup", sys.argv[1:])
  imports: dict[str, list[float]] = {code: [] for code in IMPORTS}
  for code in IMPORTS:
    imported(code)  # from the disk's cache from here on
  for _ in range(2 * asked.rounds - 1):
    for code, seconds in imports.items():
      seconds.append(imported(code))
  of_imports = {code: statistics.median(seconds) for code, seconds in imports.items()}
  for code, seconds in of_imports.items():
    print(f"{seconds:6.2f} s  {seconds / of_imports[REFERENCE]:5.2f} ×  {code}", flush=True)
  of_steps = {}
  with tempfile.TemporaryDirectory() as name:
    directory = Path(name)
    for config in configs:
      flags = [f"--config={config}", f"--config.data.cache_dir={directory / 'data'}"]
      flags += [f"--config.data.dir={Path(asked.dir).absolute()}"] if asked.dir else []
      first = first_step(flags, directory / "run", directory / "decoding")
      cold, warm = [], []
      for number in range(asked.rounds):
        cold.append(first_step(flags, directory / "run", directory / str(number)))
        warm.append(first_step(flags, directory / "run", directory / str(number)))
        shutil.rmtree(directory / str(number))
      medians = {"first": first, "cold": statistics.median(cold), "warm": statistics.median(warm)}
      of_steps[config] = medians | {"ratio": medians["cold"] / medians["warm"]}
      said = "{first:6.2f} s first  {cold:6.2f} s cold  {warm:6.2f} s warm  {ratio:5.2f} times sooner than cold"
      print(said.format(**of_steps[config]), config)
  output.write(asked.json, about, {"import_seconds": of_imports, "first_step_seconds": of_steps})


if __name__ == "__main__":
  main()
