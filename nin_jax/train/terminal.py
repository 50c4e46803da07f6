"""What the displays share: the terminal under them, a line with a bar, and numbers in words."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nin_jax.printable import printable

MIN_BAR = 8  # columns; where there is less left, fields make room


def open_console(stream: TextIO | None) -> tuple[Console, bool]:
  """A console that writes to the stream (None: standard error), and whether lines can stay in place there.

  They can't in a pipe, a file, a notebook, a dumb terminal or a terminal under `CI`. Colours follow NO_COLOR. What
  can't be written is lost.
  """
  stream = _Forgiving(stream or sys.stderr or open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
  console = Console(file=stream, highlight=False, soft_wrap=True, force_jupyter=False)
  in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
  terminal = _is_terminal(stream) and console.is_terminal and not console.is_dumb_terminal
  return console, terminal and not in_ci


def start_live(console: Console, draw: Callable[[], RenderableType]) -> Live:
  """Draws in place, four times a second in a thread of its own, until `stop` gives the terminal back as it was."""
  live = Live(
    get_renderable=draw,
    console=console,
    refresh_per_second=4,
    redirect_stdout=_is_terminal(sys.stdout),  # what goes to a file through stdout stays there
  )
  live.start()
  return live


def _is_terminal(stream: Any) -> bool:
  """Whether a stream is a terminal: not if there is none (`>&-`), or it is closed."""
  try:
    return stream.isatty()
  except (AttributeError, ValueError):
    return False


class _Forgiving:
  """A text stream that drops what can't be written: nothing depends on a display."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str) -> int:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
      self._stream.write(text)
    return len(text)

  def flush(self) -> None:
    with contextlib.suppress(OSError, ValueError):
      self._stream.flush()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def print_line(console: Console, text: Text | str) -> None:
  """Prints a line, above what stays in place; of a Text, the parts that come from elsewhere are printable already."""
  console.print(Text(printable(text)) if isinstance(text, str) else text)
  console.file.flush()


def usable_width(console: Console) -> int:
  """Columns; some terminals wrap after their last one, which is left free."""
  return console.width - 1


def bar_line(console: Console, text: str, completed: float, total: float, pulse: bool = False) -> Table:
  """A bar that leaves room for the text after it, in one line."""
  width = max(1, usable_width(console) - len(text) - 1)
  line = Table.grid(padding=(0, 1, 0, 0))
  bar = ProgressBar(total=total, completed=completed, width=width, pulse=pulse)
  line.add_row(bar, Text(text, no_wrap=True, overflow="crop"))
  return line


def duration(seconds: float) -> str:
  """0:42, 1:02:03, 3 d 4 h."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours >= 48:
    return f"{hours // 24} d {hours % 24} h"
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def percent(fraction: float) -> str:
  """0.9784 → 97.8 %."""
  return f"{100 * fraction:.1f} %"
