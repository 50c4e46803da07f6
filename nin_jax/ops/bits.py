"""bfloat16 maps as integers, for what only moves or compares them on a CPU.

XLA's CPU backend widens bfloat16 in whatever it does: a concatenation is written in float32, and rounded in another
pass. Integers it takes as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array


def as_bits(x: Array) -> Array:
  """The bits of bfloat16 values, of which zero is zero; others as they are, as on other platforms."""
  return lax.bitcast_convert_type(x, jnp.uint16) if _widened(x) else x


def as_values(bits: Array, dtype: DTypeLike) -> Array:
  """The inverse of `as_bits`, for values of that type."""
  return lax.bitcast_convert_type(bits, dtype) if bits.dtype != dtype else bits


def as_keys(x: Array) -> Array:
  """int16 in the order of bfloat16 values, NaN above all, and one for both zeros; others as `as_bits` leaves them."""
  if not _widened(x):
    return x
  bits = lax.bitcast_convert_type(x, jnp.int16)
  magnitude = bits & _MAGNITUDE
  return jnp.where(magnitude > _INFINITY, _MAGNITUDE, jnp.where(bits < 0, -magnitude, magnitude))


def of_keys(keys: Array, dtype: DTypeLike) -> Array:
  """The inverse of `as_keys`, for values of that type, but for the sign of zero and NaN's payload."""
  if keys.dtype == dtype:
    return keys
  return lax.bitcast_convert_type(jnp.where(keys < 0, -keys | _SIGN, keys), dtype)


def _widened(x: Array) -> bool:
  return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


_MAGNITUDE, _INFINITY, _SIGN = np.int16(0x7FFF), np.int16(0x7F80), np.int16(-0x8000)
