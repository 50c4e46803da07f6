"""Looks for faults at random, at length: kills runs and sweeps, and types commands that make sense or none.

python tests/campaign.py runs --count=45       # cases of about five kills each
python tests/campaign.py sweeps --count=12     # cases of about six kills each
python tests/campaign.py commands --count=500  # command lines

Each case is drawn from (--seed, its number) alone: `--first=17 --count=1` repeats case 17. Each prints a line; a case
that fails keeps its files in --keep, and the status is 1. docs/reliability.md has what was found.
"""

import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import command_cases
import drawn_commands
import drawn_runs
import drawn_sweeps
import kill_a_sweep
import kill_and_resume

MOMENTS = (*kill_and_resume.MOMENTS, "evaluation")


def run(seed: int, number: int, directory: Path) -> tuple[str, collections.Counter]:
  """Kills a drawn run a few times; returns words on it, and how many kills met what.

  Raises:
    AssertionError: it did not end as an unbroken one.
  """
  chance = random.Random(f"run {seed} {number}")
  drawn = drawn_runs.draw(chance, directory)
  moments = [*chance.choices(MOMENTS, k=chance.randint(2, 5)), *chance.choices(["start", "end", "end"], k=2)]
  met, _ = kill_and_resume.compare(drawn.file, [], drawn.devices, moments, chance)
  return drawn.words, collections.Counter(met)


def sweep(seed: int, number: int, directory: Path) -> tuple[str, collections.Counter]:
  """Kills a drawn sweep and its workers a few times; returns words on it, and how many kills met what.

  Raises:
    AssertionError: it did not end as an undisturbed one.
  """
  chance = random.Random(f"sweep {seed} {number}")
  drawn, flags, words = drawn_sweeps.draw(chance, directory)
  killed, _ = kill_a_sweep.compare(drawn.file, flags, chance.randint(4, 7), chance, records=0.4)
  return words, collections.Counter(killed)


def command(seed: int, number: int, directory: Path) -> tuple[str, collections.Counter]:
  """Runs a drawn command; returns it, and how it ended.

  Raises:
    AssertionError: neither a step or output, nor refused in a line.
  """
  chance = random.Random(f"command {seed} {number}")
  prepared = Path(os.environ["XDG_CACHE_HOME"]) / "prepared"
  if not prepared.exists():
    command_cases.warm_up()
    command_cases.prepare(prepared)
  shutil.copytree(prepared, directory / "w", symlinks=True)
  drawn = drawn_commands.draw(chance, directory / "w", drawn_commands.commands())
  ended = command_cases.check(drawn, directory / "w", chance)
  return str(drawn).replace(str(directory / "w"), "W")[:500], collections.Counter([ended])


PARTS: dict[str, tuple[Callable, int]] = {"runs": (run, 45), "sweeps": (sweep, 12), "commands": (command, 500)}


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("part", choices=PARTS)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--first", type=int, default=0, help="the number of the first case")
  parser.add_argument("--count", type=int, help="how many cases")
  parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "campaign")
  asked = parser.parse_args()
  case, count = PARTS[asked.part]
  began, met, failed = time.monotonic(), collections.Counter(), []
  with tempfile.TemporaryDirectory() as cache:
    os.environ["XDG_CACHE_HOME"] = cache
    for number in range(asked.first, asked.first + (asked.count or count)):
      with tempfile.TemporaryDirectory() as directory:
        at = time.monotonic()
        try:
          words, found = case(asked.seed, number, Path(directory))
          met += found
          said = f"{words}: {counted(found)}"
        except Exception as error:  # a file that should be there is not
          failed.append(number)
          kept = asked.keep / f"{asked.part}-{asked.seed}-{number}"
          shutil.rmtree(kept, ignore_errors=True)
          shutil.copytree(directory, kept, symlinks=True, ignore=_fifos)
          said = f"FAILED, see {kept}: {type(error).__name__}: {_ends(str(error))}"
        print(f"{asked.part} {number}: {said}; {time.monotonic() - at:.0f} s", flush=True)
  print(f"{asked.part}, seed {asked.seed}: {met.total()} ({counted(met)}), {len(failed)} cases failed", end="")
  print(f" ({', '.join(map(str, failed))})" * bool(failed) + f"; {time.monotonic() - began:.0f} s")
  return int(bool(failed))


def _ends(text: str) -> str:
  return text if len(text) < 2500 else f"{text[:800]}\n…\n{text[-1500:]}"


def _fifos(directory: str, names: list[str]) -> list[str]:
  return [name for name in names if (Path(directory) / name).is_fifo()]


def counted(met: collections.Counter) -> str:
  return ", ".join(f"{count} × {what}" for what, count in sorted(met.items()))


if __name__ == "__main__":
  sys.exit(main())
