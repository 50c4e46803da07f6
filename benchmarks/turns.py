"""Measurements in turns, A B A B …, and what is said of them: medians, and ratios of neighbours in time."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Ratio:
  """Of two sides measured in turns: the median of the rounds' own ratios, the smallest and the largest of them."""

  median: float
  least: float
  most: float


def in_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """Calls each side once a round, in order: a machine that gets slower or faster meanwhile does so for all.

  Returns:
    What each side returned, round by round.
  """
  measured: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(rounds):
    for name, measure in sides.items():
      measured[name].append(measure())
  return measured


def ratio(these: Sequence[float], those: Sequence[float]) -> Ratio:
  """These over those, round by round."""
  ratios = [a / b for a, b in zip(these, those, strict=True)]
  return Ratio(statistics.median(ratios), min(ratios), max(ratios))
