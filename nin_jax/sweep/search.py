"""What a search is: the ranges of a sweep, of which one point after the other is tried where the last ones lead.

A sweep whose fields vary independently of each other (values, a sample, a product of these) can be searched in place of
being trained as it stands:

  plan = search.plan(space, base, "random", file, points=40)
  plan = search.resume(plan, workdir)
  directory = plan_file.write(plan, workdir)
  record = Record(directory, plan.trials, retries)
  source = search.source(plan, directory, record)

The one objective is the test accuracy; what a trial costs is known before it is trained, so `max_macs` and `max_params`
are constraints, and nothing that breaks them is trained. A seed is not searched: where the sweep has that field, each
point is trained with all of its seeds, by one program, and counts by their mean.
"""

import dataclasses
import importlib.util
import math
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError, refuse
from nin_jax.sweep import overriding, plan_file, space
from nin_jax.sweep.plan import Plan
from nin_jax.sweep.ranges import Choice, Range, is_whole
from nin_jax.sweep.record import Record
from nin_jax.train import workdir as workdirs

if TYPE_CHECKING:
  from nin_jax.sweep.searched import Searched

_ACCEPTED = "a sweep of values, a sample, or a product of these"


def plan(
  sweep: space.Space,
  base: ConfigDict,
  name: str = "",
  config_file: str = "",
  held: Iterable[str] = (),
  max_macs: int | None = None,
  max_params: int | None = None,
  points: int | None = None,
) -> Plan:
  """A search's plan before any point is asked for: it has no trials yet, and its `search` says what is searched.

  Args:
    sweep: gives the ranges.
    base: the config that the points change; its seed is that of the search.
    name, config_file: of the sweep, for the plan.
    held: fields that the command line has set in `base`: they are not searched.
    max_macs, max_params: what trials may cost at most.
    points: how many are trained, each with all seeds; None: as many as the sweep's sample has.

  Raises:
    ConfigError: the sweep has no independent axes, or none that is searched; `points` is not given and the sweep is no
      sample; the config has no such field, or of another type.
  """
  held = set(held)
  try:
    found = {field: values for field, values in sweep.ranges().items() if field not in held}
  except ConfigError as error:
    raise ConfigError("--search", "optuna", f"{_ACCEPTED}; {error.value} has no independent axes") from None
  seeds = _seeds(found.pop("seed", None))
  if not found:
    raise ConfigError("--search", "optuna", f"{_ACCEPTED} that varies more than the seed")
  refuse(mistake for field, values in found.items() for mistake in _mistakes(base, field, values))
  points = points or _points(sweep, held)
  if points is None:
    raise ConfigError("--trials", None, "a number of points to be tried: this sweep is no sample, which has one")
  facts = {
    "engine": "optuna",
    "points": points,
    "seeds": seeds,
    "ranges": {field: _described(values) for field, values in found.items()},
    "study": f"{name or 'sweep'}-{uuid.uuid4().hex[:12]}",
  }
  held_fields = tuple(field for field in sweep.fields if field in held)
  return Plan(name, config_file, base, (), held_fields, max_macs, max_params, search=facts)


def resume(asked: Plan, directory: str | Path) -> Plan:
  """The plan, with the trials of the search that the directory holds, if it holds one; `plan_file.write` compares them.

  Raises:
    ConfigError: there is a `sweep.json` that is not whole.
  """
  if not (workdirs.locate(directory) / plan_file.NAME).exists():
    return asked
  there = plan_file.read(directory)
  if not (there.search and there.trials):
    return asked
  trials = [
    dataclasses.replace(trial, config=overriding.resolve(asked.base, trial.overrides))
    for trial in there.trials
    if not any(overriding.mistakes(asked.base, trial.overrides))
  ]
  return dataclasses.replace(asked, trials=tuple(trials), search=asked.search | {"study": there.search["study"]})


def source(plan: Plan, directory: Path, record: Record, storage: str | None = None) -> "Searched":
  """The search itself, for `run.run`; it goes on where an earlier one in the directory stopped.

  Args:
    plan: made by `plan` and `resume`, and written.
    directory: the sweep's workdir.
    record: of the plan's trials, to which those of the search are added.
    storage: where Optuna keeps its study: a file, or the URL of a database; None: `search.journal` in the workdir. It
      is not written down, as a URL may have a password in it: the same is given when the search goes on.

  Raises:
    ConfigError: Optuna is not installed; the storage can't be opened, or is not the one that the search began in.
  """
  if importlib.util.find_spec("optuna") is None:
    accepted = "one whose package is installed: python -m pip install -r requirements-search.txt"
    raise ConfigError("--search", "optuna", accepted)
  from nin_jax.sweep import searched, study  # here, as they import Optuna

  opened = study.open_study(storage or str(directory / "search.journal"), plan.search["study"], bool(plan.trials))
  return searched.Searched(plan, directory, record, opened)


def ranges(plan: Plan) -> dict[str, Range]:
  """{field: its range} of what a plan searches."""
  return {field: _read(described) for field, described in plan.search["ranges"].items()}


def _seeds(values: Range | None) -> list[int] | None:
  if values is None:
    return None
  if not (isinstance(values, Choice) and all(map(is_whole, values.values))):
    raise ConfigError("seed", values, "the seeds of each point, space.values('seed', range(3)): a search draws none")
  return list(dict.fromkeys(values.values))


def _mistakes(base: ConfigDict, field: str, values: Range) -> Iterable[ConfigError]:
  """Of a range's type or field, each once."""
  ends = values.values if isinstance(values, Choice) else (values.at(0), values.at(2**64 - 1))
  found = (mistake for value in ends for mistake in overriding.mistakes(base, {field: value}))
  return list({mistake.accepted: mistake for mistake in found}.values())


def _points(sweep: space.Space, held: set[str]) -> int | None:
  """How many points a sample has, or a product of one with seeds; None for what is no sample."""
  if isinstance(sweep, space.Sample):
    return sweep.size
  if isinstance(sweep, space.Product):
    searched = [factor for factor in sweep.factors if not held.union(("seed",)).issuperset(factor.fields)]
    sizes = [_points(factor, held) for factor in searched]
    return math.prod(sizes) if len(sizes) == 1 and None not in sizes else None
  return None


def _described(values: Range) -> dict[str, list]:
  if isinstance(values, Choice):
    return {"choice": list(values.values)}
  return {values.NAME: [values.low, values.high]}


def _read(described: Mapping[str, list]) -> Range:
  ((kind, of),) = described.items()
  if kind == "choice":
    return Choice(of)
  return {"uniform": space.uniform, "log_uniform": space.log_uniform, "integers": space.integers}.get(
    kind, space.power_of_two
  )(*of)
