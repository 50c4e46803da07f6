"""Dropout's masks belong to examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.layers import Dropout


def drop(x, ids, rate=0.5, seed=0, deterministic=False):
  return np.asarray(Dropout(rate, deterministic).apply({}, x, jnp.asarray(ids), rngs={"dropout": jax.random.key(seed)}))


ONES = jnp.ones((8, 3, 5))


def test_splitting_or_reordering_a_batch_changes_no_mask():
  ids = np.arange(8) + 40
  whole = drop(ONES, ids)
  np.testing.assert_array_equal(np.concatenate([drop(ONES[:4], ids[:4]), drop(ONES[4:], ids[4:])]), whole)
  order = np.array([3, 0, 7, 6, 1, 2, 5, 4])
  np.testing.assert_array_equal(drop(ONES, ids[order]), whole[order])


def test_examples_and_keys_have_masks_of_their_own():
  whole = drop(ONES, np.arange(8))
  assert len({mask.tobytes() for mask in whole}) == 8
  np.testing.assert_array_equal(whole, drop(ONES, np.arange(8)))
  assert np.any(whole != drop(ONES, np.arange(8), seed=1))
  assert np.any(whole != drop(ONES, np.arange(8) + 8))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.7])
def test_the_rate_is_that_of_zeros_and_the_mean_is_kept(rate):
  y = drop(jnp.full((64, 400), 3.0), np.arange(64), rate)
  zeros = np.mean(y == 0)
  deviation = np.sqrt(rate * (1 - rate) / y.size)
  assert abs(zeros - rate) < 4 * deviation
  np.testing.assert_allclose(y[y != 0], 3 / (1 - rate), rtol=1e-6)
  # the zeros' number varies from example to example as independent draws do
  spread = np.var(np.mean(y == 0, axis=1)) / (rate * (1 - rate) / 400)
  assert 0.4 < spread < 1.8


def test_deterministic_and_rate_zero_leave_the_input():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.bfloat16)
  np.testing.assert_array_equal(drop(x, np.arange(4), deterministic=True), x)
  np.testing.assert_array_equal(drop(x, np.arange(4), rate=0.0), x)
  Dropout(0.5, deterministic=True).apply({}, x, jnp.arange(4))  # needs no key


def test_the_type_is_kept():
  assert drop(ONES.astype(jnp.bfloat16), np.arange(8)).dtype == jnp.bfloat16
