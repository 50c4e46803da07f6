"""All that a config decides before the first step."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from nin_jax import data, models
from nin_jax.config import validate
from nin_jax.errors import ConfigError
from nin_jax.train import averaging, evaluation, steps
from nin_jax.train.optimizer import optimizer


@dataclasses.dataclass(frozen=True)
class Setup:
  """What `train_and_evaluate` and `evaluate_checkpoint` work with.

  Attributes:
    config: see `nin_jax.config`.
    devices: that the run is spread over.
    image_shape: (height, width, channels) that the network sees.
    network: see `models.build`.
    pipeline: the data set.
    total_steps: of the whole training.
    update, rate: the optimizer and its learning rate.
  """

  config: ConfigDict
  devices: list[jax.Device]
  image_shape: tuple[int, int, int]
  network: nn.Module
  pipeline: data.Resident
  total_steps: int
  update: optax.GradientTransformation
  rate: optax.Schedule

  @functools.cached_property
  def arrays(self) -> Any:
    """The data set's, on each device."""
    return steps.replicate(self.pipeline.arrays, self.devices)

  def first_state(self) -> steps.TrainState:
    """The state before the first step, on each device."""
    state = steps.init_state(self.network, self.update, self.config, self.image_shape)
    return steps.replicate(state, self.devices)

  def due(self, step: int, every_steps: int, every_epochs: float = 0.0) -> bool:
    """Whether what is done every so often is done after this step; after the last one it always is."""
    every = every_steps or max(1, round(every_epochs * self.pipeline.steps_per_epoch)) * (every_epochs > 0)
    return step == self.total_steps or (every > 0 and step % every == 0)

  @functools.cached_property
  def _eval_steps(self) -> dict[str, Callable]:
    return {split: steps.eval_step(self.network, self.pipeline, split, self.devices) for split in ("train", "test")}

  def evaluate(self, state: steps.TrainState, split: str, images: int = 0) -> dict[str, float | int]:
    """See `evaluation.evaluate`; of the first `images` of a split ("train" or "test"), about, or of all at 0."""
    size = evaluation.batch_size(self.config.eval.batch_size or self.config.data.batch_size, self.devices)
    batches = itertools.islice(self.pipeline.eval_batches(split, size), -(-images // size) or None)
    return evaluation.evaluate(self._eval_steps[split], state.evaluated, self.arrays, batches, self.devices)


def set_up(config: ConfigDict, training: bool = True) -> Setup:
  """Checks a whole config, opens its data and builds its network.

  Args:
    config: see `nin_jax.config`.
    training: False for evaluation alone, whose batches are padded: the devices need not divide data.batch_size.

  Raises:
    ConfigError: the user's mistake.
  """
  devices = jax.local_devices()
  validate(config, len(devices) if training else 1)
  averaging.check(config.train)
  spec = data.spec(config.data)
  if config.model.num_classes != spec.num_classes:
    raise ConfigError("model.num_classes", config.model.num_classes, f"{spec.num_classes}, as {spec.name} has classes")
  axis = steps.AXIS if config.train.sync_batch_norm else None
  network = models.build(config.model, spec.image_shape, config.precision, axis)
  pipeline = data.open(config.data, config.seed)
  total_steps = config.train.steps or max(1, round(config.train.epochs * pipeline.steps_per_epoch))
  params = models.variable_shapes(network, spec.image_shape)["params"]
  update, rate = optimizer(config.optimizer, params, total_steps, pipeline.steps_per_epoch)
  return Setup(config, devices, spec.image_shape, network, pipeline, total_steps, update, rate)
