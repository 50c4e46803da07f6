"""One training of a sweep."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Trial:
  """A trial of a plan; all but `config` stands in `sweep.json`.

  Attributes:
    id: names its directory, `trials/ID`; the place in the plan and what is special about it
      ("004-reduce_scale-0.5-seed-1").
    overrides: what the sweep changes in the config: {"model.reduce_scale": 0.5, "seed": 1}.
    config: the whole, resolved config.
    params: of the network in inference, as in `result.json`.
    macs: of one image's inference.
    train_flops: of the whole training; None where the number of its steps is not known before the data set is prepared.
    seconds: estimated time of training alone on this machine; None where nothing is known of the device, or
      train_flops is not known.
  """

  id: str
  overrides: dict[str, Any]
  config: ConfigDict
  params: int
  macs: int
  train_flops: int | None
  seconds: float | None

  @property
  def flops(self) -> int:
    """Of one image's inference."""
    return 2 * self.macs

  @property
  def seed(self) -> int:
    """Its seed."""
    return self.config.seed

  @property
  def setting(self) -> dict[str, Any]:
    """Its overrides but for the seed: the trials of one setting differ in nothing else."""
    return {name: value for name, value in self.overrides.items() if name != "seed"}
