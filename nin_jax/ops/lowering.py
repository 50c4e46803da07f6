"""How a convolution is computed: a pure function of its shape, its type and the backend.

`xla`: XLA's own convolution. `patches`: a matrix product with the kernel's taps side by side; of depthwise ones a sum
over taps. `winograd`: tiles in another basis, there a batch of 1×1s. The kernel's gradient of `patches` is a product
that `correlation` lays out, or `depthwise`'s sum. All are made of JAX's public operations and agree to float tolerance;
which is the fastest on a CPU was read off `python -m benchmarks.ops` (docs/results/speed.md). On GPUs and TPUs it is
XLA's.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax

from nin_jax.ops import correlation, winograd
from nin_jax.ops.geometry import Geometry

LOWERINGS = ("xla", "patches", "winograd")
AUTO = "auto"
# A pass: the convolution, which computes the gradient of its input too, and the gradient of its kernel.
FORWARD, KERNEL = "forward", "kernel"


class _Asked(NamedTuple):
  """The request of a context: one of `LOWERINGS` or `AUTO`, and whether a loop is traced."""

  lowering: str = AUTO
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


def lowered_as(lowering: str) -> contextlib.AbstractContextManager[None]:
  """Within it, convolutions are traced in one of the `LOWERINGS`, or as `choose` says with `auto`.

  `xla` is plain: gradients are those that JAX derives, of any order and in forward mode too, and what is traced is what
  the network is made of. Each of the others has gradients of its own, of first order; where it does not take a shape,
  XLA's convolution stands in.

  JAX keeps what it has traced of a function, and knows nothing of this: in another context trace another function (a
  new lambda).

  Args:
    lowering: one of `LOWERINGS`, or "auto", which is the default outside of any such context.

  Raises:
    ValueError: there is no such lowering.
  """
  if lowering not in (AUTO, *LOWERINGS):
    raise ValueError(f"lowering={lowering!r}: accepted is one of {', '.join((AUTO, *LOWERINGS))}")
  return _asking(_Asked(lowering))


def in_loop() -> contextlib.AbstractContextManager[None]:
  """Within it, the body of a loop (`lax.scan`, `lax.map`) is traced.

  There XLA's convolution falls to a slow path on the CPU (15 to 30 times slower): "auto" takes patches in its place.
  """
  return _asking(_asked.get()._replace(looped=True))


def derived() -> bool:
  """Whether a network is traced as it is written: all gradients are those that JAX derives, pools' too."""
  return _asked.get().lowering == "xla"


def plain() -> bool:
  """Whether convolutions and normalisations are traced as they are, for JAX to derive their gradients."""
  return derived() or (_asked.get().lowering == AUTO and jax.default_backend() != "cpu")


def chosen(of: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> str:
  """The lowering of a pass in the context that `lowered_as` made; see `choose`."""
  asked = _asked.get()
  if asked.lowering == AUTO:
    return choose(of, x, kernel, geometry, jax.default_backend(), asked.looped)
  return asked.lowering if takes(asked.lowering, x, kernel, geometry) else "xla"


def phased(geometry: Geometry) -> bool:
  """Whether, in that context, a strided convolution's input gradient is made phase by phase, and not by XLA as one."""
  asked = _asked.get()
  return geometry.groups > 1 or asked.looped or asked.lowering != AUTO


def takes(lowering: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> bool:
  """Whether a lowering computes such convolutions; see `choose`."""
  if lowering == "xla":
    return True
  if min(map(min, geometry.pads)) < 0 or 0 in (*x, *kernel):
    return False
  return lowering != "winograd" or winograd.takes(kernel[:2], geometry)


def choose(
  of: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, backend: str, looped: bool = False
) -> str:
  """The lowering that is expected to be the fastest.

  Args:
    of: `FORWARD` or `KERNEL`.
    x, kernel: the shapes, [n, h, w, c] and [kh, kw, c / groups, d]. For the input's gradient those of the convolution
      that computes it.
    geometry: of the kernel on the maps.
    backend: JAX's name of it: "cpu", "gpu", "tpu".
    looped: whether it is in the body of a loop.

  Returns:
    One of the `LOWERINGS`.
  """
  if backend != "cpu" or not takes("patches", x, kernel, geometry):
    return "xla"
  if geometry.groups > 1:
    # XLA's kernel gradient of 32 groups takes 200 times as long as that of patches, its depthwise convolution 40.
    summed = kernel[2] == 1 and math.prod(kernel[:2]) <= MOST_TAPS
    return "patches" if of == KERNEL or summed or looped else "xla"
  if kernel[:2] == (1, 1):  # that of a phase of strides: as patches a plain product
    return "patches"
  if takes("winograd", x, kernel, geometry) and _tiles_pay(of, x, kernel, geometry):
    return "winograd"
  few = kernel[2] < correlation.FEW_CHANNELS
  # XLA takes a kernel larger than the maps for the maps: 5 to 10 times slower.
  swapped = of == FORWARD and math.prod(kernel[:2]) > math.prod(x[1:3])
  return "patches" if looped or swapped or (few and geometry.strides == (1, 1)) else "xla"


MOST_TAPS = 128  # of a depthwise kernel that is summed over: each is a line of the program


class _Tiles(NamedTuple):
  """What a convolution by tiles costs, in multiply-accumulates of a plain one: fitted to 29 shapes.

  Attributes:
    inputs, results: an element of the maps, or of the result's, at a place of a tile.
    product: a multiply-accumulate of the products.
    kernel: an element of the kernel at a place of a tile.
  """

  inputs: float
  results: float
  product: float
  kernel: float


TILES = {FORWARD: _Tiles(167, 94, 0.73, 134), KERNEL: _Tiles(260, 77, 0.65, 54)}


def _tiles_pay(of: str, x: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> bool:
  """Whether tiles save more than it costs to spread maps over them, and to gather from them."""
  channels, features = kernel[2:]
  outputs, side, costs = geometry.outputs(x[1:3], kernel[:2]), winograd.TILE + kernel[0] - 1, TILES[of]
  places = x[0] * math.prod(-(-size // winograd.TILE) * side for size in outputs)
  tiled = places * (costs.inputs * channels + costs.results * features + costs.product * channels * features)
  plain = x[0] * math.prod(outputs) * math.prod(kernel)
  return tiled + costs.kernel * channels * features * side**2 < plain
