"""What the user sees of a run: a progress bar on a terminal, plain lines anywhere else."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.live import Live
from rich.table import Table

from nin_jax.train import terminal


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
    self._console, self._in_place = terminal.open_console(stream)
    self._total, self._step, self._clock = total_steps, start_step, clock
    self._started = self._moved = clock()
    self._doing = "compiling" if start_step < total_steps else None
    self._doing_since = self._started
    self._first: tuple[int, float] | None = None  # the first step done here, and when
    self._row: Mapping[str, Any] = {}
    self._live: Live | None = None

  def __enter__(self) -> "Display":
    if self._in_place:
      self._live = terminal.start_live(self._console, self._line)
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
    terminal.print_line(self._console, text)

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
      fields["time"] = f"{doing} {terminal.duration(self._clock() - self._doing_since)}"
    elif self._step >= self._total:
      fields["time"] = f"done in {terminal.duration(self._moved - self._started)}"
    elif left is not None:
      fields["time"] = f"eta {terminal.duration(left)}"
    return fields

  def _line(self) -> Table:
    """The bar and the fields, in one line of the terminal whatever its width."""
    room = terminal.usable_width(self._console) - 1 - terminal.MIN_BAR
    total = f"{self._total:,}"
    position = f"{self._step:>{len(total)},}/{total}"  # padded, so that the bar keeps its length

    def joined(fields):
      return "  ".join([position, *fields.values()])

    fields = self._fields()
    if len(joined(fields)) > room:
      fields = self._fields(short=True)
    for name in ("rate", "epoch", "speed", "accuracy", "loss", "time"):
      if len(joined(fields)) > room:
        fields.pop(name, None)
    return terminal.bar_line(self._console, joined(fields), self._step, self._total, pulse=self._doing == "compiling")


def _loss(row: Mapping[str, Any]) -> str:
  """Three digits: 2.30, 0.0812, 123; nan for what the journal has as null."""
  loss = row.get("loss")
  if loss is None or not math.isfinite(loss):
    return "nan"
  return f"{loss:,.0f}" if abs(loss) >= 99.95 else f"{loss:#.3g}"


def _accuracy(row: Mapping[str, Any], word: str) -> dict[str, str]:
  accuracy = row.get("accuracy")
  return {} if accuracy is None else {"accuracy": f"{word} {terminal.percent(accuracy)}"}


def _count(number: float) -> str:
  """Three or four digits: 8.41, 73.5, 1,234, 12.3k, 4.56M."""
  for limit, divisor, unit in ((9_999.5, 1, ""), (999_950, 1e3, "k"), (math.inf, 1e6, "M")):
    if number < limit:
      number /= divisor
      return f"{number:,.0f}{unit}" if number >= 99.95 else f"{number:#.3g}{unit}"
  return str(number)
