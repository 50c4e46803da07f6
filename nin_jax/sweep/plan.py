"""The trials of a sweep, known before any of them is trained."""

import dataclasses
import json
from collections.abc import Iterable

from ml_collections import ConfigDict

from nin_jax.sweep.trial import Trial


@dataclasses.dataclass(frozen=True)
class Plan:
  """A sweep's trials and how they were come by.

  Attributes:
    sweep: its name.
    config_file: that its function is in.
    base: the config that the trials change.
    held: fields that the command line set, and that the sweep therefore did not.
    trials: in the order of the sweep.
    max_macs, max_params: what trials may cost at most.
    duplicates: how many trials had the config of an earlier one, and were dropped.
    left_out: how many others cost more than they may: {"max_macs": 3}.
    search: what is searched, where the trials are those that a search has asked for so far (see `search.plan`).
  """

  sweep: str
  config_file: str
  base: ConfigDict
  trials: tuple[Trial, ...]
  held: tuple[str, ...] = ()
  max_macs: int | None = None
  max_params: int | None = None
  duplicates: int = 0
  left_out: dict[str, int] = dataclasses.field(default_factory=dict)
  search: dict | None = None

  @property
  def fields(self) -> tuple[str, ...]:
    """The fields that the trials change, in the order of their first mention; the seed is the last."""
    fields = dict.fromkeys(field for trial in self.trials for field in trial.overrides)
    return tuple(sorted(fields, key=lambda field: field == "seed"))


def groups(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
  """The trials whose configs differ in the seed alone, together; in the order of the first of each.

  They have one program, in which they can be trained side by side, each seed on one device. Where batch normalisation
  is each device's own (`train.sync_batch_norm=False`) that would change their numbers, and each is alone.
  """
  found: list[tuple[Trial, ...]] = []
  for point in points(trials):
    found += [point] if point[0].config.train.sync_batch_norm else [(trial,) for trial in point]
  return found


def points(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
  """The trials whose configs differ in the seed alone, together; in the order of the first of each."""
  found: dict[str, list[Trial]] = {}
  for trial in trials:
    found.setdefault(identity(trial.config, seed=False), []).append(trial)
  return [tuple(point) for point in found.values()]


def identity(config: ConfigDict, seed: bool = True) -> str:
  """A text that is the same for equal configs, and for no others; without the seed if so asked."""
  values = config.to_dict()
  if not seed:
    values.pop("seed", None)
  return json.dumps(values, sort_keys=True, default=repr)
