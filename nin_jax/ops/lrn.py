"""Local response normalisation across channels, and its gradient."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nin_jax.ops import lowering


def local_response_norm(
  x: Float[Array, "*positions c"], size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "*positions c"]:
  """y[c] = x[c] / (k + alpha / size * sum of x² over the `size` channels around c) ** beta.

  Krizhevsky et al. 2012, section 3.3, with Caffe's alpha (divided by the window's size) and k = 1, as in GoogLeNet.

  On CPUs the gradient is written out, in reverse mode alone (any other: `lowering.lowered_as("xla")`), where alpha,
  beta and k are numbers. With u the sum in brackets and S a sum over the window it is
  dx = dy · u^-beta - 2 · alpha / size · beta · x · S(dy · x · u^(-beta - 1)): what comes before a window is computed
  once there. Derived, XLA computes it anew for each channel of the window, and with it the gradient of a pool that
  follows.

  Args:
    x: maps, channels last; computed in float32.
    size: odd number of channels in the window, cut off at the first and last channel.
    alpha, beta, k: see the formula.

  Raises:
    ValueError: size is even.
  """
  if size % 2 == 0:
    raise ValueError(f"size={size}: accepted is an odd number of channels")
  if not lowering.plain() and all(isinstance(value, (int, float)) for value in (alpha, beta, k)):
    return _normalize(x, size, alpha, beta, k)
  channels, half = x.shape[-1], size // 2
  wide = x.astype(jnp.float32)
  squares = jnp.pad(wide * wide, [(0, 0)] * (x.ndim - 1) + [(half, half)])
  taps = [lax.slice_in_dim(squares, tap, tap + channels, axis=-1) for tap in range(size)]
  return (wide * (k + alpha / size * reduce(jnp.add, taps)) ** -beta).astype(x.dtype)


def _window_sum(x: Array, size: int) -> Array:
  return lax.reduce_window(x, 0.0, lax.add, (*[1] * (x.ndim - 1), size), (1,) * x.ndim, "SAME")


def _sums(x: Array, size: int, alpha: float, k: float) -> Array:
  return k + alpha / size * _window_sum(jnp.square(x.astype(jnp.float32)), size)


def _power(sums: Array, beta: float) -> Array:
  """sums ** -beta; GoogLeNet's by roots: its normalisation takes a quarter less time so."""
  root = lax.rsqrt(sums)
  return root * lax.sqrt(root) if beta == 0.75 else sums**-beta


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _normalize(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
  return (x.astype(jnp.float32) * _power(_sums(x, size, alpha, k), beta)).astype(x.dtype)


def _forward(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
  return _normalize(x, size, alpha, beta, k), x


def _backward(size: int, alpha: float, beta: float, k: float, x: Array, g: Array) -> tuple[Array]:
  wide, g, sums = x.astype(jnp.float32), g.astype(jnp.float32), _sums(x, size, alpha, k)
  scaled = g * _power(sums, beta)
  others = _window_sum(scaled * wide / sums, size)
  return ((scaled - 2 * alpha / size * beta * wide * others).astype(x.dtype),)


_normalize.defvjp(_forward, _backward)
