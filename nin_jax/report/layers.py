"""What the layers of each setting's network cost, from the configs of its trials; traced, nothing is computed."""

import dataclasses
import os
from collections.abc import Sequence

from nin_jax import data
from nin_jax.cost.layer import Cost
from nin_jax.errors import ConfigError, line
from nin_jax.report.results import Results
from nin_jax.report.statistics import Setting
from nin_jax.train.budget import model_cost
from nin_jax.train.workdir import read_config

SHOWN = 3  # settings that are named where several have no count


@dataclasses.dataclass(frozen=True)
class Networks:
  """The different networks among some settings.

  Attributes:
    costs: of one image's inference, one a network.
    of_setting: for each setting, the place of its network in `costs`; None where it can't be told.
    missing: why some can't be told, a line a cause: a data set that isn't on this machine, trials that haven't begun.
  """

  costs: tuple[Cost, ...]
  of_setting: tuple[int | None, ...]
  missing: tuple[str, ...]


def networks(results: Results, settings: Sequence[Setting]) -> Networks:
  """Traces each different network of the settings once: about a second each."""
  costs: list[Cost] = []
  places: dict[tuple, int] = {}
  of_setting: list[int | None] = []
  missing: dict[str, list[str]] = {}
  for setting in settings:
    try:
      config = _config(results, setting)
      if config is None:
        missing.setdefault("there is no config.json of a trial", []).append(setting.label)
        of_setting.append(None)
        continue
      shape = data.spec(config.data).image_shape
      key = (config.model.to_json(sort_keys=True), config.precision, shape)
      if key not in places:
        costs.append(model_cost(config.model, config.precision, shape))
        places[key] = len(costs) - 1
      of_setting.append(places[key])
    except Exception as error:  # a file from elsewhere may lack a field, or have any value in it
      cause = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
      missing.setdefault(cause, []).append(setting.label)
      of_setting.append(None)
  whose = lambda labels: "; ".join(labels) if len(labels) <= SHOWN else f"{len(labels)} settings"
  told = (f"{line(cause)} ({whose(labels)})" for cause, labels in missing.items())
  return Networks(tuple(costs), tuple(of_setting), tuple(told))


def _config(results: Results, setting: Setting):
  for result in setting.trials:
    if os.path.exists(results.directory(result) / "config.json"):
      return read_config(results.directory(result))
  return None
