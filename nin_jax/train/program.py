"""One training or several in one program: what the loop steps."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from nin_jax import models
from nin_jax.train import steps
from nin_jax.train.setup import Setup
from nin_jax.train.steps import TrainState


class Alone:
  """One training, each batch of it spread over all devices.

  Attributes:
    setup: of the training.
    devices: that it runs on.
  """

  def __init__(self, setup: Setup):
    self.setup, self.devices = setup, setup.devices
    self._step = steps.train_step(
      setup.network, setup.update, setup.pipeline, setup.config, setup.total_steps, setup.devices
    )

  def place(self, states: dict[int, TrainState]) -> TrainState:
    """The trainings' states, by place, on the devices, in the form in which they are stepped."""
    return self.setup.replicate(states[0])

  def take(self, state: TrainState, lane: int) -> TrainState:
    """One training's state out of that form, for a checkpoint and for `replicated`."""
    del lane
    return state

  def replicated(self, state: TrainState, lane: int) -> TrainState:
    """One training's state as `Setup.evaluate` takes it."""
    del lane
    return state

  @contextlib.contextmanager
  def batches(self, start: int) -> Iterator[Iterator[PyTree]]:
    """The batches from a step on, as `step` takes them."""
    with contextlib.closing(self.setup.pipeline.train_batches(start)) as batches:
      yield (steps.shard(batch, self.devices) for batch in batches)

  def step(self, state: TrainState, batch: PyTree, signal: int) -> tuple[TrainState, dict]:
    """One step of all trainings; the signal's number comes back as the metric "stop"."""
    return self._step(state, self.setup.arrays, batch, steps.stop_flags(signal, self.devices))

  def numbers(self, metrics: dict) -> list[dict[str, float]]:
    """Each training's metrics."""
    return [{name: value.item() for name, value in metrics.items()}]


class Together:
  """Trainings that differ in their seed alone, in one program, spread over the devices: see `Alone`.

  Each is computed in the same way whatever becomes of the others, so that one that is done with, or has failed, may
  stay in its place while the others go on.

  Args:
    setups: one a training; their configs are equal but for the seed.
  """

  def __init__(self, setups: Sequence[Setup]):
    first = setups[0]
    self.setup, self._setups = first, setups
    self.devices = first.devices[: len(setups)]
    places = -(-len(setups) // len(self.devices)) * len(self.devices)
    # The last places may be empty: they repeat the first training.
    self._order = [lane if lane < len(setups) else 0 for lane in range(places)]
    network = models.build(first.config.model, first.image_shape, first.config.precision)
    self._step = steps.train_step_of_seeds(
      network, first.update, first.pipeline, first.config, first.total_steps, self.devices
    )
    self._arrays = steps.replicate(first.pipeline.arrays, self.devices)
    self._seeds = self._stacked([np.uint32(setup.config.seed) for setup in setups])

  def _stacked(self, lanes: Sequence[PyTree]) -> PyTree:
    """[devices, lanes of a device, …] for each array of the lanes' trees."""
    stack = lambda *leaves: np.stack(leaves).reshape(len(self.devices), -1, *np.shape(leaves[0]))
    return jax.tree.map(stack, *(lanes[lane] for lane in self._order))

  def place(self, states: dict[int, TrainState]) -> TrainState:
    host = {lane: jax.tree.map(np.asarray, state) for lane, state in states.items()}
    some = next(iter(host.values()))  # in the place of those that have ended
    return steps.spread(self._stacked([host.get(lane, some) for lane in range(len(self._setups))]), self.devices)

  def take(self, state: TrainState, lane: int) -> TrainState:
    device, place = divmod(lane, len(self._order) // len(self.devices))
    return jax.tree.map(lambda leaf: np.asarray(steps.on_device(leaf, device)[place]), state)

  def replicated(self, state: TrainState, lane: int) -> TrainState:
    return self.setup.replicate(self.take(state, lane))

  @contextlib.contextmanager
  def batches(self, start: int) -> Iterator[Iterator[PyTree]]:
    with contextlib.ExitStack() as stack:
      read = [stack.enter_context(contextlib.closing(setup.pipeline.train_batches(start))) for setup in self._setups]
      yield (self._stacked(batches) for batches in zip(*read, strict=True))

  def step(self, state: TrainState, batch: PyTree, signal: int) -> tuple[TrainState, dict]:
    state, metrics = self._step(state, self._arrays, batch, self._seeds)
    return state, metrics | {"stop": signal}

  def numbers(self, metrics: dict) -> list[dict[str, Any]]:
    signal = metrics.pop("stop")
    flat = {name: np.asarray(value).reshape(-1) for name, value in metrics.items()}
    lanes = range(len(self._setups))
    return [{name: values[lane].item() for name, values in flat.items()} | {"stop": signal} for lane in lanes]
