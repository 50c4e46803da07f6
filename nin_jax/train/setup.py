"""All that a config decides before the first step."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from nin_jax import data
from nin_jax.errors import ConfigError
from nin_jax.train import averaging, evaluation, processes, steps, workdir
from nin_jax.train.optimizer import optimizer
from nin_jax.train.update import TrainState
from nin_jax.train.validation import total_steps, validate

OWN = ("data.dir", "data.cache_dir", "data.workers")  # what each process of a run may have its own way


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What is compiled, and kept on the devices, but for the step of training: the same for all seeds.

  Attributes:
    config: that of any seed.
    network, update, pipeline, devices: see `Setup`.
  """

  config: ConfigDict
  network: nn.Module
  update: optax.GradientTransformation
  pipeline: data.Pipeline
  devices: list[jax.Device]

  @functools.cached_property
  def arrays(self) -> Any:
    """The data set's, on each device."""
    return steps.replicate(self.pipeline.arrays, self.devices)

  @functools.cached_property
  def init(self) -> Callable[[int], TrainState]:
    """See `steps.init_state`."""
    return steps.init_state(self.network, self.update, self.config.train, self.pipeline.spec.image_shape)

  @functools.cached_property
  def evaluate(self) -> Callable:
    """See `steps.eval_step`."""
    return steps.eval_step(self.network, self.config, self.devices)

  @functools.cached_property
  def load(self) -> dict[str, Callable]:
    """See `steps.load_step`, of each split."""
    return {split: steps.load_step(self.pipeline, split, self.devices) for split in ("train", "test")}

  @functools.cached_property
  def statistics(self) -> tuple[Callable, list[jax.Device], Any]:
    """The step that takes batch statistics, its devices, and the data set's arrays on them.

    Where the devices don't divide the batch, as in an evaluation elsewhere, one works alone: the result is the same.
    """
    alone = self.config.data.batch_size % len(self.devices) > 0
    devices = self.devices[:1] if alone else self.devices
    arrays = steps.replicate(self.pipeline.arrays, devices) if alone else self.arrays
    return steps.statistics_step(self.network, self.pipeline, self.config, devices), devices, arrays


@dataclasses.dataclass(frozen=True)
class Setup:
  """What `train_and_evaluate` and `evaluate_checkpoint` work with.

  Attributes:
    config: see `nin_jax.config`.
    devices: that the run is spread over.
    image_shape: (height, width, channels) that the network sees.
    network: see `models.build`.
    pipeline: the data set, this process's part of each batch.
    total_steps: of the whole training.
    update, rate: the optimizer and its learning rate.
    compiled: what is compiled.
    variables: shapes of the network's.
  """

  config: ConfigDict
  devices: list[jax.Device]
  image_shape: tuple[int, int, int]
  network: nn.Module
  pipeline: data.Pipeline
  total_steps: int
  update: optax.GradientTransformation
  rate: optax.Schedule
  compiled: Compiled
  variables: dict

  @property
  def arrays(self) -> Any:
    """The data set's, on each device."""
    return self.compiled.arrays

  def of_seed(self, config: ConfigDict) -> "Setup":
    """The set-up of a config that differs in its seed alone: what is compiled for one serves both."""
    return dataclasses.replace(self, config=config, pipeline=data.open(config.data, config.seed))

  def first_state(self) -> TrainState:
    """The state before the first step, initialised by the seed."""
    return self.compiled.init(self.config.seed)

  def replicate(self, state: TrainState) -> TrainState:
    """The state on each device."""
    return steps.replicate(state, self.devices)

  def described(self) -> dict:
    """What of the data set decides the meaning of a checkpoint: JSON, part of each."""
    names, pipeline = list(self.pipeline.spec.class_names), self.pipeline
    return {"class_names": names, "training images": pipeline.num_train, "test images": pipeline.num_test}

  def check_data(self, described: dict, resumes: bool) -> None:
    """Raises ConfigError where the data set is not the one that was `described` to a checkpoint.

    Args:
      described: of the run that wrote it.
      resumes: whether training goes on, which takes the same images, or only the classes have to be the same.
    """
    mine = self.described()
    for there, here in zip(described["class_names"], mine["class_names"], strict=False):
      if there != here:
        self._refuse_data(f"class {there!r} is {here!r} in this one")
    for name in ("training images", "test images") if resumes else ():
      if described[name] != mine[name]:
        self._refuse_data(f"it had {described[name]:,} {name}, this one has {mine[name]:,}")

  def _refuse_data(self, reason: str) -> None:
    raise ConfigError("data.name", self.config.data.name, f"the set that the run was trained on: {reason}")

  def due(self, step: int, every_steps: int, every_epochs: float = 0.0) -> bool:
    """Whether what is done every so often is done after this step; after the last one it always is."""
    every = self._every(every_steps, every_epochs)
    return step == self.total_steps or (every > 0 and step % every == 0)

  def between_pauses(self) -> int:
    """How many steps there are at most between evaluations, checkpoints and the end: no call makes more."""
    config = self.config
    pauses = [self._every(config.eval.every_steps, config.eval.every_epochs), config.checkpoint.every_steps]
    return min([self.total_steps, *filter(None, pauses)])

  def _every(self, every_steps: int, every_epochs: float) -> int:
    """Steps, or 0 for never."""
    return every_steps or max(1, round(every_epochs * self.pipeline.steps_per_epoch)) * (every_epochs > 0)

  def evaluated(self, state: TrainState) -> dict:
    """The variables to evaluate: the latest, or the averaged parameters with batch statistics of their own.

    The running statistics belong to the latest parameters. Those of an average are taken anew, over up to
    `averaging.STATISTICS_BATCHES` training batches (Izmailov et al. 2018, section 3.2).
    """
    if state.average is None or not state.batch_stats:
      return {"params": averaging.evaluated(state.average, state.params), "batch_stats": state.batch_stats}
    step, devices, arrays = self.compiled.statistics
    average, latest = steps.replicate((state.average, state.batch_stats), devices)
    count = min(averaging.STATISTICS_BATCHES, math.ceil(self.pipeline.steps_per_epoch))
    total, seed = None, np.uint32(self.config.seed)
    for number in range(count):
      stats = step(average, latest, arrays, steps.shard(self.pipeline.sample_batch(number), devices), seed, number)
      if not steps.ahead(devices):
        jax.block_until_ready(stats)
      total = stats if total is None else jax.tree.map(jnp.add, total, stats)
    batch_stats = steps.replicate(jax.tree.map(lambda x: x / count, total), self.devices)
    return {"params": state.average, "batch_stats": batch_stats}

  def evaluate(
    self, state: TrainState, split: str, images: int = 0, poll: Callable[[], int] = lambda: 0
  ) -> dict[str, float | int]:
    """See `evaluation.evaluate`; of the first `images` of a split ("train" or "test"), or of all at 0."""
    size = evaluation.batch_size(self.config.eval.batch_size or self.config.data.batch_size, self.devices)
    load, variables = self.compiled.load[split], self.evaluated(state)
    with contextlib.closing(self.pipeline.eval_batches(split, size, images)) as batches:
      examples = (load(self.arrays, steps.shard(batch, self.devices)) for batch in batches)
      return evaluation.evaluate(self.compiled.evaluate, variables, examples, self.devices, poll)


def set_up(config: ConfigDict, training: bool = True, begins: bool = False, flags: dict | None = None) -> Setup:
  """Checks a whole config, opens its data and builds its network.

  Args:
    config: see `nin_jax.config`.
    training: False for evaluation alone, whose batches are padded: the devices need not divide data.batch_size.
    begins: whether train.init_from is going to be read.
    flags: what else has to be the same in all processes of a run.

  Raises:
    ConfigError: the user's mistake, or the processes of the run are not of one mind.
  """
  devices = jax.devices()
  several = jax.process_count() > 1  # whose parts of a batch are to be equally large
  checked = validate(config, len(devices) if training or several else 1, training or several, begins=begins)
  pipeline = data.open(config.data, config.seed, jax.process_index(), jax.process_count(), training)
  _agree(config, pipeline, devices, flags or {})
  steps_in_all = total_steps(config.train, pipeline.steps_per_epoch)
  update, rate = optimizer(config.optimizer, checked.variables["params"], steps_in_all, pipeline.steps_per_epoch)
  image_shape = checked.spec.image_shape
  compiled = Compiled(config, checked.network, update, pipeline, devices)
  return Setup(
    config, devices, image_shape, checked.network, pipeline, steps_in_all, update, rate, compiled, checked.variables
  )


def _agree(config: ConfigDict, pipeline: data.Pipeline, devices: list[jax.Device], flags: dict) -> None:
  """Raises ConfigError for the first thing that should be the same in all processes of a run and is not."""
  mine = (
    {name: value for name, value in workdir.flat(config).items() if name not in OWN}
    | flags
    | {
      "the classes": list(pipeline.spec.class_names),
      "the number of training images": pipeline.num_train,
      "the number of test images": pipeline.num_test,
      "the number of devices": sum(device.process_index == jax.process_index() for device in devices),
    }
  )
  everyone = processes.from_all(mine)
  for name in mine:
    values = [process.get(name) for process in everyone]
    index = next((index for index, value in enumerate(values) if value != values[0]), 0)
    if index:
      accepted = f"the same in all processes: it is {values[0]!r} in process 0"
      raise ConfigError(name, values[index], accepted)
