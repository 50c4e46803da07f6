"""Means over seeds with their intervals, the Pareto front, and the knee."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from nin_jax.printable import printable
from nin_jax.report.results import PLANNED, Result, Results

CONFIDENCE = 0.95
MACS = "macs"  # the cost whose least the knee has


@dataclasses.dataclass(frozen=True)
class Estimate:
  """The mean of n measurements, and what is known of it.

  Attributes:
    n: at least 1.
    mean: in the measurements' unit, as are all others.
    sd: standard deviation (n − 1 in the denominator); None for a single measurement, as are the next two.
    error: the mean's standard error, sd / √n.
    half: half the width of the mean's 95 % interval, by Student's t with n − 1 degrees of freedom.
  """

  n: int
  mean: float
  sd: float | None = None
  error: float | None = None
  half: float | None = None


@dataclasses.dataclass(frozen=True)
class Setting:
  """The trials that differ in nothing but their seeds.

  Attributes:
    overrides: what the sweep changed for them, without the seed.
    trials: in plan order; those too that failed or have not run.
    accuracy: on the test images, 0 to 1, of the trials that are done; None where none is.
    numbers: costs and speed, means over the trials that have them; None where none has.
  """

  overrides: dict[str, Any]
  trials: tuple[Result, ...]
  accuracy: Estimate | None
  numbers: dict[str, float | None]

  @property
  def name(self) -> str:
    """What is special about it, with full names: "model.reduce_scale=0.25"."""
    return self._joined(list(self.overrides))

  @property
  def label(self) -> str:
    """The same, shorter: "reduce_scale=0.25"; full names where two fields end alike."""
    return self._joined(self.fields)

  @property
  def fields(self) -> list[str]:
    """The names of its overrides, short where that is clear."""
    ends = [field.rpartition(".")[2] for field in self.overrides]
    names = [end if ends.count(end) == 1 else field for field, end in zip(self.overrides, ends, strict=True)]
    return [printable(name) for name in names]

  @property
  def values(self) -> str:
    """The values of its overrides, for a place that names the fields: "0.5, 0.01"."""
    return ", ".join(map(spelled, self.overrides.values()))

  def _joined(self, names: list[str]) -> str:
    values = map(spelled, self.overrides.values())
    return printable(", ".join(map("=".join, zip(names, values, strict=True)))) or "the config as it is"


@dataclasses.dataclass(frozen=True)
class Knee:
  """The least cost that is as good as the best.

  Attributes:
    setting: the cheapest whose mean accuracy is at least `best`'s less `best`'s standard error.
    best: the setting of the highest mean accuracy; the cheapest of those, where several share it.
  """

  setting: Setting
  best: Setting


def spelled(value: Any) -> str:
  """A config's value as it would be typed, on one line."""
  return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def shared_fields(found: Sequence[Setting]) -> list[str]:
  """The fields that every one of the settings overrides, and all that it does, in order; none where they differ."""
  alike = len({tuple(setting.overrides) for setting in found}) == 1
  return found[0].fields if alike else []


def estimate(values: Sequence[float]) -> Estimate:
  """The mean of measurements with its 95 % interval (Student 1908, The probable error of a mean).

  Raises:
    ValueError: there are none.
  """
  n = len(values)
  if not n:
    raise ValueError("no measurements: accepted is at least 1")
  mean = math.fsum(values) / n
  if n == 1:
    return Estimate(1, mean)
  if all(value == values[0] for value in values):  # no deviation from rounding where there is none
    return Estimate(n, values[0], 0.0, 0.0, 0.0)
  sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
  error = sd / math.sqrt(n)
  return Estimate(n, mean, sd, error, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error)


def settings(results: Results) -> list[Setting]:
  """The settings of a sweep, from the fewest MACs on; those of equal cost, and of unknown, in plan order."""
  groups: dict[str, list[Result]] = {}
  for result in results.trials:
    groups.setdefault(json.dumps(result.setting, sort_keys=True), []).append(result)
  found = [_setting(trials) for trials in groups.values()]
  return sorted(found, key=lambda setting: math.inf if setting.numbers[MACS] is None else setting.numbers[MACS])


def front(points: Sequence[tuple[float, float]], larger: bool = False) -> list[int]:
  """The places of the points that no other dominates: has as low a cost and as high a gain, and one of them better.

  Args:
    points: (cost, gain).
    larger: whether more of the first is better too, as for images/s.

  Returns:
    Places in `points`, from the lowest first coordinate on; equal points are on the front together.
  """
  sign = -1 if larger else 1
  order = sorted(range(len(points)), key=lambda i: (sign * points[i][0], -points[i][1]))
  kept: list[int] = []
  for i in order:
    if not kept or points[i][1] > points[kept[-1]][1] or points[i] == points[kept[-1]]:
      kept.append(i)
  return kept[::sign]


def front_of(found: Sequence[Setting], cost: str = MACS, larger: bool = False) -> list[Setting]:
  """The front among settings whose cost and accuracy are known, mean accuracy against a cost of `Setting.numbers`."""
  known = [setting for setting in found if setting.accuracy and setting.numbers[cost] is not None]
  return [known[i] for i in front([(setting.numbers[cost], setting.accuracy.mean) for setting in known], larger)]


def knee(found: Sequence[Setting]) -> Knee | None:
  """The one-standard-error rule of Breiman, Friedman, Olshen and Stone (1984), section 3.4.3, with MACs as the cost.

  Where the best has been trained with one seed there is no standard error, and it is the knee itself. None where no
  setting has both an accuracy and a cost.
  """
  known = [setting for setting in found if setting.accuracy and setting.numbers[MACS] is not None]
  if not known:
    return None
  best = min(known, key=lambda setting: (-setting.accuracy.mean, setting.numbers[MACS]))
  if best.accuracy.error is None:
    return Knee(best, best)
  least = best.accuracy.mean - best.accuracy.error
  enough = [setting for setting in known if setting.accuracy.mean >= least]
  return Knee(min(enough, key=lambda setting: (setting.numbers[MACS], -setting.accuracy.mean)), best)


def _setting(trials: list[Result]) -> Setting:
  accuracies = [result.accuracy for result in trials if result.accuracy is not None]
  done = [result for result in trials if result.accuracy is not None] or trials
  numbers = {name: _mean([result.numbers[name] for result in done]) for name in (*PLANNED, "images_per_second")}
  accuracy = estimate(accuracies) if accuracies else None
  return Setting(trials[0].setting, tuple(trials), accuracy, numbers)


def _mean(values: Sequence[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  if known and all(value == known[0] for value in known):
    return known[0]
  return math.fsum(known) / len(known) if known else None
