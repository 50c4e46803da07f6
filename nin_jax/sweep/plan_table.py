"""The plan as plain text, for a terminal or a pipe."""

import re

from nin_jax.cost.table import quantity
from nin_jax.printable import printable
from nin_jax.sweep.naming import short_names, short_value
from nin_jax.sweep.plan import Plan, groups
from nin_jax.sweep.trial import Trial


def table(plan: Plan) -> str:
  """One line per trial, with its number and what it is trained with; and below what they take together.

  Of a search that has not begun: a line per field, with its range.
  """
  if plan.search and not plan.trials:
    return _ranges(plan)
  names = short_names(plan.fields)
  heads = [name.split(".") for name in ("trial", *names.values(), "params", "MACs", "training.FLOPs", "estimated")]
  deep = max(map(len, heads))
  above = [list(line) for line in zip(*([""] * (deep - len(head)) + head for head in heads), strict=True)]
  rows = [*above, *(_row(trial, plan) for trial in plan.trials)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
  rule = "─" * max(map(len, lines))
  return printable("\n".join([*lines[:deep], rule, *lines[deep:], rule, *footer(plan)]), keep="\n")


def footer(plan: Plan) -> list[str]:
  """What the plan comes to, in a line, and what the command line has held, in another."""
  programs = len(groups(plan.trials))
  said = [f"{_count(len(plan.trials), 'trial')} in {_count(programs, 'program')}"]
  if plan.duplicates:
    said.append(f"{_count(plan.duplicates, 'duplicate')} dropped")
  limits = {"max_macs": plan.max_macs, "max_params": plan.max_params}
  said += [f"{count} left out by --{name}={_typed(limits[name])}" for name, count in plan.left_out.items()]
  times = [trial.seconds for trial in plan.trials]
  if None not in times:
    said.append(f"about {duration(sum(times))} one after the other")
  lines = ["; ".join(said)]
  if None in [trial.train_flops for trial in plan.trials]:
    lines.append("the number of steps is known once the data set is prepared")
  return lines + _held(plan)


def duration(seconds: float) -> str:
  """A time in the unit that suits it: 40 s, 4 min, 2.3 h, 12 days."""
  for unit, of in (("s", 1), ("min", 60), ("h", 3600)):
    if seconds < {"s": 99.5, "min": 99.5 * 60, "h": 48 * 3600}[unit]:
      value = seconds / of
      return f"{value:.1f} {unit}" if unit == "h" and value < 9.95 else f"{value:.0f} {unit}"
  return f"{seconds / 86400:.0f} days"


def _ranges(plan: Plan) -> str:
  """What is searched."""
  ranges, seeds = plan.search["ranges"], plan.search["seeds"]
  names = short_names(ranges)
  rows = [("field", "values")]
  for field, described in ranges.items():
    ((kind, values),) = described.items()
    between = ", " if kind == "choice" else " to "
    rows.append((names[field], f"{kind.replace('_', ' ')}: {between.join(map(short_value, values))}"))
  width = max(len(name) for name, _ in rows)
  lines = [f"{name.rjust(width)}  {values}" for name, values in rows]
  rule = "─" * max(map(len, lines))
  said = [f"a search of {_count(plan.search['points'], 'point')}"]
  if seeds:
    said.append(f"each with the seeds {', '.join(map(str, seeds))}")
  limits = {"max_macs": plan.max_macs, "max_params": plan.max_params}
  said += [f"none over --{name}={_typed(most)}" for name, most in limits.items() if most]
  return printable("\n".join([lines[0], rule, *lines[1:], rule, "; ".join(said), *_held(plan)]), keep="\n")


def _held(plan: Plan) -> list[str]:
  if not plan.held:
    return []
  values = ", ".join(f"{field}={short_value(plan.base[field])}" for field in plan.held)
  return [f"held by the command line, whatever the sweep says: {values}"]


def _row(trial: Trial, plan: Plan) -> list[str]:
  number = trial.id.partition("-")[0]
  swept = [short_value(_value(trial, field)) for field in plan.fields]
  time = "–" if trial.seconds is None else duration(trial.seconds)
  return [number, *swept, *map(quantity, (trial.params, trial.macs, trial.train_flops)), time]


def _value(trial: Trial, field: str):
  value = trial.config
  for name in field.split("."):
    value = value[name]
  return value


def _typed(limit: int) -> str:
  """A limit as a flag has it: 4M, 1.5G."""
  text = quantity(limit)
  return re.sub(r"\.?0+(?=\D?$)", "", text) if "." in text else text


def _count(number: int, what: str) -> str:
  return f"{number} {what}{'s'[: number != 1]}"
