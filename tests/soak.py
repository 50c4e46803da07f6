"""Trains in fresh processes under glibc's memory checks, for each instruction set that this processor can pretend.

python tests/soak.py [--processes 192] [--first 0] [--seconds 300]

Memory that is overwritten shows in some processes and not in others, so there are many of them. Each one is
`experiments.train` with a NIN on the embedded digits, then its evaluation, under heap checks (`MALLOC_CHECK_=3`; freed
memory is filled by `MALLOC_PERTURB_`), with an instruction set, a size of XLA's thread pool, a number of devices (whose
programs run at once), a type and a lowering. It has to end by itself with exit status 0, and its losses have to be
those of XLA's own lowering without checks, to float tolerance.
"""

import argparse
import ctypes
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nin_jax import crashes  # noqa: E402

CHECKER = "libc_malloc_debug.so.0"  # glibc's heap checks, a library of their own since 2.34
CHECKS = {"LD_PRELOAD": CHECKER, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
# By XLA's name: oneDNN's, for what XLA may hand to it, and the flag in /proc/cpuinfo. "": all that the processor has.
INSTRUCTION_SETS = {
  "": ("", ""),
  "AVX512": ("AVX512_CORE", "avx512f"),
  "AVX2": ("AVX2", "avx2"),
  "SSE4_2": ("SSE41", "sse4_2"),
}
TOLERANCE = {"float32": 5e-3, "bfloat16": 0.1}  # of a loss, nats: its rounding grows over the steps
RUN = [
  "--config=configs/nin_fashion_mnist.py",
  "--config.data.name=digits",
  "--config.data.image_size=16",
  "--config.data.batch_size=64",
  "--config.model.block1.dropout=0.0",
  "--config.model.block2.dropout=0.0",
  "--config.train.steps=4",
  "--config.optimizer.warmup=0.0",
  "--config.optimizer.learning_rate=0.02",
  "--config.log.every_steps=1",
  "--config.log.tensorboard=False",
  "--config.eval.train_images=64",
]


def checks_are_there() -> bool:
  """Whether the dynamic linker finds glibc's heap checks."""
  try:
    ctypes.CDLL(CHECKER)
  except OSError:
    return False
  return True


class Case(NamedTuple):
  """The settings of one process."""

  instructions: str = ""
  threads: int = 2
  devices: int = 1
  precision: str = "float32"
  lowering: str = "xla"


def cases() -> list[Case]:
  """All combinations on this processor, in an order in which neighbours differ."""
  known = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
  flags = set(known[1].split()) if known else set()
  sets = [name for name, (_, flag) in INSTRUCTION_SETS.items() if not flag or flag in flags]
  lowerings = ("auto", "xla", "patches", "winograd")
  combined = list(itertools.product(sets, (1, 2, 8), (1, 2), ("float32", "bfloat16"), lowerings))
  stride = next(n for n in range(len(combined) * 5 // 13, len(combined)) if math.gcd(n, len(combined)) == 1)
  return [Case(*combined[i * stride % len(combined)]) for i in range(len(combined))]


def losses(case: Case, checked: bool, seconds: float) -> list[float]:
  """The losses in `metrics.jsonl` of one training.

  Raises:
    AssertionError: the process ended by a signal or with an error, or not within `seconds`.
  """
  with tempfile.TemporaryDirectory() as directory:
    # XLA sizes its thread pool by NPROC.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "NPROC": str(case.threads), "PYTHONPATH": str(ROOT)}
    flags = [f"--xla_force_host_platform_device_count={case.devices}"]
    if case.instructions:
      flags.append(f"--xla_cpu_max_isa={case.instructions}")
      environment["ONEDNN_MAX_CPU_ISA"] = INSTRUCTION_SETS[case.instructions][0]
    environment |= {"XLA_FLAGS": " ".join(flags), "XDG_CACHE_HOME": f"{directory}/cache"}
    if checked:
      environment |= CHECKS
    options = [f"--config.precision={case.precision}", f"--config.lowering={case.lowering}"]
    command = [sys.executable, "-m", "experiments.train", *RUN, *options, f"--workdir={directory}/run"]
    ended = run(command, environment, seconds)
    assert ended == "status 0", f"{case}: {ended}"
    lines = Path(directory, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def run(command: list[str], environment: dict[str, str], seconds: float) -> str:
  """How a command ended (see `crashes.describe_exit`), and the end of what it wrote on stderr if that is no success."""
  with subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  ) as process:
    try:
      _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
      process.kill()
      return f"not after {seconds:.0f} s"
  return crashes.describe_exit(process.returncode) + (f"\n{error[-2000:]}" if process.returncode else "")


def soak(chosen: list[Case], seconds: float, at_once: int = 2) -> Iterator[tuple[Case, str]]:
  """Runs the cases, some processes at once; yields each with "" or with what is wrong."""
  precisions = {case.precision for case in chosen}
  plain = {name: losses(Case(precision=name), checked=False, seconds=seconds) for name in precisions}

  def fault(case: Case) -> str:
    try:
      found = losses(case, checked=True, seconds=seconds)
    except AssertionError as error:
      return str(error)
    worst = max(abs(a - b) for a, b in zip(found, plain[case.precision], strict=True))
    return "" if worst <= TOLERANCE[case.precision] else f"{case}: losses differ by {worst:.3g}: {found}"

  with ThreadPoolExecutor(at_once) as threads:
    yield from zip(chosen, threads.map(fault, chosen), strict=True)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--processes", type=int, default=len(cases()), help="how many, from --first on")
  parser.add_argument("--first", type=int, default=0)
  parser.add_argument("--seconds", type=float, default=300, help="the longest that a process may take")
  asked = parser.parse_args()
  if not checks_are_there():
    parser.error(f"{CHECKER}: expected glibc's heap checks on this machine")
  chosen = list(itertools.islice(itertools.cycle(cases()), asked.first, asked.first + asked.processes))
  wrong, began = 0, time.monotonic()
  for case, fault in soak(chosen, asked.seconds):
    wrong += bool(fault)
    print(f"{time.monotonic() - began:6.0f} s  {fault or f'{case}: as it should be'}", flush=True)
  print(f"{len(chosen)} processes, {wrong} wrong")
  return bool(wrong)


if __name__ == "__main__":
  sys.exit(main())
