"""`sweep.json` of a sweep's workdir, and whether another call may go on in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nin_jax import whole_files
from nin_jax.checks import is_number
from nin_jax.config import from_values, tuples
from nin_jax.errors import ConfigError
from nin_jax.sweep.naming import is_trial_id
from nin_jax.sweep.overriding import mistakes, resolve
from nin_jax.sweep.plan import Plan
from nin_jax.sweep.trial import Trial
from nin_jax.train import workdir
from nin_jax.train.storage import plain, write_json, writing

NAME = workdir.SWEEP
_SHOWN = 3  # differences


def to_json(plan: Plan) -> dict:
  """The object in `sweep.json`."""
  return plain(
    {
      "sweep": plan.sweep,
      "config": plan.config_file,
      "base": plan.base.to_dict(),
      "held": plan.held,
      "max_macs": plan.max_macs,
      "max_params": plan.max_params,
      "duplicates": plan.duplicates,
      "left_out": plan.left_out,
      **({"search": plan.search} if plan.search else {}),
      "trials": [
        {
          "trial": trial.id,
          "overrides": trial.overrides,
          "seed": trial.seed,
          "params": trial.params,
          "macs": trial.macs,
          "flops": trial.flops,
          "train_flops": trial.train_flops,
          "seconds": trial.seconds,
        }
        for trial in plan.trials
      ],
    }
  )


def check(plan: Plan, directory: str | Path) -> Path:
  """Returns a sweep's workdir, which may be to be made, or hold the same sweep.

  Raises:
    ConfigError: it holds another sweep, or a run.
  """
  directory = workdir.locate(directory)
  if (directory / "config.json").exists():
    accepted = "a new directory, or that of a sweep; this one holds a run (config.json)"
    raise ConfigError("--workdir", str(directory), accepted)
  if (directory / NAME).exists():
    _compare(read(directory), plan, directory)
  return directory


def write(plan: Plan, directory: str | Path) -> Path:
  """Makes a sweep's workdir and writes its plan; where it holds the same sweep, that goes on with this plan.

  The same are the trials, their overrides, and the config but for what a run may change as it goes on
  (`workdir.FREE`).

  Returns:
    The directory.

  Raises:
    ConfigError: the directory can't be made or written to, or holds another sweep or a run.
  """
  directory = check(plan, directory)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / NAME, to_json(plan))
  except OSError as error:
    accepted = f"a directory that can be made and written to ({error.strerror})"
    raise ConfigError("--workdir", str(directory), accepted) from error
  return directory


def rewrite(plan: Plan, directory: Path) -> None:
  """Writes a search's plan anew, which has more trials.

  Raises:
    WorkdirError: it can't be written.
  """
  with writing(directory / NAME):
    write_json(directory / NAME, to_json(plan))


def read(directory: str | Path) -> Plan:
  """The plan in a sweep's workdir.

  Raises:
    ConfigError: there is none that is whole.
  """
  directory = workdir.locate(directory)
  try:
    return _from_json(whole_files.read_json(directory / NAME))
  except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
    raise ConfigError("--workdir", str(directory), f"the directory of a sweep, whose {NAME} is whole") from error


def _from_json(values: dict) -> Plan:
  base = from_values(values["base"]).lock()
  trials = []
  for trial in values["trials"]:
    overrides = tuples(trial["overrides"])
    for mistake in mistakes(base, overrides):
      raise mistake
    numbers = {name: trial[name] for name in ("params", "macs", "train_flops", "seconds")}
    if not is_trial_id(trial["trial"]) or not all(map(_is_cost, numbers.items())):
      raise ValueError(trial["trial"])
    trials.append(Trial(trial["trial"], overrides, resolve(base, overrides), **numbers))
  counts = {name: values[name] for name in ("max_macs", "max_params", "duplicates", "left_out")}
  found = values.get("search")
  if found is not None and not (isinstance(found, dict) and isinstance(found["study"], str)):
    raise ValueError("search")
  return Plan(values["sweep"], values["config"], base, tuple(trials), tuple(values["held"]), **counts, search=found)


def _is_cost(number: tuple[str, Any]) -> bool:
  """Whether a trial's number can be one; the last two are None where they are not known."""
  name, value = number
  if name == "seconds":
    return value is None or (is_number(value) and value >= 0)
  return workdir.is_count(value) or (name == "train_flops" and value is None)


def _compare(there: Plan, asked: Plan, directory: Path) -> None:
  if there.search and asked.search and not there.trials:
    return  # nothing has come of it
  differ = list(_differences(there, asked))
  if differ:
    shown = ", ".join(differ[:_SHOWN]) + (f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else "")
    raise ConfigError("--workdir", str(directory), f"a new directory, or the sweep that is in this one ({shown})")


def _differences(there: Plan, asked: Plan) -> Iterator[str]:
  if there.sweep != asked.sweep:
    yield f"--sweep {there.sweep} → {asked.sweep}"
  if there.search or asked.search:
    yield from _search_differences(there, asked)
  before, now = [trial.id for trial in there.trials], [trial.id for trial in asked.trials]
  if len(before) != len(now):
    yield f"{len(before)} trials → {len(now)}"
  else:
    yield from (f"trial {old} → {new}" for old, new in zip(before, now, strict=True) if old != new)
  if before == now:
    for old, new in zip(there.trials, asked.trials, strict=True):
      if plain(old.overrides) != plain(new.overrides):  # ids have four digits of a number
        yield f"trial {old.id} {plain(old.overrides)} → {plain(new.overrides)}"
  yield from workdir.differences(there.base, asked.base)


def _search_differences(there: Plan, asked: Plan) -> Iterator[str]:
  """Of two plans of which one or both are searches; how many points there are may be changed."""
  before, now = there.search or {}, plain(asked.search or {})
  for name in ("engine", "seeds", "ranges"):
    if before.get(name) != now.get(name):
      yield f"search {name} {before.get(name)} → {now.get(name)}"
  for name in ("max_macs", "max_params"):
    if getattr(there, name) != getattr(asked, name):
      yield f"--{name} {getattr(there, name)} → {getattr(asked, name)}"
