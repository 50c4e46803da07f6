"""The settings of a sweep as a table: plain text for a terminal, Markdown for a README, and the knee in a sentence."""

import dataclasses
import re
from collections.abc import Sequence

from nin_jax.cost.table import quantity
from nin_jax.report import statistics
from nin_jax.report.results import Results
from nin_jax.report.statistics import Estimate, Knee, Setting

WIDTH, LEAST = 100, 12  # of the table; the least for a setting's name
HEADS = ("setting", "test accuracy, %", "params", "MACs", "train FLOPs", "images/s", "seeds", "Pareto")
ON_FRONT, AT_KNEE = "●", "● knee"


@dataclasses.dataclass(frozen=True)
class Summary:
  """A sweep's results, and what follows from them.

  Attributes:
    results: as they were read.
    settings: from the fewest MACs on.
    front: those that no other is both cheaper (in MACs) and better than.
    knee: see `statistics.knee`.
  """

  results: Results
  settings: tuple[Setting, ...]
  front: tuple[Setting, ...]
  knee: Knee | None


def summarize(results: Results) -> Summary:
  """What follows from a sweep's results."""
  found = statistics.settings(results)
  return Summary(results, tuple(found), tuple(statistics.front_of(found)), statistics.knee(found))


def table(summary: Summary) -> str:
  """A line a setting, what the marks mean, how many trials there are, and the knee; at most 100 columns wide.

  Where the names of settings are too long, their lines have the values alone, and a line above the names.
  """
  rows = _rows(summary)
  widths = [max(len(row[i]) for row in [HEADS, *rows]) for i in range(len(HEADS))]
  room = max(LEAST, WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
  above = []
  fields = statistics.shared_fields(summary.settings)
  if widths[0] > room and fields:
    above = [*_wrapped("setting: " + ", ".join(fields)), ""]
    for row, setting in zip(rows, summary.settings, strict=True):
      row[0] = setting.values
    widths[0] = max(len(row[0]) for row in [HEADS, *rows])
  widths[0] = min(widths[0], room)

  def text(row: Sequence[str]) -> str:
    first = _short(row[0], widths[0]).ljust(widths[0])
    middle = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
    return "  ".join([first, *middle, row[-1]]).rstrip()

  rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
  below = ["", *_wrapped(f"{summary.results.progress}; {_legend(summary)}"), *_wrapped(sentence(summary))]
  return "\n".join([*above, text(HEADS), rule, *map(text, rows), rule, *below])


def markdown(summary: Summary) -> str:
  """The same table in GitHub's Markdown, for a README, with the knee in a sentence below."""
  line = lambda cells: "| " + " | ".join(map(_escaped, cells)) + " |"
  marks = "|---|" + "---:|" * (len(HEADS) - 2) + "---|"
  rows = [line(row) for row in _rows(summary)]
  below = f"{summary.results.progress}; {_legend(summary)}\n\n{_escaped(sentence(summary))}"
  return "\n".join([line(HEADS), marks, *rows, "", below, ""])


def sentence(summary: Summary) -> str:
  """The sweep's answer: the least cost that is as good as the best, and the best, with their numbers."""
  if summary.knee is None:
    return "No setting has both an accuracy and a count of MACs: there is no knee to tell of."
  knee, best = summary.knee.setting, summary.knee.best
  said = f"The knee is {knee.name}: {_numbers(knee)}"
  if best.accuracy.error is None:
    return f"{said}. It is the best; it was trained with one seed, so there is no standard error to trade against cost."
  error = f"one standard error ({_points(best.accuracy.error)})"
  if knee is best:
    return f"{said}. It is the best, and nothing cheaper comes within {error} of it."
  share = knee.numbers[statistics.MACS] / (best.numbers[statistics.MACS] or 1)
  cheapest = f"It is the cheapest within {error} of the best, {best.name}: {_numbers(best)}."
  return f"{said}, {100 * share:.0f} % of the best's. {cheapest}"


def accuracy(estimate: Estimate | None) -> str:
  """The mean in percent and half its 95 % interval: "98.89 ± 0.69"; a dash for nothing."""
  if estimate is None:
    return "–"
  return f"{100 * estimate.mean:.2f}" + ("" if estimate.half is None else f" ± {100 * estimate.half:.2f}")


def _rows(summary: Summary) -> list[list[str]]:
  rows = []
  for setting in summary.settings:
    n, planned = setting.accuracy.n if setting.accuracy else 0, len(setting.trials)
    at_knee = summary.knee is not None and setting is summary.knee.setting
    mark = AT_KNEE if at_knee else ON_FRONT if any(setting is member for member in summary.front) else ""
    costs = [quantity(setting.numbers[name]) for name in ("params", "macs", "train_flops", "images_per_second")]
    seeds = str(n) if n == planned else f"{n} of {planned}"
    rows.append([setting.label, accuracy(setting.accuracy), *costs, seeds, mark])
  return rows


def _legend(summary: Summary) -> str:
  single = any(setting.accuracy and setting.accuracy.n == 1 for setting in summary.settings)
  alone = "; of one seed there is no interval" if single else ""
  return f"mean ± half its 95 % interval over seeds{alone}; ● nothing is cheaper and better"


def _numbers(setting: Setting) -> str:
  return f"{accuracy(setting.accuracy)} % at {quantity(setting.numbers[statistics.MACS])} MACs"


def _points(value: float) -> str:
  return f"{100 * value:.2f} points"


def _short(text: str, width: int) -> str:
  """The end of a name, which tells more of settings apart than its beginning."""
  return text if len(text) <= width else "…" + text[1 - width :]


def _wrapped(text: str) -> list[str]:
  lines = [""]
  for word in text.split():
    if len(lines[-1]) + len(word) >= WIDTH and lines[-1]:
      lines.append("")
    lines[-1] = f"{lines[-1]} {word}".strip()
  return lines


def _escaped(text: str) -> str:
  """Text that Markdown shows as it is."""
  text = re.sub(r"([\\`*\[\]|]|\b_|_\b)", r"\\\1", text.replace("&", "&amp;"))
  return text.replace("<", "&lt;")
