"""A config and a sweep over it → the plan: each trial checked and counted, nothing computed."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from nin_jax import cost, data, models
from nin_jax.config import from_json
from nin_jax.errors import ConfigError, refuse
from nin_jax.sweep import estimate, overriding
from nin_jax.sweep.naming import short_names, short_value, trial_id
from nin_jax.sweep.plan import Plan, identity
from nin_jax.sweep.space import Space
from nin_jax.sweep.trial import Trial
from nin_jax.train import budget
from nin_jax.train.validation import total_steps, validate

MOST_MISTAKES = 10  # that are told


def make(
  space: Space,
  base: ConfigDict,
  sweep: str = "",
  config_file: str = "",
  held: Iterable[str] = (),
  max_macs: int | None = None,
  max_params: int | None = None,
  begins: bool = False,
  prepared: bool = False,
) -> Plan:
  """Plans a sweep. Trials with equal networks are traced once.

  Whether the devices' memory is enough is left to each trial's start: it may be trained elsewhere.

  Args:
    space: the sweep's overrides.
    base: the config that they change.
    sweep, config_file: their names, for the plan.
    held: fields that the command line has set in `base`; what the sweep sets them to is left aside.
    max_macs, max_params: what trials may cost at most.
    begins: whether trials may begin from the networks in train.init_from, which must then be there.
    prepared: whether the data sets must be there.

  Raises:
    ConfigError: trials are impossible, each of which is told of once (`ConfigErrors` where there are several mistakes);
      or none costs as little as it may.
  """
  held = set(held)
  found = [{field: value for field, value in overrides.items() if field not in held} for overrides in space]
  ill_typed = [(mistake, overrides) for overrides in found for mistake in overriding.mistakes(base, overrides)]
  refuse(_told(ill_typed, len(found), each_value=False))
  counting = _Counting(begins, prepared)
  drafts: dict[str, _Draft] = {}
  mistakes: list[tuple[ConfigError, dict]] = []
  for overrides in found:
    config = overriding.resolve(base, overrides)
    key = identity(config)
    if key in drafts:
      continue
    drafts[key] = _Draft(overriding.typed(base, overrides), config)
    try:
      counting.count(drafts[key])
    except ConfigError as error:
      mistakes += [(mistake, overrides) for mistake in error.mistakes]
  refuse(_told(mistakes, len(drafts)))
  within, left_out = _within(list(drafts.values()), {"max_macs": max_macs, "max_params": max_params})
  names = short_names({field for draft in within for field in draft.overrides})
  return Plan(
    sweep=sweep,
    config_file=config_file,
    base=base,
    trials=tuple(draft.trial(trial_id(index, draft.overrides, names)) for index, draft in enumerate(within)),
    held=tuple(field for field in space.fields if field in held),
    max_macs=max_macs,
    max_params=max_params,
    duplicates=len(found) - len(drafts),
    left_out=left_out,
  )


@dataclasses.dataclass
class _Draft:
  """A trial that is being planned."""

  overrides: dict[str, Any]
  config: ConfigDict
  params: int = 0
  macs: int = 0
  train_flops: int | None = None
  seconds: float | None = None

  def trial(self, name: str) -> Trial:
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return Trial(id=name, **values)


class _Counting:
  """Checks trials and counts what they cost; what several of them share is found out once."""

  def __init__(self, begins: bool, prepared: bool):
    self._begins, self._prepared = begins, prepared
    self._images: dict[str, int | None] = {}

  def count(self, draft: _Draft) -> None:
    """Fills in what a trial costs; raises ConfigError where it is impossible."""
    config = draft.config
    checked = validate(config, 1, computes=False, begins=self._begins)
    model, train = json.dumps(config.model.to_dict()), config.train
    shape, precision = checked.spec.image_shape, config.precision
    inference = budget.model_cost(config.model, precision, shape)
    training = _training_cost(model, shape, precision, train.label_smoothing, train.auxiliary_weight)
    draft.params, draft.macs = inference.total["params"], inference.total["macs"]
    steps = self._steps(config)
    if steps is None:
      return
    images = steps * config.data.batch_size
    draft.train_flops = images * training.total["train_flops"]
    device = estimate.device(config.precision)
    draft.seconds = device and estimate.seconds(training, images, device)

  def _steps(self, config: ConfigDict) -> int | None:
    key = json.dumps(config.data.to_dict())
    if key not in self._images:
      self._images[key] = data.training_images(config.data, self._prepared)
    images = self._images[key]
    if images is None:
      return config.train.steps or None
    return total_steps(config.train, images / config.data.batch_size)


@functools.lru_cache(maxsize=256)
def _training_cost(
  model: str, image_shape: tuple[int, int, int], precision: str, label_smoothing: float, auxiliary_weight: float
) -> cost.Cost:
  """One image's training, by all that it depends on; `config.model` as JSON."""
  network = models.build(from_json(model), image_shape, precision)
  config_train = ConfigDict({"label_smoothing": label_smoothing, "auxiliary_weight": auxiliary_weight})
  return budget.training_cost(network, config_train, image_shape)


def _told(mistakes: Iterable[tuple[ConfigError, dict]], count: int, each_value: bool = True) -> Iterator[ConfigError]:
  """Each mistake once, with the trials that have it; the first `MOST_MISTAKES` of them.

  Args:
    mistakes: with the overrides of their trials.
    count: of all trials.
    each_value: False where the same mistake with another value is no other one.
  """
  gathered: dict[tuple, list[tuple[ConfigError, dict]]] = {}
  for mistake, overrides in mistakes:
    key = mistake.field, mistake.accepted, repr(mistake.value) if each_value else None
    gathered.setdefault(key, []).append((mistake, overrides))
  for index, trials in enumerate(gathered.values()):
    if index == MOST_MISTAKES:
      rest = len(gathered) - MOST_MISTAKES
      yield ConfigError("--sweep", f"{rest} more", "trials that are possible: there are mistakes like these in others")
      return
    mistake, overrides = trials[0]
    yield ConfigError(mistake.field, mistake.value, f"{mistake.accepted} ({_which(overrides, len(trials), count)})")


def _which(overrides: dict, with_it: int, count: int) -> str:
  """The trials that have a mistake, by the overrides of the first of them."""
  if with_it == count > 1:
    return "all trials"
  names = short_names(overrides)
  named = ", ".join(f"{names[field]}={short_value(value)}" for field, value in overrides.items())
  return f"trial {named or 'without changes'}" + (f" and {with_it - 1} more" if with_it > 1 else "")


def _within(drafts: list[_Draft], limits: dict[str, int | None]) -> tuple[list[_Draft], dict[str, int]]:
  """The trials that cost no more than they may, and how many each limit has left out.

  Raises:
    ConfigError: there are none.
  """
  left_out = {}
  for name, most in limits.items():
    if most is None:
      continue
    of = lambda draft, name=name: getattr(draft, name.removeprefix("max_"))
    kept = [draft for draft in drafts if of(draft) <= most]
    if not kept:
      least = min(map(of, drafts))
      raise ConfigError(f"--{name}", most, f"{least} or more, which the smallest trial has")
    if len(kept) < len(drafts):
      left_out[name] = len(drafts) - len(kept)
    drafts = kept
  return drafts, left_out
