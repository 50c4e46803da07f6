"""Our side of `benchmarks.ops`, and XLA's. Run by its parent: see `worker`."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks import operations
from benchmarks.calls import Calls
from nin_jax import ops
from nin_jax.ops.lowering import lowered_as
from nin_jax.train.compilation import SMALL_FLOPS, fast

LARGE_MACS = 50_000_000  # operations of networks whose steps are compiled as large ones


def make(operation: dict, precision: str, column: str, direction: str) -> Callable[[], object]:
  """A call of one operation.

  Args:
    operation: see `layers.describe`.
    precision: the type of all arrays.
    column: "nin_jax" (our op, lowered as it chooses), "lowering NAME", "xla" (XLA's convolution or window), or "matmul"
      (the plain product of the same sizes).
    direction: of `operations.directions`.
  """
  if column == "matmul":
    m, k, n = operations.product(operation, direction)
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    return functools.partial(jax.jit(product), _noise(0, (m, k), precision), _noise(1, (k, n), precision))
  forward = _pool(operation, column) if operation["op"] == operations.POOL else _convolution(operation, column)
  x, g = _noise(0, operation["input"], precision), _noise(2, operation["output"], precision)
  if operation["op"] == operations.POOL:
    if direction == "forward":
      return functools.partial(jax.jit(forward), x)

    def both(x: Array, g: Array) -> tuple[Array, ...]:
      y, pull = jax.vjp(forward, x)
      return y, *pull(g)

    return functools.partial(jax.jit(both), x, g)
  kernel = _noise(1, (*operation["kernel"], x.shape[-1] // operation["groups"], operation["features"]), precision)
  derived = {
    "forward": lambda x, kernel, g: forward(x, kernel),
    "dx": lambda x, kernel, g: jax.vjp(lambda x: forward(x, kernel), x)[1](g),
    "dw": lambda x, kernel, g: jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](g),
  }[direction]
  lowering = column.removeprefix("lowering ")
  flops = SMALL_FLOPS if operation["macs"] >= LARGE_MACS else 0.0  # compiled as in the step of a network made of such
  options = None if column == "xla" else fast(jax.default_backend(), precision, flops)
  with lowered_as(lowering if lowering != column else "auto"):
    compiled = jax.jit(derived).lower(x, kernel, g).compile(compiler_options=options)
  return functools.partial(compiled, x, kernel, g)


def _convolution(operation: dict, column: str) -> Callable[[Array, Array], Array]:
  strides, pads, groups = tuple(operation["strides"]), operation["pads"], operation["groups"]
  if column == "xla":
    return lambda x, kernel: lax.conv_general_dilated(
      x, kernel, strides, pads, feature_group_count=groups, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
  if operation["op"] == operations.POINTWISE:
    return lambda x, kernel: ops.pointwise(x, kernel[0, 0], strides=strides, groups=groups)
  return lambda x, kernel: ops.conv(x, kernel, strides=strides, padding=pads, groups=groups)


def _pool(operation: dict, column: str) -> Callable[[Array], Array]:
  window, strides, pads = (tuple(operation[name]) for name in ("kernel", "strides", "pads"))
  if column == "xla":
    whole = lambda pair: (1, *pair, 1)
    return lambda x: lax.reduce_window(
      x, -jnp.inf, lax.max, whole(window), whole(strides), ((0, 0), *map(tuple, pads), (0, 0))
    )
  return lambda x: ops.max_pool(x, window, strides, pads)


def _noise(seed: int, shape: tuple[int, ...] | list[int], precision: str) -> Array:
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), precision)


def main() -> None:
  on_cpu = jax.default_backend() == "cpu"  # where calls that don't depend on each other may run at once
  Calls(make, jax.block_until_ready, in_order=not on_cpu).serve()


if __name__ == "__main__":
  main()
