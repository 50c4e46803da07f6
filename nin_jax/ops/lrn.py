"""Local response normalisation across channels."""

from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def local_response_norm(
  x: Float[Array, "*positions c"], size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "*positions c"]:
  """y[c] = x[c] / (k + alpha / size * sum of x² over the `size` channels around c) ** beta.

  Krizhevsky et al. 2012, section 3.3, with Caffe's alpha (divided by the window's size) and k = 1, as in GoogLeNet.

  Args:
    x: maps, channels last; computed in float32.
    size: odd number of channels in the window, cut off at the first and last channel.
    alpha, beta, k: see the formula.

  Raises:
    ValueError: size is even.
  """
  if size % 2 == 0:
    raise ValueError(f"size={size}: accepted is an odd number of channels")
  channels, half = x.shape[-1], size // 2
  wide = x.astype(jnp.float32)
  squares = jnp.pad(wide * wide, [(0, 0)] * (x.ndim - 1) + [(half, half)])
  taps = [lax.slice_in_dim(squares, tap, tap + channels, axis=-1) for tap in range(size)]
  return (wide * (k + alpha / size * reduce(jnp.add, taps)) ** -beta).astype(x.dtype)
