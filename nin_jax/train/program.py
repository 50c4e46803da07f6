"""One training, or several by one program: what the loop steps."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from nin_jax import models
from nin_jax.train import steps
from nin_jax.train.setup import Setup
from nin_jax.train.update import TrainState


class _Steps:
  """A program's steps: those of `train.steps_per_call` in one call, and one by one what is left before a pause.

  Args:
    make: makes the step of so many in a call, see `steps.train_step`.
  """

  def __init__(self, make: Callable[[int], Callable]):
    self._make, self._made = make, {}

  def __call__(self, count: int, *given: Any) -> tuple[TrainState, dict]:
    if count not in self._made:
      self._made[count] = self._make(count)
    return self._made[count](*given)

  def __contains__(self, count: int) -> bool:
    return count in self._made


class Alone:
  """One training, each batch of it spread over all devices.

  Attributes:
    setup: of the training.
    devices: that it runs on.
  """

  def __init__(self, setup: Setup):
    self.setup, self.devices = setup, setup.devices
    given = (setup.network, setup.update, setup.pipeline, setup.config, setup.total_steps, setup.devices)
    self._step = _Steps(lambda count: steps.train_step(*given, rate=setup.rate, count=count))

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

  def compiles(self, count: int) -> bool:
    """Whether the next call of so many steps is the first one."""
    return count not in self._step

  def step(self, state: TrainState, batches: Sequence[PyTree], signal: int) -> tuple[TrainState, dict]:
    """A step for each batch, of all trainings; the signal's number comes back as the metric "stop"."""
    stop = steps.stop_flags(signal, self.devices)
    return self._step(len(batches), state, self.setup.arrays, _of_call(batches, axis=1), stop)

  def numbers(self, metrics: dict) -> list[list[dict[str, float]]]:
    """Of each step of a call, each training's metrics."""
    return [[numbers] for numbers in _by_step({name: np.asarray(value) for name, value in metrics.items()})]


class Together:
  """Trainings that differ in their seed alone, by one program, spread over the devices: see `Alone`.

  Each is computed in the same way whatever becomes of the others, so that one that is done with, or has failed, may
  stay in its place while the others go on. A state is that of all, in the groups that a call of the program steps.

  Args:
    setups: one a training; their configs are equal but for the seed.
  """

  def __init__(self, setups: Sequence[Setup]):
    first = setups[0]
    self.setup, self._setups = first, setups
    self.devices = first.devices[: len(setups)]
    self._places = -(-len(setups) // len(self.devices))  # of a device
    self._at_once = steps.seeds_of_call(self._places, self.devices)
    # The last places may be empty: they repeat the first training.
    count = self._places * len(self.devices)
    self._order = [lane if lane < len(setups) else 0 for lane in range(count)]
    network = models.build(first.config.model, first.image_shape, first.config.precision)
    given = (network, first.update, first.pipeline, first.config, first.total_steps, self.devices)
    self._step = _Steps(lambda count: steps.train_step_of_seeds(*given, rate=first.rate, count=count))
    self._arrays = steps.replicate(first.pipeline.arrays, self.devices)
    self._seeds = self._grouped([np.uint32(setup.config.seed) for setup in setups])

  def _grouped(self, lanes: Sequence[PyTree]) -> list[PyTree]:
    """[devices, lanes of a device, …] for each array of the lanes' trees, a group after the other."""

    def group(first: int) -> PyTree:
      places = range(first, first + self._at_once)
      of_devices = range(0, len(self._order), self._places)
      chosen = [lanes[self._order[device + place]] for device in of_devices for place in places]
      stack = lambda *leaves: np.stack(leaves).reshape(len(self.devices), -1, *np.shape(leaves[0]))
      return jax.tree.map(stack, *chosen)

    return [group(first) for first in range(0, self._places, self._at_once)]

  def place(self, states: dict[int, TrainState]) -> list[TrainState]:
    host = {lane: jax.tree.map(np.asarray, state) for lane, state in states.items()}
    some = next(iter(host.values()))  # in the place of those that have ended
    grouped = self._grouped([host.get(lane, some) for lane in range(len(self._setups))])
    return [steps.spread(group, self.devices) for group in grouped]

  def take(self, state: list[TrainState], lane: int) -> TrainState:
    device, place = divmod(lane, self._places)
    group, place = divmod(place, self._at_once)
    return jax.tree.map(lambda leaf: np.asarray(steps.on_device(leaf, device)[place]), state[group])

  def replicated(self, state: list[TrainState], lane: int) -> TrainState:
    return self.setup.replicate(self.take(state, lane))

  @contextlib.contextmanager
  def batches(self, start: int) -> Iterator[Iterator[list[PyTree]]]:
    with contextlib.ExitStack() as stack:
      read = [stack.enter_context(contextlib.closing(setup.pipeline.train_batches(start))) for setup in self._setups]
      yield (self._grouped(batches) for batches in zip(*read, strict=True))

  def compiles(self, count: int) -> bool:
    return count not in self._step

  def step(
    self, state: list[TrainState], batches: Sequence[list[PyTree]], signal: int
  ) -> tuple[list[TrainState], tuple[list[dict], int]]:
    of_calls = [_of_call(of_group, axis=2) for of_group in zip(*batches, strict=True)]
    given = zip(state, of_calls, self._seeds, strict=True)
    stepped = [self._step(len(batches), group, self._arrays, batch, seeds) for group, batch, seeds in given]
    return [group for group, _ in stepped], ([metrics for _, metrics in stepped], signal)

  def numbers(self, metrics: tuple[list[dict], int]) -> list[list[dict[str, Any]]]:
    groups, signal = metrics
    of_lanes = []
    for lane in range(len(self._setups)):
      device, place = divmod(lane, self._places)
      group, place = divmod(place, self._at_once)
      of_lanes.append(_by_step({name: np.asarray(value)[device, place] for name, value in groups[group].items()}))
    return [[numbers | {"stop": signal} for numbers in of_step] for of_step in zip(*of_lanes, strict=True)]


def _of_call(batches: Sequence[PyTree], axis: int) -> PyTree:
  """The batches of a call as one, as the steps take it: several with an axis of their own, one without."""
  return batches[0] if len(batches) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves, axis), *batches)


def _by_step(metrics: dict[str, np.ndarray]) -> list[dict[str, float]]:
  """Metrics [steps] of a call, or [] of a call of one step → those of each step."""
  count = next(iter(metrics.values())).size
  return [{name: value.reshape(-1)[number].item() for name, value in metrics.items()} for number in range(count)]
