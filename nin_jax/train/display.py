"""What the user sees of a run: a progress bar on a terminal, plain lines anywhere else."""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

MIN_BAR = 8  # columns; where there is less left, fields make room


class Display:
  """Shows a run on standard error, from `with` to the end of it.

  On a terminal, one line stays in place, with the bar, the latest numbers and the time left, and evaluations are
  printed above it. Elsewhere (a pipe, a file, a notebook, a terminal under `CI`) each log event is a line. Colours
  follow NO_COLOR. However the block is left, the terminal is as it was.

  The time left comes from the steps of this process after its first one, which includes compilation; evaluations count
  as they come.

  Args:
    total_steps: the steps of the whole training.
    start_step: where this process starts: the step of the restored checkpoint.
    stream: where to write; None is standard error.
    clock: seconds, for tests.
  """

  def __init__(
    self,
    total_steps: int,
    start_step: int = 0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    stream = stream or sys.stderr
    self._console = Console(file=stream, highlight=False, soft_wrap=True, force_jupyter=False)
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    terminal = stream.isatty() and self._console.is_terminal and not self._console.is_dumb_terminal
    self._in_place = terminal and not in_ci
    self._total, self._step, self._clock = total_steps, start_step, clock
    self._started = self._moved = clock()
    self._doing = "compiling" if start_step < total_steps else None
    self._doing_since = self._started
    self._first: tuple[int, float] | None = None  # the first step done here, and when
    self._row: Mapping[str, Any] = {}
    self._live: Live | None = None

  def __enter__(self) -> "Display":
    if self._in_place:
      self._live = Live(
        get_renderable=self._line,
        console=self._console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file through stdout stays there
      )
      self._live.start()
    elif self._doing:
      self.note(f"step {self._step:,}/{self._total:,}  {self._doing}")
    return self

  def __exit__(self, *_: object) -> None:
    if self._live:
      self._live.stop()
      self._live = None

  def advance(self, step: int) -> None:
    """Says that `step` updates have been made. Cheap: to be called at every step."""
    self._step, self._moved, self._doing = step, self._clock(), None
    self._first = self._first or (step, self._moved)

  def doing(self, what: str) -> None:
    """Says what is done until the next step or evaluation is shown, where it takes a while (`evaluating`)."""
    self._doing_since, self._doing = self._clock(), what

  def show(self, row: Mapping[str, Any]) -> None:
    """Shows a row of the journal: a training row in the bar or as a line, an evaluation as a line.

    Args:
      row: as `nin_jax.train.journal.Journal.write` returns it.
    """
    if row["split"] != "train":
      self._doing = None
      numbers = [f"loss {_loss(row)}", *_accuracy(row, "accuracy").values()]
      self.note(f"step {row['step']:,}  {row['split']}: {'  '.join(numbers)}")
      return
    self._row = row
    if row["step"] > self._step:
      self.advance(row["step"])
    if not self._live:
      self.note("  ".join([f"step {row['step']:,}/{self._total:,}", *self._fields().values()]))

  def note(self, text: str) -> None:
    """Prints a line, above the bar where there is one."""
    self._console.print(Text(text))
    self._console.file.flush()

  def seconds_left(self) -> float | None:
    """The time that the remaining steps take at this process's own speed; None before it is known."""
    if self._first is None or self._step <= self._first[0]:
      return None
    per_step = (self._moved - self._first[1]) / (self._step - self._first[0])
    return max(0.0, per_step * (self._total - self._step) - (self._clock() - self._moved))

  def _fields(self, short: bool = False) -> dict[str, str]:
    """The latest numbers, each in words."""
    row, doing, left = self._row, self._doing, self.seconds_left()  # once: the bar is drawn by another thread
    fields = {}
    if row:
      fields["epoch"] = f"epoch {row['epoch']:.2f}"
      fields["loss"] = f"loss {_loss(row)}"
      fields |= _accuracy(row, "acc" if short else "accuracy")
      if row.get("learning_rate") is not None:
        fields["rate"] = f"lr {row['learning_rate']:.3g}"
      if row.get("images_per_second") is not None:
        fields["speed"] = f"{_count(row['images_per_second'])} {'img/s' if short else 'images/s'}"
    if doing:
      fields["time"] = f"{doing} {_duration(self._clock() - self._doing_since)}"
    elif self._step >= self._total:
      fields["time"] = f"done in {_duration(self._moved - self._started)}"
    elif left is not None:
      fields["time"] = f"eta {_duration(left)}"
    return fields

  def _line(self) -> Table:
    """The bar and the fields, in one line of the terminal whatever its width."""
    width = self._console.width - 1  # some terminals wrap after their last column
    total = f"{self._total:,}"
    position = f"{self._step:>{len(total)},}/{total}"  # padded, so that the bar keeps its length

    def joined(fields):
      return "  ".join([position, *fields.values()])

    fields = self._fields()
    if len(joined(fields)) > width - 1 - MIN_BAR:
      fields = self._fields(short=True)
    for name in ("rate", "epoch", "speed", "accuracy", "loss", "time"):
      if len(joined(fields)) > width - 1 - MIN_BAR:
        fields.pop(name, None)
    text = joined(fields)
    bar = ProgressBar(
      total=self._total,
      completed=self._step,
      width=max(1, width - len(text) - 1),
      pulse=self._doing == "compiling",
    )
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(bar, Text(text, no_wrap=True, overflow="crop"))
    return line


def _loss(row: Mapping[str, Any]) -> str:
  """Three digits: 2.30, 0.0812, 123; nan for what the journal has as null."""
  loss = row.get("loss")
  if loss is None or not math.isfinite(loss):
    return "nan"
  return f"{loss:,.0f}" if abs(loss) >= 99.95 else f"{loss:#.3g}"


def _accuracy(row: Mapping[str, Any], word: str) -> dict[str, str]:
  accuracy = row.get("accuracy")
  return {} if accuracy is None else {"accuracy": f"{word} {100 * accuracy:.1f} %"}


def _count(number: float) -> str:
  """Three or four digits: 8.41, 73.5, 1,234, 12.3k, 4.56M."""
  for limit, divisor, unit in ((9_999.5, 1, ""), (999_950, 1e3, "k"), (math.inf, 1e6, "M")):
    if number < limit:
      number /= divisor
      return f"{number:,.0f}{unit}" if number >= 99.95 else f"{number:#.3g}{unit}"
  return str(number)


def _duration(seconds: float) -> str:
  """0:42, 1:02:03, 3 d 4 h."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours >= 48:
    return f"{hours // 24} d {hours % 24} h"
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
