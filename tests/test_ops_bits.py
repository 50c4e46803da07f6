"""bfloat16 as integers, for each of its 65,536 values."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from nin_jax.ops.bits import as_bits, as_keys, as_values, of_keys

BITS = np.arange(2**16, dtype=np.uint16)
VALUES = jnp.asarray(BITS.view(ml_dtypes.bfloat16))
NUMBERS = np.float32(np.asarray(VALUES))


def test_bits_are_the_values():
  np.testing.assert_array_equal(as_bits(VALUES), BITS)
  np.testing.assert_array_equal(np.asarray(as_values(as_bits(VALUES), jnp.bfloat16)).view(np.uint16), BITS)


def test_keys_are_in_the_values_order():
  keys = np.asarray(as_keys(VALUES))
  assert keys.dtype == np.int16
  nan = np.isnan(NUMBERS)
  assert (keys[nan] == keys.max()).all()
  assert (keys[~nan] < keys.max()).all()
  order = np.argsort(NUMBERS[~nan])
  steps, numbers = np.diff(keys[~nan][order].astype(np.int32)), np.diff(NUMBERS[~nan][order])
  np.testing.assert_array_equal(steps > 0, (numbers > 0) | np.isnan(numbers))  # the difference of infinities
  assert (steps >= 0).all()


def test_keys_give_their_values_back():
  np.testing.assert_array_equal(np.float32(of_keys(as_keys(VALUES), jnp.bfloat16)), NUMBERS)


def test_other_types_are_left_alone():
  x = jnp.float32([-1.0, 2.0])
  assert as_bits(x) is x
  assert as_values(x, jnp.float32) is x
  assert as_keys(x) is x
  assert of_keys(x, jnp.float32) is x
