"""What the user sees of a sweep: a few lines that stay in place on a terminal, plain lines anywhere else."""

import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nin_jax.errors import line
from nin_jax.sweep import captions
from nin_jax.sweep.events import Ended, Evaluated, Event, Failed, Lost, Pruned, Started, Stepped
from nin_jax.sweep.naming import short_names
from nin_jax.sweep.progress import Progress
from nin_jax.sweep.trial import Trial
from nin_jax.train import terminal

PLAIN_SECONDS = 30.0  # at least so much lies between two lines of progress
MAX_WHERE = 20  # columns for where a group runs
LINGER_SECONDS = 3.0  # so long a finished group keeps its line, for the next one to take without a jump


@dataclasses.dataclass(eq=False)
class _Running:
  """A group of trials that were taken on together."""

  trials: tuple[Trial, ...]
  where: str
  since: float
  open: set[str]  # neither ended nor failed
  ended: dict[str, float] = dataclasses.field(default_factory=dict)  # test accuracies
  step: int = 0
  total: int = 0
  accuracy: float | None = None
  over: float | None = None  # when the last trial left


class Display:
  """Shows a sweep on standard error, from `with` to the end of it.

  On a terminal, a bar for the whole sweep and a line for each group that is trained stay in place, and what has come
  to its end is printed above them. Elsewhere (a pipe, a file, a notebook, a terminal under `CI`) each group's end is a
  line, and the progress another, from time to time. Colours follow NO_COLOR. However the block is left, the terminal
  is as it was.

  Args:
    trials: all of the plan.
    stream: where to write; None is standard error.
    clock: seconds, for tests.
  """

  def __init__(
    self, trials: Sequence[Trial], stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
  ):
    self._console, self._in_place = terminal.open_console(stream)
    self._trials = {trial.id: trial for trial in trials}
    self._names = captions.varied(trials)
    self._clock = clock
    self._progress = Progress(trials, clock)
    self._groups: list[_Running] = []
    self._lock = threading.Lock()  # never held while printing: that waits for the thread that draws
    self._live: Live | None = None
    self._entered = self._closed = False
    self._told = clock()  # when the last line of progress was printed

  def __enter__(self) -> "Display":
    if self._in_place:
      self._live = terminal.start_live(self._console, self._draw)
    else:
      self._tell()
    self._entered = True
    return self

  def __exit__(self, *_: object) -> None:
    with self._lock:
      self._closed = True
      self._groups.clear()
    if self._live:
      self._live.stop()
      self._live = None
    else:
      self._tell()

  def add(self, trials: Iterable[Trial], to_come: int) -> None:
    """Takes in trials that a search has asked for, all of whose fields vary, and how many it still will."""
    with self._lock:
      self._trials |= {trial.id: trial for trial in trials}
      self._names = short_names({name: None for trial in self._trials.values() for name in trial.setting})
      self._progress.add(trials, to_come)

  def done_before(self, trials: Iterable[str], failed: Iterable[str] = ()) -> None:
    """Counts what earlier starts of the sweep left: the ids of trials that have ended, and of those that failed."""
    with self._lock:
      self._progress.done_before(trials, failed)
      told = self._entered and not self._in_place and (self._progress.ended or self._progress.failed)
    if told:
      self._tell()

  def show(self, event: Event) -> None:
    """Takes in an event. Cheap: to be called at each, from one thread."""
    with self._lock:
      self._progress.take(event)
      lines = self._take(event)
    for text in lines:
      terminal.print_line(self._console, text if self._in_place else text.plain)
    if not self._in_place and self._clock() - self._told >= PLAIN_SECONDS:
      self._tell()

  def note(self, text: str) -> None:
    """Prints a line, above what stays in place."""
    terminal.print_line(self._console, text)

  def seconds_left(self) -> float | None:
    """See `Progress.seconds_left`."""
    with self._lock:
      return self._progress.seconds_left()

  def _take(self, event: Event) -> list[Text]:
    """Brings the groups up to date; returns what is to be printed."""
    lines: list[Text] = []
    now = self._clock()
    match event:
      case Started(trials=ids, where=where):
        if group := self._group(ids):  # the engine itself has found another place for them
          what = "trials go on" if len(group.open) > 1 else "trial goes on"
          lines.append(Text(f"{group.where} was lost; its {what} at {where}"))
          lines += self._leave(group, *ids)
        self._place(_Running(tuple(self._trials[id] for id in ids), line(where), now, set(ids)))
      case Stepped(trials=ids) if group := self._group(ids):
        group.step, group.total = event.step, event.total_steps
      case Evaluated(trials=ids) if group := self._group(ids):
        group.accuracy = statistics.fmean(event.accuracies)
      case Ended(trial=id) if group := self._group([id]):
        group.ended[id] = event.result["test_accuracy"]
        lines += self._leave(group, id)
      case Failed(trial=id):
        lines.append(Text.assemble(("failed", "red"), f"  {id}: {line(event.error, 1000)}"))
        if group := self._group([id]):
          lines += self._leave(group, id)
      case Pruned(trials=ids) if group := self._group(ids):
        accuracy = f"test accuracy {terminal.percent(statistics.fmean(event.accuracies))} after step {event.step:,}"
        setting = captions.setting([self._trials[id] for id in ids], self._names, "=")
        time = terminal.duration(self._clock() - group.since)
        lines.append(Text.assemble(("pruned", "yellow"), f"  {_joined(setting, accuracy, time)}"))
        lines += self._leave(group, *ids)
      case Lost(trials=ids) if group := self._group(ids):
        error = f" ({line(event.error, 1000)})" if event.error else ""
        what = "trials go on from their checkpoints" if len(ids) > 1 else "trial goes on from its checkpoint"
        lines.append(Text(f"{group.where} was lost{error}; its {what}"))
        lines += self._leave(group, *ids)
    return lines

  def _group(self, ids: Iterable[str]) -> _Running | None:
    """The group that trains one of them."""
    return next((group for group in self._groups if not group.open.isdisjoint(ids)), None)

  def _place(self, new: _Running) -> None:
    """Gives a group the line of one that is over, of the same worker if there is one."""
    free = [index for index, group in enumerate(self._groups) if group.over is not None]
    free.sort(key=lambda index: self._groups[index].where != new.where)
    if free:
      self._groups[free[0]] = new
    else:
      self._groups.append(new)

  def _leave(self, group: _Running, *ids: str) -> list[Text]:
    """Takes trials out of a group; if they were its last, returns a line for each setting that has come to its end."""
    group.open -= set(ids)
    if group.open:
      return []
    group.over = self._clock()
    ended: dict[str, list[Trial]] = {}
    for trial in group.trials:
      if trial.id in group.ended:
        ended.setdefault(repr(trial.setting), []).append(trial)
    lines = []
    for trials in ended.values():
      accuracies = [100 * group.ended[trial.id] for trial in trials]
      spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
      accuracy = f"test accuracy {statistics.fmean(accuracies):.2f}{spread} %"
      setting = captions.setting(trials, self._names, "=")
      fields = _joined(setting, captions.seeds(trials), accuracy, terminal.duration(group.over - group.since))
      lines.append(Text.assemble(("done", "green"), f"  {fields}"))
    return lines

  def _tell(self) -> None:
    """Prints a line of progress."""
    self._told = self._clock()
    with self._lock:
      fields = self._fields()
    self.note(_joined(*fields.values()))

  def _fields(self, pad: bool = False) -> dict[str, str]:
    """The numbers of the whole sweep, each in words."""
    progress, total = self._progress, f"{len(self._trials) + self._progress.to_come:,}"
    ended = f"{len(progress.ended):,}"
    fields = {"trials": f"{ended:>{len(total)}}/{total} trials" if pad else f"{ended}/{total} trials"}
    if progress.running and not self._closed:
      fields["running"] = f"{len(progress.running):,} running"
    if progress.failed:
      fields["failed"] = f"{len(progress.failed):,} failed"
    if progress.over or self._closed:
      word = "done in" if progress.over else "stopped after"
      fields["time"] = f"{word} {terminal.duration(self._clock() - progress.started)}"
    elif progress.running:
      left = progress.seconds_left()
      fields["time"] = f"eta {'–' if left is None else terminal.duration(left)}"
    return fields

  def _draw(self) -> RenderableType:
    """What stays in place: not higher than the terminal, nor wider."""
    with self._lock:
      now = self._clock()
      groups = [group for group in self._groups if group.over is None or now - group.over < LINGER_SECONDS]
      room = max(0, self._console.height - 3)  # the terminal but for this line and two that are left free
      shown = groups if len(groups) <= room else groups[: max(0, room - 1)]
      lines: list[RenderableType] = [self._summary()]
      if shown:
        lines.append(self._table(shown, now))
      if len(shown) < len(groups) and room:
        lines.append(Text(f"… and {len(groups) - len(shown)} more", style="dim"))
      return Group(*lines)

  def _summary(self) -> Table:
    room = terminal.usable_width(self._console) - 1 - terminal.MIN_BAR
    fields = self._fields(pad=True)
    for name in ("running", "failed", "time"):
      if len("  ".join(fields.values())) > room:
        fields.pop(name, None)
    return terminal.bar_line(self._console, "  ".join(fields.values()), self._progress.fraction, 1.0)

  def _table(self, groups: Sequence[_Running], now: float) -> Table:
    """A line for each group; where the terminal is narrow, columns make room."""
    width = terminal.usable_width(self._console)
    settings = []
    for group in groups:
      trials = [trial for trial in group.trials if trial.id in group.open or trial.id in group.ended] or group.trials
      settings.append(_joined(captions.setting(trials, self._names), captions.seeds(trials)))
    digits = len(f"{max(group.total for group in groups):,}") or 1
    columns = {  # with what they take at most, so that nothing moves while numbers grow
      "where": min(MAX_WHERE, max(cell_len(group.where) for group in groups)),
      "setting": max(map(cell_len, settings)),
      "bar": 20 if width >= 110 else terminal.MIN_BAR,
      "numbers": max(len("compiling 0:00"), len(f"{'/':>{2 * digits + 1}}  acc 100.0 %")),
    }

    def excess():
      return sum(columns.values()) + 2 * (len(columns) - 1) - width

    if excess() > 0:
      del columns["where"]
    if excess() > 0:
      del columns["bar"]
    if short := excess() > 0:
      columns["numbers"] = max(len("compiling"), 2 * digits + 1)
    columns["setting"] = max(1, columns["setting"] - max(0, excess()))

    table = Table.grid(padding=(0, 2, 0, 0))
    for column in columns.values():
      table.add_column(width=column, no_wrap=True, overflow="ellipsis")
    for group, setting in zip(groups, settings, strict=True):
      compiling = group.step == 0 and group.over is None
      if compiling:
        numbers = "compiling" if short else f"compiling {terminal.duration(now - group.since)}"
      else:
        accuracy = "" if group.accuracy is None or short else f"acc {terminal.percent(group.accuracy)}"
        numbers = _joined(f"{group.step:>{digits},}/{group.total:,}" if group.total else "", accuracy)
      cells = {
        "where": group.where,
        "setting": setting,
        "bar": ProgressBar(total=group.total or 1, completed=group.step, width=columns.get("bar"), pulse=compiling),
        "numbers": numbers,
      }
      table.add_row(*(cells[name] for name in columns), style=None if group.over is None else "dim")
    return table


def _joined(*fields: str) -> str:
  return "  ".join(filter(None, fields))
