"""The least memory that a config takes, from shapes alone: what can't fit is told of before it is tried.

A true lower bound, so that nothing is refused that could run: the parameters with the optimizer's state and their
average, and the largest map of one part of a batch. Gradients, the other maps and the data set come on top of it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from nin_jax.checks import Fields
from nin_jax.errors import ConfigError


def available(devices: Sequence[jax.Device]) -> tuple[int | None, int]:
  """Bytes of memory that a device has, None where that is not known, and how many of the devices share these."""
  if devices[0].platform == "cpu":
    try:
      return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), len(devices)
    except (AttributeError, ValueError, OSError):  # not on every system
      return None, len(devices)
  limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
  return min((limit for limit in limits if limit), default=None), 1


def network_mistakes(
  config: Fields, params: Any, devices: Sequence[jax.Device], training: bool
) -> Iterator[ConfigError]:
  """Yields an error for a network whose state the devices can't hold.

  Args:
    config: the whole config.
    params: shapes of the parameters.
    devices: of the run; each holds the whole state.
    training: whether there is an optimizer.
  """
  limit, sharing = available(devices)
  count, copies = sum(leaf.size for leaf in jax.tree.leaves(params)), 1
  if training:
    copies += (2 if config.optimizer.name == "adamw" else config.optimizer.momentum > 0) + (
      config.train.averaging != "none"
    )
  needed = 4 * count * copies * sharing
  if limit is not None and needed > limit:
    taken = f"{count:,} parameters take at least {_size(needed)}"
    yield ConfigError("model", config.model.name, f"a network that fits into {_size(limit)} of memory: {taken}")


def batch_mistakes(
  config: Fields,
  maps: Mapping[str, jax.ShapeDtypeStruct],
  devices: Sequence[jax.Device],
  device_count: int,
  training: bool,
) -> Iterator[ConfigError]:
  """Yields an error for each batch size whose largest map the devices can't hold.

  Args:
    config: the whole config.
    maps: of one image, by path; those of auxiliary heads are not made in evaluation.
    devices: of this machine.
    device_count: of the run, over which the batch is spread.
    training: whether there are training batches.
  """
  limit, sharing = available(devices)
  if limit is None:
    return
  bytes_of = {path: leaf.size * leaf.dtype.itemsize for path, leaf in maps.items()}
  own = max((size for path, size in bytes_of.items() if not path.startswith("auxiliary")), default=0)
  field = "eval.batch_size" if config.eval.batch_size else "data.batch_size"
  asked = config.eval.batch_size or config.data.batch_size
  batches = [(field, asked, asked, own)]
  if training:
    part = config.data.batch_size // config.train.accumulate_steps
    batches.insert(0, ("data.batch_size", config.data.batch_size, part, max(bytes_of.values(), default=0)))
  for field, value, images, largest in batches:
    needed = -(-images // device_count) * sharing * largest
    if needed > limit:
      taken = f"{images:,} images at once take at least {_size(needed)}"
      yield ConfigError(field, value, f"a batch that fits into {_size(limit)} of memory: {taken}")
      if field == "data.batch_size":
        return


def _size(count: int) -> str:
  return f"{count / 2**30:,.1f} GiB"
