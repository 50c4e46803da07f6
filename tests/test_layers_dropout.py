"""Dropout's masks belong to examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.layers import Dropout
from nin_jax.layers.dropout import threshold


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


@pytest.mark.parametrize("shape", [(1001,), (3, 5, 7), ()])
def test_values_of_an_example_are_drawn_apart(shape):
  """Each 32-bit word decides over several values: none of them twice, and any number of values has its bits."""
  zeros = drop(jnp.ones((2000, *shape)), np.arange(2000)).reshape(2000, -1) == 0
  assert np.all(np.abs(zeros.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(2000))
  correlation = np.corrcoef(zeros[:, :200].T) - np.eye(min(zeros.shape[1], 200))
  assert np.abs(correlation).max() < 6 / np.sqrt(2000)


@pytest.mark.parametrize(
  ("rate", "bits", "below"),
  [
    (0.5, 8, 128),
    (0.25, 8, 192),
    (1 / 256, 8, 255),
    (0.1, 16, 58_982),
    (0.4, 16, 39_322),
    (0.7, 16, 19_661),
    (0.0001, 32, round(0.9999 * 2**32)),
    (1e-12, 32, 2**32 - 1),
    (1 - 1e-12, 32, 1),
  ],
)
def test_the_fewest_bits_that_meet_the_rate(rate, bits, below):
  assert threshold(rate) == (bits, below)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_over_all_bits_the_mean_is_exactly_kept(rate, dtype, monkeypatch):
  bits, below = threshold(rate)
  every = np.arange(2**bits, dtype=f"uint{bits}").view(np.uint32)
  monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.asarray(every).reshape(shape))
  y = drop(jnp.ones((1, 2**bits), dtype), [0], rate).astype(np.float64)
  assert np.count_nonzero(y) == below
  tolerance = 1e-7 if dtype == "float32" else 2**-9  # of one rounding to the nearest
  np.testing.assert_allclose(y.mean(), 1.0, rtol=tolerance)


def test_in_bfloat16_the_scale_is_not_rounded():
  x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (64, 4000)), jnp.bfloat16)
  y = drop(x, np.arange(64), 0.1).astype(np.float64)
  kept = y != 0
  below = threshold(0.1)[1]
  np.testing.assert_allclose(y[kept].sum() / np.asarray(x, np.float64)[kept].sum(), 2**16 / below, rtol=1e-4)


@pytest.mark.parametrize("rate", [1e-12, 1e-4, 1 - 1e-4])
def test_rates_at_the_ends(rate):
  y = drop(jnp.ones((10, 10_000)), np.arange(10), rate)
  zeros = np.count_nonzero(y == 0)
  assert abs(zeros - rate * 100_000) <= 5 * np.sqrt(100_000 * rate * (1 - rate)) + 1e-6


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.7])
def test_the_rate_is_that_of_zeros_and_the_mean_is_kept(rate):
  y = drop(jnp.full((64, 400), 3.0), np.arange(64), rate)
  zeros = np.mean(y == 0)
  deviation = np.sqrt(rate * (1 - rate) / y.size)
  assert abs(zeros - rate) < 4 * deviation
  bits, below = threshold(rate)
  np.testing.assert_allclose(y[y != 0], 3 * 2**bits / below, rtol=1e-6)
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
