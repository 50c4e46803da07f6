"""What each benchmark says first, and where its numbers go."""

import json
import shlex
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import machine


def begin(name: str, argv: list[str]) -> tuple[Console, dict]:
  """Prints the command and the machine; returns where to print on, and both for the JSON.

  Args:
    name: of the benchmark.
    argv: its flags.
  """
  console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
  about = {"command": f"python -m benchmarks.{name} {shlex.join(argv)}".strip(), **machine.describe()}
  console.print(f"$ {about['command']}\n{machine.heading(about)}", markup=False, soft_wrap=True)
  return console, about


def write(path: Path | None, about: dict, results: dict) -> None:
  """Writes the JSON, where a path was asked for; directories are made."""
  if path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, **results}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
