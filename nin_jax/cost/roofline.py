"""The roofline of a device: how fast each layer could run, and whether arithmetic or memory holds it back.

Williams, Waterman, Patterson 2009: a layer takes at least max(FLOPs / peak, bytes / bandwidth).
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from nin_jax.cost.layer import Layer, is_number
from nin_jax.cost.peaks import PEAKS, Peak
from nin_jax.errors import ConfigError

DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Device:
  """A device's peak for one type, in FLOP/s, and its memory bandwidth in bytes/s."""

  kind: str
  peak_flops: float
  bandwidth: float


@dataclasses.dataclass(frozen=True)
class Bound:
  """The least time of a forward pass, in seconds; the FLOP/s that leaves; and what sets it, `compute` or `memory`."""

  seconds: float
  attainable_flops: float
  by: str


def device(name: str, dtype: str = "float32") -> Device:
  """A device by JAX's `device_kind` or a short name (`h100`, `t4`, `tpu v4`), in any case; `cpu` is measured.

  Raises:
    ConfigError: no such device, or it has no such arithmetic (bfloat16 on a T4).
  """
  _check(dtype)
  if name.strip().lower() == "cpu":
    return _measured(dtype)
  peak = _find(name)
  if peak is None:
    raise ConfigError("--device", name, f"cpu, {', '.join(known.kind for known in PEAKS)}")
  found = _device(peak, dtype)
  if found is None:
    types = [known for known in DTYPES if getattr(peak, known) is not None]
    raise ConfigError("--device", name, f"a device that multiplies {dtype}: {peak.kind} has {' and '.join(types)}")
  return found


def current(dtype: str = "float32") -> Device | None:
  """The roofline of `jax.devices()[0]`; None if its peak is not known, so that nothing is claimed of it."""
  _check(dtype)
  first = jax.devices()[0]
  if first.platform == "cpu":
    return _measured(dtype)
  peak = _find(first.device_kind)
  return None if peak is None else _device(peak, dtype)


def bound(layer: Layer, on: Device) -> Bound | None:
  """The device's bound on a layer's forward pass; None for a layer of nothing, or of unknown size."""
  if not (is_number(layer.flops) and is_number(layer.bytes)) or not (layer.flops or layer.bytes):
    return None
  computing, moving = layer.flops / on.peak_flops, layer.bytes / on.bandwidth
  seconds = max(computing, moving)
  return Bound(seconds, layer.flops / seconds, "compute" if computing >= moving else "memory")


def _check(dtype: str) -> None:
  if dtype not in DTYPES:
    raise ConfigError("precision", dtype, ", ".join(DTYPES))


def _find(name: str) -> Peak | None:
  wanted = _plain(name)
  return next((peak for peak in PEAKS if wanted in map(_plain, (peak.kind, *peak.names))), None)


def _plain(name: str) -> str:
  return "".join(character for character in name.lower() if character.isalnum())


def _device(peak: Peak, dtype: str) -> Device | None:
  flops = getattr(peak, dtype)
  return None if flops is None else Device(peak.kind, flops, peak.bandwidth)


def cpu_peak(dtype: str, size: int = 768) -> float:
  """FLOP/s of this machine's CPU, measured now: the best of a few products [size, size]."""
  with jax.default_device(jax.devices("cpu")[0]):
    a = jnp.ones((size, size), dtype)
    return 2 * size**3 / _best(lambda: _square(a))


@jax.jit
def _square(a: jax.Array) -> jax.Array:
  return jnp.matmul(a, a, preferred_element_type=jnp.float32)


@functools.cache
def _measured(dtype: str, megabytes: int = 64) -> Device:
  """This machine's CPU, once per process: its `cpu_peak`, and the best of a few passes over memory."""
  cpu = jax.devices("cpu")[0]
  with jax.default_device(cpu):
    stream = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place: fresh pages would be what is measured
    memory = [jnp.zeros(megabytes * 2**20 // 4, "float32")]

    def through() -> jax.Array:
      memory.append(stream(memory.pop()))
      return memory[0]

    bandwidth = 2 * memory[0].nbytes / _best(through)
  return Device(cpu.device_kind, cpu_peak(dtype), bandwidth)


def _best(run: Callable[[], jax.Array], seconds: float = 0.1, most: int = 8) -> float:
  """The shortest time of a few runs, compilation left out."""
  jax.block_until_ready(run())
  times: list[float] = []
  while len(times) < 2 or (sum(times) < seconds and len(times) < most):
    start = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - start)
  return min(times)
