"""Trials in a few words: `reduce_scale 0.25  seeds 0 1 2`."""

from collections.abc import Iterable, Mapping, Sequence

from nin_jax.sweep.naming import short_names, short_value
from nin_jax.sweep.trial import Trial


def varied(trials: Iterable[Trial]) -> dict[str, str]:
  """{field: its short name} of what a sweep varies besides the seed.

  What has the same value in all the trials distinguishes none of them, and is left out.
  """
  settings = [trial.setting for trial in trials]
  names = list(dict.fromkeys(name for setting in settings for name in setting))
  values = lambda name: {short_value(setting[name]) if name in setting else None for setting in settings}
  return short_names([name for name in names if len(values(name)) > 1])


def setting(trials: Sequence[Trial], names: Mapping[str, str], between: str = " ") -> str:
  """What is varied and its values in these trials: `reduce_scale 0.25`, `learning_rate 0.01 0.1  reductions False`.

  Args:
    trials: of one group.
    names: see `varied`.
    between: a name and its values.
  """
  parts = []
  for name, short in names.items():
    values = list(dict.fromkeys(short_value(trial.setting[name]) for trial in trials if name in trial.setting))
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
