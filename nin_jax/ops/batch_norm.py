"""Batch normalisation (Ioffe and Szegedy 2015) with what comes after it, and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax.ops import lowering

PIVOT_SHARE = 64  # of the positions, one in so many, or up to twice that, is read for the pivot


def batch_norm(
  x: Float[Array, "*positions c"],
  scale: Float[Array, " c"],
  bias: Float[Array, " c"],
  epsilon: float = 1e-5,
  axis_name: str | None = None,
  relu: bool = False,
  dtype: DTypeLike | None = None,
) -> tuple[Float[Array, "*positions c"], Float[Array, " c"], Float[Array, " c"]]:
  """Normalises by the mean and the variance of all positions: y = (x - mean) / √(variance + ε) · scale + bias.

  On CPUs the gradient is written out (there, section 3), in reverse mode alone. What is kept for it is x: derived, it
  would be x - mean in float32, written to memory beside x, and three more passes over the maps.

  Args:
    x: maps, channels last.
    scale, bias: of the result (γ and β there).
    epsilon: added to the variance.
    axis_name: of a parallel map, over all of whose devices the statistics are taken; None: each device's own.
    relu: whether the result goes through max(·, 0).
    dtype: of the result; None: that of x.

  Returns:
    The normalised maps; the mean and the (biased) variance, in float32, through which no gradient flows.
  """
  dtype = jnp.dtype(dtype or x.dtype)
  if lowering.plain():
    mean, variance = _moments(x, axis_name)
    y = normalize(x, mean, variance, scale, bias, epsilon, relu, dtype)
  else:
    y, mean, variance = _batch_norm(x, scale, bias, epsilon, axis_name, relu, dtype)
  return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def normalize(
  x: Float[Array, "*positions c"],
  mean: Float[Array, " c"],
  variance: Float[Array, " c"],
  scale: Float[Array, " c"],
  bias: Float[Array, " c"],
  epsilon: float = 1e-5,
  relu: bool = False,
  dtype: DTypeLike | None = None,
) -> Float[Array, "*positions c"]:
  """(x - mean) / √(variance + ε) · scale + bias by statistics that are given, in float32; see `batch_norm`."""
  y = _linear(x, mean, lax.rsqrt(variance + epsilon) * scale, bias)
  return (jax.nn.relu(y) if relu else y).reshape(x.shape).astype(dtype or x.dtype)


def _linear(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
  """(x - mean) · factor + bias on flattened positions."""
  return (x.reshape(-1, x.shape[-1]).astype(jnp.float32) - mean) * factor + bias


def _pivot(x: Array) -> Array:
  """A value near each channel's mean, for sums of x - pivot, whose squares lose no digits to a large mean.

  No result depends on it but by its rounding, so no gradient flows through it. The mean of a share 1/s of the positions
  is at most √s standard deviations from that of all, whatever the values: (pivot - mean)² ≤ s · variance. Their number
  is a power of two: divided by it, the pivot is the same bit for bit wherever XLA computes it, in an FMA or not.
  """
  flat = x.reshape(-1, x.shape[-1])
  count = 1 << (max(1, flat.shape[0] // PIVOT_SHARE).bit_length() - 1)
  return lax.stop_gradient(flat[:count].astype(jnp.float32).mean(0))


def _apart(value: Array) -> Array:
  """The same value, so that x - value is computed where it is used: shared, XLA would write it to memory on CPUs."""
  return lax.optimization_barrier(value)


def _moments(x: Array, axis_name: str | None) -> tuple[Array, Array]:
  """Mean and variance over all positions, and devices, in float32."""
  flat, pivot = x.reshape(-1, x.shape[-1]).astype(jnp.float32), _pivot(x)
  offset, square = (flat - pivot).mean(0), jnp.square(flat - _apart(pivot)).mean(0)
  variance = jnp.maximum(square - jnp.square(offset), 0.0)
  if axis_name is not None:
    # Each device has a pivot of its own; one exchange, where a mean and then a variance would be two.
    pivots, offsets, variances = jnp.moveaxis(lax.all_gather(jnp.stack([pivot, offset, variance]), axis_name), 1, 0)
    pivot, offsets = pivots[0], offsets + (pivots - pivots[0])
    offset = offsets.mean(0)
    variance = variances.mean(0) + jnp.square(offsets - offset).mean(0)
  return pivot + offset, variance


def _over_devices(values: Array, axis_name: str | None) -> Array:
  return values if axis_name is None else lax.pmean(values, axis_name)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def _batch_norm(
  x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None, relu: bool, dtype: jnp.dtype
) -> tuple[Array, Array, Array]:
  mean, variance = _moments(x, axis_name)
  return normalize(x, mean, variance, scale, bias, epsilon, relu, dtype), mean, variance


def _forward(
  x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None, relu: bool, dtype: jnp.dtype
) -> tuple[tuple[Array, Array, Array], tuple]:
  # Not `_batch_norm`: what is kept has derivatives of second order, of which `_backward` knows nothing.
  mean, variance = _moments(x, axis_name)
  y = normalize(x, mean, variance, scale, bias, epsilon, relu, dtype)
  return (y, mean, variance), (x, scale, bias, mean, variance)


def _backward(
  epsilon: float, axis_name: str | None, relu: bool, dtype: jnp.dtype, kept: tuple, cotangents: tuple
) -> tuple[Array, Array, Array]:
  x, scale, bias, mean, variance = kept
  flat, g = (array.reshape(-1, x.shape[-1]).astype(jnp.float32) for array in (x, cotangents[0]))
  inverse = lax.rsqrt(variance + epsilon)
  if relu:
    g = jnp.where(_linear(x, mean, inverse * scale, bias) > 0, g, 0.0)
  dbias = g.sum(0)
  dscale = (g * (flat - _apart(mean))).sum(0) * inverse
  dbias_mean, dscale_mean = _over_devices(jnp.stack([dbias, dscale]) / flat.shape[0], axis_name)
  dx = (g - dbias_mean - (flat - mean) * (inverse * dscale_mean)) * (inverse * scale)
  return dx.astype(x.dtype).reshape(x.shape), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_batch_norm.defvjp(_forward, _backward)
