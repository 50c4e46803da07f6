"""How a convolution is computed: a pure function of its shape, its type and the backend.

`xla`: XLA's own convolution. `patches`: a matrix product with the kernel's taps side by side. `winograd`: tiles in
another basis, there a batch of 1×1s. `onednn`: a call into the oneDNN within XLA. All agree to float tolerance; which
is the fastest on a CPU was read off `python -m benchmarks.ops` (docs/results/speed.md). On GPUs and TPUs it is XLA's.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from nin_jax.ops import onednn, winograd
from nin_jax.ops.geometry import Geometry

LOWERINGS = ("xla", "patches", "winograd", "onednn")
AUTO = "auto"
FORWARD, KERNEL = (
  "forward",
  "kernel",
)  # a pass: the convolution (that of the input's gradient too); its kernel's gradient


class _Asked(NamedTuple):
  """What is asked for: one of `LOWERINGS` or `AUTO`; whether `AUTO` may call oneDNN; whether a loop is traced."""

  lowering: str = AUTO
  calls: bool = False
  looped: bool = False


_NOTHING = _Asked()
_asked = contextvars.ContextVar("lowering", default=_NOTHING)


@contextlib.contextmanager
def _asking(asked: _Asked) -> Iterator[None]:
  token = _asked.set(asked)
  try:
    yield
  finally:
    _asked.reset(token)


def lowered_as(lowering: str, calls: bool = False) -> contextlib.AbstractContextManager[None]:
  """Within it, convolutions are traced in one of the `LOWERINGS`, or as `choose` says with `auto`.

  `xla` is plain: gradients are those that JAX derives, of any order and in forward mode too, and what is traced is what
  the network is made of. Each of the others has gradients of its own, of first order; where it does not take a shape,
  XLA's convolution stands in.

  JAX keeps what it has traced of a function, and knows nothing of this: in another context trace another function (a
  new lambda).

  Args:
    lowering: one of `LOWERINGS`, or "auto", which it is where nothing is asked for.
    calls: whether "auto" may call oneDNN. Programs with such calls must not be written to JAX's persistent compilation
      cache: see `onednn`.

  Raises:
    ValueError: no such lowering, or there is none on this machine.
  """
  if lowering not in (AUTO, *LOWERINGS):
    raise ValueError(f"lowering={lowering!r}: accepted is one of {', '.join((AUTO, *LOWERINGS))}")
  if lowering == "onednn" and not onednn.available():
    raise ValueError("lowering='onednn': this machine's XLA has no oneDNN")
  return _asking(_Asked(lowering, calls))


def in_loop() -> contextlib.AbstractContextManager[None]:
  """Within it, the body of a loop (`lax.scan`, `lax.map`) is traced.

  There XLA's convolution falls to a slow path on the CPU (15 to 30 times slower): "auto" takes patches in its place.
  """
  return _asking(_asked.get()._replace(looped=True))


def derived() -> bool:
  """Whether all gradients are those that JAX derives, pools' too."""
  return _asked.get().lowering == "xla"


def plain() -> bool:
  """Whether convolutions are traced as they are, for JAX to derive their gradients."""
  return derived() or (_asked.get().lowering == AUTO and jax.default_backend() != "cpu")


def chosen(of: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, dtype: DTypeLike) -> str:
  """The lowering of a pass in the context that `lowered_as` made; see `choose`."""
  asked = _asked.get()
  if asked.lowering == AUTO:
    calls = asked.calls and onednn.available(dtype)
    backend = jax.default_backend() + "+onednn" * calls
    return choose(of, x, kernel, geometry, dtype, backend, asked.looped)
  return asked.lowering if takes(asked.lowering, x, kernel, geometry, dtype) else "xla"


def takes(
  lowering: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, dtype: DTypeLike = jnp.float32
) -> bool:
  """Whether a lowering computes such convolutions here; see `choose`."""
  if lowering == "xla":
    return True
  if geometry.groups > 1 or min(map(min, geometry.pads)) < 0 or 0 in (*x, *kernel):
    return False
  if lowering == "winograd":
    return winograd.takes(kernel[:2], geometry)
  return lowering != "onednn" or onednn.available(dtype)


def choose(
  of: str,
  x: tuple[int, ...],
  kernel: tuple[int, ...],
  geometry: Geometry,
  dtype: DTypeLike,
  backend: str,
  looped: bool = False,
) -> str:
  """The lowering that is expected to be the fastest.

  Args:
    of: `FORWARD` or `KERNEL`.
    x, kernel: the shapes, [n, h, w, c] and [kh, kw, c / groups, d]. For the input's gradient those of the convolution
      that computes it.
    geometry: of the kernel on the maps.
    dtype: of the maps.
    backend: "cpu", "cpu+onednn" (calls into oneDNN can be made), "gpu", "tpu".
    looped: whether it is in the body of a loop.

  Returns:
    One of the `LOWERINGS`.
  """
  if not backend.startswith("cpu") or not takes("patches", x, kernel, geometry):
    return "xla"
  calls = backend == "cpu+onednn" and _macs(x, kernel, geometry) >= LEAST_CALLED
  if calls and (jnp.dtype(dtype) == jnp.bfloat16 or kernel[:2] == (1, 1)):
    return "onednn"
  if takes("winograd", x, kernel, geometry) and _tiles_pay(of, x, kernel, geometry):
    return "winograd"
  if calls and of == FORWARD:
    return "onednn"
  few = kernel[2] < FEW_CHANNELS and geometry.strides == (1, 1)
  return "patches" if few or looped else "xla"


LEAST_CALLED = 20_000_000  # multiply-accumulates: below, little is gained, and programs without calls can be cached
FEW_CHANNELS = 8
# What a tile's place costs, in multiply-accumulates of a plain convolution: an element of the maps spread or of the
# products gathered, and one of the products themselves.
SPREAD, GATHERED, MULTIPLIED = 213, 148, 1.35
PLAIN_GRADIENT = 1.3  # of a kernel, against the convolution


def _macs(x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> int:
  return x[0] * math.prod(geometry.outputs(x[1:3], kernel[:2])) * math.prod(kernel)


def _tiles_pay(of: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> bool:
  """Whether tiles save more than it costs to spread maps over them, and to gather from them."""
  channels, features = kernel[2:]
  outputs = geometry.outputs(x[1:3], kernel[:2])
  places = math.prod(
    -(-size // winograd.TILE) * (winograd.TILE + k - 1) for size, k in zip(outputs, kernel, strict=False)
  )
  other = GATHERED if of == FORWARD else SPREAD
  tiled = x[0] * places * (SPREAD * channels + other * features + MULTIPLIED * channels * features)
  tiled += SPREAD * channels * features * (winograd.TILE + kernel[0] - 1) ** 2
  plain = _macs(x, kernel, geometry) * (1 if of == FORWARD else PLAIN_GRADIENT)
  return tiled < plain
