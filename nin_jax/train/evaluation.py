"""Exact evaluation: each image counts once, on any number of devices and for any batch size."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

from nin_jax.errors import ConfigError
from nin_jax.train import steps


class BrokenOff(Exception):
  """An evaluation was broken off by a signal, `signal` its number."""

  def __init__(self, number: int):
    self.signal = number
    super().__init__(number)


def evaluate(
  step: Callable,
  variables: dict,
  examples: Iterable[Any],
  devices: steps.Devices,
  poll: Callable[[], int] = lambda: 0,
) -> dict[str, float | int]:
  """Mean loss and accuracy over images.

  Args:
    step: made by `steps.eval_step`.
    variables: the network's, replicated.
    examples: batches of images, labels and mask, see `steps.load_step`; in a run of several processes, its parts.
    devices: that the step runs on.
    poll: see `signals.StopRequest.poll`.

  Returns:
    {"loss" (nats), "accuracy" (0 to 1), "correct", "count"}.

  Raises:
    BrokenOff: a signal asks to stop.
    ConfigError: none of the images can be read.
  """
  total: dict[str, float | int] = {"loss": 0.0, "correct": 0, "count": 0}

  def add(sums: dict) -> None:
    if number := sums["stop"].item():
      raise BrokenOff(number)
    for name in total:
      total[name] += sums[name].item()  # summed in double precision

  running: collections.deque = collections.deque()
  for batch in examples:
    running.append(step(variables, batch, steps.stop_flags(poll(), devices)))
    if len(running) > steps.ahead(devices):  # the next batch is under way before this one is read
      add(running.popleft())
  for sums in running:
    add(sums)
  count = total["count"]
  if not count:
    raise ConfigError("data.broken_images", "skip", "images of which some can be read; of those to evaluate none can")
  return {**total, "loss": total["loss"] / count, "accuracy": total["correct"] / count}


def batch_size(asked: int, devices: steps.Devices) -> int:
  """The batch size asked for, rounded up to a multiple of the devices; the padding is masked."""
  return -(-asked // len(devices)) * len(devices)
