"""Trials in a few words: `reduce_scale 0.25  seeds 0 1 2`."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nin_jax.sweep.trial import Trial


def short_names(trials: Iterable[Trial]) -> dict[str, str]:
  """What a sweep varies besides the seed → the last part of its name, or all of it where two would read the same.

  What has the same value in all the trials distinguishes none of them, and is left out.
  """
  settings = [trial.setting for trial in trials]
  names = list(dict.fromkeys(name for setting in settings for name in setting))
  varied = [
    name for name in names if len({_value(setting[name]) if name in setting else None for setting in settings}) > 1
  ]
  last = {name: name.rpartition(".")[2] for name in varied}
  count = collections.Counter(last.values())
  return {name: short if count[short] == 1 else name for name, short in last.items()}


def setting(trials: Sequence[Trial], names: Mapping[str, str], between: str = " ") -> str:
  """What is varied and its values in these trials: `reduce_scale 0.25`, `learning_rate 0.01 0.1  reductions False`.

  Args:
    trials: of one group.
    names: see `short_names`.
    between: a name and its values.
  """
  parts = []
  for name, short in names.items():
    values = list(dict.fromkeys(_value(trial.setting[name]) for trial in trials if name in trial.setting))
    if values:
      parts.append(f"{short}{between}{' '.join(values)}")
  return "  ".join(parts)


def seeds(trials: Sequence[Trial]) -> str:
  """`seed 3`, `seeds 0 1 2`, `seeds 0–9`, `10 seeds`."""
  seeds = sorted({trial.seed for trial in trials})
  if len(seeds) == 1:
    return f"seed {seeds[0]}"
  if len(seeds) <= 4:
    return f"seeds {' '.join(map(str, seeds))}"
  return f"seeds {seeds[0]}–{seeds[-1]}" if seeds[-1] - seeds[0] == len(seeds) - 1 else f"{len(seeds)} seeds"


def _value(value: Any) -> str:
  return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
