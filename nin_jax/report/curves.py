"""Learning curves, from each trial's `metrics.jsonl`."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from nin_jax.report.results import Result, Results, metrics
from nin_jax.report.statistics import Setting

POINTS = 200  # of a curve: more would not be seen, and would weigh down the page


@dataclasses.dataclass(frozen=True)
class Curve:
  """A number over training.

  Attributes:
    epochs: where it was measured, rising.
    values: accuracy from 0 to 1, or loss in nats.
  """

  epochs: tuple[float, ...]
  values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Curves:
  """Of one trial, or the means over the seeds of a setting: `test` is accuracy, `train` is loss."""

  test: Curve
  train: Curve


def of_trial(results: Results, result: Result) -> Curves:
  """A trial's curves, as far as it has come; empty where it has no `metrics.jsonl`.

  Raises:
    ConfigError: the file isn't whole.
  """
  rows = metrics(results.directory(result) / "metrics.jsonl")

  def curve(kept: Iterable[dict], number: str) -> Curve:
    points = {row["epoch"]: row.get(number) for row in kept}
    points = {epoch: value for epoch, value in sorted(points.items()) if isinstance(value, int | float)}
    return Curve(*_thinned(list(points), list(points.values())))

  test = [row for row in rows if row.get("split") not in ("train", None)]
  return Curves(curve(test, "accuracy"), curve([row for row in rows if row.get("split") == "train"], "loss"))


def mean(setting: Setting, curves: dict[str, Curves]) -> Curves:
  """The mean over the setting's trials that are done, at the epochs that all of them have.

  Args:
    setting: of a sweep.
    curves: {trial: its curves}.
  """
  done = [curves[result.trial] for result in setting.trials if result.accuracy is not None and result.trial in curves]
  return Curves(_mean([each.test for each in done]), _mean([each.train for each in done]))


def _mean(curves: Sequence[Curve]) -> Curve:
  points = [dict(zip(curve.epochs, curve.values, strict=True)) for curve in curves if curve.epochs]
  if not points:
    return Curve((), ())
  shared = [epoch for epoch in points[0] if all(epoch in other for other in points)]
  return Curve(tuple(shared), tuple(math.fsum(each[epoch] for each in points) / len(points) for epoch in shared))


def _thinned(epochs: list[float], values: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Every so-many-th point, and the last."""
  last = len(epochs) - 1
  places = sorted({*range(0, last, max(1, -(-last // POINTS))), *range(last, last + 1)} - {-1})
  return tuple(epochs[i] for i in places), tuple(values[i] for i in places)
