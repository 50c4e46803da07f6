"""Dropout whose noise belongs to an example, not to its place on a device."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

_WIDTHS = {8: np.uint8, 16: np.uint16, 32: np.uint32}  # bits that may decide over a value
_TOLERANCE = 1e-3  # of the rate and of its complement


class Dropout(nn.Module):
  """Sets each value to zero with probability `rate` and scales the others so that the mean is kept.

  Each example's mask is drawn from the layer's key and the example's number: a batch gets the same masks however it is
  spread over devices or split into parts. (Flax's own draws one mask for the array that a device holds.)

  A value is kept where an integer of few bits lies below a threshold, see `threshold`: random bits are what dropout
  costs, and 8 of them decide as well as 32 where the rate is a multiple of 1/256. The others are scaled by one over the
  probability of being kept that the threshold gives exactly.

  Attributes:
    rate: probability of a zero; one that takes more than 8 bits is met to a thousandth of it or better.
    deterministic: True leaves the input as it is.
  """

  rate: float
  deterministic: bool

  @nn.compact
  def __call__(self, x: Float[Array, " n *shape"], example_ids: Int[Array, " n"]) -> Float[Array, " n *shape"]:
    if self.deterministic or self.rate == 0.0:
      return x
    bits, below = threshold(self.rate)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), example_ids)
    keep = jax.vmap(lambda key: _mask(key, x.shape[1:], bits, below))(keys)
    # In float32, as the scale rounded to bfloat16 would shift the mean.
    scaled = x.astype(jnp.promote_types(x.dtype, jnp.float32)) * (2**bits / below)
    return jnp.where(keep, scaled, 0.0).astype(x.dtype)


def threshold(rate: float) -> tuple[int, int]:
  """Returns (bits, below): a value is kept where an integer of so many bits is less than `below`.

  They are the fewest of 8, 16 and 32 bits that meet the rate and its complement to a thousandth of each.

  Args:
    rate: probability of a zero, more than 0 and less than 1.
  """
  for bits in _WIDTHS:
    below = min(max(round((1 - rate) * 2**bits), 1), 2**bits - 1)
    if abs((1 - rate) - below / 2**bits) <= _TOLERANCE * min(rate, 1 - rate):
      break
  return bits, below


def _mask(key: Array, shape: tuple[int, ...], bits: int, below: int) -> Bool[Array, " *shape"]:
  """JAX draws 32 bits also where it is asked for 8, so words are drawn, and cut: first all of their lowest bits."""
  count, parts = math.prod(shape), 32 // bits
  words = jax.random.bits(key, (-(-count // parts),), jnp.uint32)
  values = jnp.concatenate([(words >> (part * bits)).astype(_WIDTHS[bits]) for part in range(parts)])
  return (values[:count] < _WIDTHS[bits](below)).reshape(shape)
