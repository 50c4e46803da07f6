"""A whole config's mistakes, found before anything is built: all of them at once, in the order of their causes."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nin_jax import data, models
from nin_jax.checks import (
  MAX_INT,
  Check,
  Fields,
  field,
  field_names,
  fraction,
  gather,
  not_negative,
  one_of,
  structure,
  whole,
)
from nin_jax.config import default, from_json
from nin_jax.errors import ConfigError, refuse
from nin_jax.ops import lowering
from nin_jax.train import averaging, fine_tuning, memory, optimizer, steps


@dataclasses.dataclass(frozen=True)
class Validated:
  """What checking has found out on its way.

  Attributes:
    spec: of the data set.
    network: see `models.build`; its batch statistics are synchronised over devices where the config says so.
    variables: their shapes, "params" and "batch_stats" where it has any.
  """

  spec: data.Spec
  network: nn.Module
  variables: dict


def validate(
  config: ConfigDict, device_count: int, training: bool = True, computes: bool = True, begins: bool = False
) -> Validated:
  """Checks a whole config, and tells of all its mistakes at once.

  In this order: its sections, fields and their types; the values of each section; what takes several sections; what
  takes the description of the data set or the shapes of the network. A field that is wrong is not checked further, and
  neither is what depends on it.

  Args:
    config: see `nin_jax.config`.
    device_count: that a training batch is spread over.
    training: False for evaluation alone, whose batches are padded: the devices need not divide data.batch_size.
    computes: False where the network is only counted, for which there is always memory enough.
    begins: whether training begins, from the network in train.init_from where one is named.

  Raises:
    ConfigError: the user's mistake; `ConfigErrors` where there are several.
  """
  if field_names(config) is None:
    raise ConfigError("config", config, "a ConfigDict with the fields of nin_jax.config.default()")
  found: list[Validated] = []
  last = _Described(training, computes, found.append)
  together = [_epochs, _batch(device_count)] if training else []
  if begins:
    together += [lambda config: fine_tuning.mistakes(config.train.init_from)]
  refuse(gather(Fields(config), [_fields, *_VALUES, *together, last.check]))
  return found[0]


def total_steps(config_train: ConfigDict, steps_per_epoch: float) -> int:
  """The steps of the whole training.

  Raises:
    ConfigError: there are more than an int32 counts.
  """
  total = config_train.steps or max(1, round(config_train.epochs * steps_per_epoch))
  if total > MAX_INT:
    accepted = f"at most {MAX_INT / steps_per_epoch:.6g} on this set, which are {MAX_INT} steps"
    raise ConfigError("train.epochs", config_train.epochs, accepted)
  return total


def _fields(config: Fields) -> Iterator[ConfigError]:
  own = lambda config: structure(config.section, default(), "")
  yield from gather(config, [own, lambda config: models.field_mistakes(config.model)])


def _section(name: str, checks: Iterable[Check]) -> Check:
  return lambda config: gather(config[name], checks)


def _sound_data(config: Fields) -> ConfigDict:
  """The section `data`, its fields that have a mistake at their defaults."""
  sound = default().data
  for name in sound:
    if f"data.{name}" not in config.unsound:
      sound[name] = config.data.section[name]
  return sound


def _data_values(config: Fields) -> Iterator[ConfigError]:
  yield from (mistake for mistake in data.mistakes(_sound_data(config)) if mistake.field not in config.unsound)


_VALUES: list[Check] = [
  # JAX's keys take the last 32 bits of a seed: larger ones would repeat the networks of these.
  *whole("seed", 0, 2**32 - 1),
  *one_of("precision", models.PRECISIONS),
  *one_of("lowering", (lowering.AUTO, *lowering.LOWERINGS)),
  lambda config: models.mistakes(config.model),
  _data_values,
  lambda config: optimizer.mistakes(config.optimizer),
  lambda config: averaging.mistakes(config.train),
  _section("train", field("epochs auxiliary_weight", not_negative, "a number not below 0")),
  _section("train", field("label_smoothing", fraction, "0 or more, less than 1")),
  _section("train", [*whole("steps dead_steps", 0), *whole("accumulate_steps steps_per_call", 1)]),
  _section("eval", whole("batch_size every_steps train_images", 0)),
  _section("eval", field("every_epochs", not_negative, "a number not below 0")),
  _section("checkpoint", [*whole("every_steps", 0), *whole("keep", 1)]),
  _section("log", whole("every_steps", 1)),
]


def _epochs(config: Fields) -> Iterator[ConfigError]:
  if not config.train.steps and not config.train.epochs:
    yield config.train.error("epochs", "more than 0 where train.steps is 0")


def _batch(device_count: int) -> Check:
  def check(config: Fields) -> Iterator[ConfigError]:
    accumulate_steps = config.train.accumulate_steps
    parts = device_count * accumulate_steps
    if config.data.batch_size % parts:
      of = f"{device_count} device{'s'[: device_count != 1]}"
      if accumulate_steps > 1:
        of += f" × train.accumulate_steps={accumulate_steps}"
      yield config.data.error("batch_size", f"a multiple of {parts} ({of})")

  return check


@dataclasses.dataclass(frozen=True)
class _Described:
  """The checks that take the description of the data set, and then the shapes of the network.

  Attributes:
    training, computes: see `validate`.
    done: takes what was found out, where there is no mistake.
  """

  training: bool
  computes: bool
  done: Callable[[Validated], None]

  def check(self, config: Fields) -> Iterator[ConfigError]:
    if not config.sound("data", but="data.batch_size"):
      return
    try:
      spec = data.spec(_sound_data(config))
    except ConfigError as error:
      yield from error.mistakes
      return
    yield from gather(config, [lambda config: self._classes(config, spec)])
    if not self.computes:
      yield from self._network(config, spec)
      return
    image = {"image": jax.ShapeDtypeStruct(spec.image_shape, jnp.dtype(config.precision))}
    too_large = list(gather(config, [lambda config: self._batches(config, image)]))
    yield from too_large
    if not too_large:  # such a network is better not traced
      yield from self._network(config, spec)

  def _classes(self, config: Fields, spec: data.Spec) -> Iterator[ConfigError]:
    if spec.num_classes < 2:
      yield config.data.error("name", f"{data.TWO_CLASSES}; this set has {spec.num_classes}")
    elif config.model.num_classes != spec.num_classes:
      yield config.model.error("num_classes", f"{spec.num_classes}, the classes of {spec.name}")

  def _network(self, config: Fields, spec: data.Spec) -> Iterator[ConfigError]:
    if not config.sound("model", but="model.num_classes"):
      return
    axis = steps.AXIS if config.train.sync_batch_norm else None
    try:
      model = json.dumps(config.section.model.to_dict())
      network, variables, maps = _traced(model, spec.image_shape, config.precision, axis)
    except ConfigError as error:
      yield from error.mistakes
      return
    params = variables["params"]
    checks: list[Check] = [lambda config: optimizer.unmatched(config.optimizer, params)]
    if self.computes:
      devices = jax.local_devices()
      checks += [lambda config: memory.network_mistakes(config, params, devices, self.training)]
      checks += [lambda config: self._batches(config, maps)]
    yield from gather(config, checks)
    if not config.unsound:
      self.done(Validated(spec, network, variables))

  def _batches(self, config: Fields, maps: dict[str, jax.ShapeDtypeStruct]) -> Iterator[ConfigError]:
    return memory.batch_mistakes(config, maps, jax.local_devices(), jax.device_count(), self.training)


@functools.lru_cache(maxsize=256)
def _traced(model: str, image_shape: tuple[int, int, int], precision: str, axis: str | None) -> tuple:
  """The network of `config.model` as JSON, its variables' shapes and its maps'; trials of a sweep share them."""
  network = models.build(from_json(model), image_shape, precision, axis)
  variables, maps = models.map_shapes(network, image_shape)
  return network, variables, maps
