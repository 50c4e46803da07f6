"""Local response normalisation against the formula, channel by channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import ops

local_response_norm = jax.jit(ops.local_response_norm, static_argnums=1, static_argnames="size")


def naive(x, size, alpha, beta, k):
  x, channels = np.float64(x), x.shape[-1]
  y = np.zeros_like(x)
  for c in range(channels):
    window = x[..., max(0, c - size // 2) : min(channels, c + size // 2 + 1)]
    y[..., c] = x[..., c] / (k + alpha / size * (window**2).sum(-1)) ** beta
  return y


@pytest.mark.parametrize(
  ("size", "alpha", "beta", "k"),
  [(5, 1e-4, 0.75, 1.0), (5, 2.0, 0.75, 1.0), (3, 0.5, 0.5, 2.0), (1, 1.0, 1.0, 1.0), (9, 1.0, 0.75, 1.0)],
)
def test_values_are_those_of_the_formula(size, alpha, beta, k):
  x = np.random.default_rng(0).normal(scale=10, size=(2, 3, 2, 7)).astype(np.float32)
  y = local_response_norm(x, size, alpha, beta, k)
  np.testing.assert_allclose(y, naive(x, size, alpha, beta, k), rtol=1e-5)


def test_googlenets_values_are_the_defaults():
  x = np.random.default_rng(1).normal(scale=100, size=(4, 4, 8)).astype(np.float32)
  np.testing.assert_allclose(local_response_norm(x), naive(x, 5, 1e-4, 0.75, 1.0), rtol=1e-5)


def test_bfloat16_is_rounded_once():
  x = jnp.asarray(np.random.default_rng(2).normal(scale=10, size=(2, 3, 3, 16)), jnp.bfloat16)
  y = local_response_norm(x, 5, 1.0, 0.75)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(y), naive(x, 5, 1.0, 0.75, 1.0), rtol=2**-8)


def test_a_window_has_a_middle():
  with pytest.raises(ValueError, match=r"size=4: accepted is an odd"):
    local_response_norm(jnp.zeros((1, 1, 8)), size=4)
