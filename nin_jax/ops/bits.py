"""bfloat16 maps as the bits that they are, for what only moves them.

XLA's CPU backend widens bfloat16 in whatever it does: a concatenation is written in float32, and rounded in another
pass. Integers it moves as they are.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array


def as_bits(x: Array) -> Array:
  """The bits of bfloat16 values, of which zero is zero; others as they are."""
  return lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def as_values(bits: Array, dtype: DTypeLike) -> Array:
  """The inverse of `as_bits`, for values of that type."""
  return lax.bitcast_convert_type(bits, dtype) if bits.dtype != dtype else bits
