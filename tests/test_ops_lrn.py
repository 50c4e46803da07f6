"""Local response normalisation against the formula, channel by channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import ops
from nin_jax.ops.lowering import lowered_as

local_response_norm = jax.jit(ops.local_response_norm, static_argnums=(1, 2, 3, 4))


def naive(x, size, alpha, beta, k):
  x, channels = np.float64(x), x.shape[-1]
  y = np.zeros_like(x)
  for c in range(channels):
    window = x[..., max(0, c - size // 2) : min(channels, c + size // 2 + 1)]
    y[..., c] = x[..., c] / (k + alpha / size * (window**2).sum(-1)) ** beta
  return y


FORMS = pytest.mark.parametrize(
  ("size", "alpha", "beta", "k"),
  [(5, 1e-4, 0.75, 1.0), (5, 2.0, 0.75, 1.0), (3, 0.5, 0.5, 2.0), (1, 1.0, 1.0, 1.0), (9, 1.0, 0.75, 1.0)],
)


@FORMS
def test_values_are_those_of_the_formula(size, alpha, beta, k):
  x = np.random.default_rng(0).normal(scale=10, size=(2, 3, 2, 7)).astype(np.float32)
  y = local_response_norm(x, size, alpha, beta, k)
  np.testing.assert_allclose(y, naive(x, size, alpha, beta, k), rtol=1e-5)


def naive_gradient(x, g, size, alpha, beta, k):
  """Of Σ g·y, from ∂y[d]/∂x[c] channel by channel."""
  x, g, channels = np.float64(x), np.float64(g), x.shape[-1]
  windows = [slice(max(0, d - size // 2), min(channels, d + size // 2 + 1)) for d in range(channels)]
  sums = np.stack([k + alpha / size * (x[..., window] ** 2).sum(-1) for window in windows], -1)
  dx = g * sums**-beta
  for d, window in enumerate(windows):
    inner = g[..., d] * x[..., d] * -beta * sums[..., d] ** (-beta - 1)
    dx[..., window] += inner[..., None] * 2 * alpha / size * x[..., window]
  return dx


@FORMS
@pytest.mark.parametrize("lowering", ["auto", "xla"])
def test_the_gradient_is_that_of_the_formula(lowering, size, alpha, beta, k):
  x, g = np.random.default_rng(3).normal(scale=10, size=(2, 2, 3, 2, 7)).astype(np.float32)

  @jax.jit
  def gradient(x, g):
    with lowered_as(lowering):
      return jax.vjp(lambda x: ops.local_response_norm(x, size, alpha, beta, k), x)[1](g)[0]

  expected = naive_gradient(x, g, size, alpha, beta, k)
  np.testing.assert_allclose(gradient(x, g), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_comes_before_the_window_is_not_computed_for_each_channel_of_it():
  """The derived gradient has a slice for each channel of the window, into which XLA fuses all that comes before."""
  text = jax.jit(jax.grad(lambda x: ops.local_response_norm(x).sum())).lower(jnp.ones((2, 3, 3, 16))).as_text()
  assert "reduce_window" in text
  assert "slice" not in text


def test_googlenets_values_are_the_defaults():
  x = np.random.default_rng(1).normal(scale=100, size=(4, 4, 8)).astype(np.float32)
  np.testing.assert_allclose(local_response_norm(x), naive(x, 5, 1e-4, 0.75, 1.0), rtol=1e-5)


def test_bfloat16_is_rounded_once():
  x = jnp.asarray(np.random.default_rng(2).normal(scale=10, size=(2, 3, 3, 16)), jnp.bfloat16)
  y = local_response_norm(x, 5, 1.0, 0.75)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(y), naive(x, 5, 1.0, 0.75, 1.0), rtol=2**-8)


def test_alpha_beta_and_k_may_be_traced():
  x = np.random.default_rng(4).normal(size=(2, 8)).astype(np.float32)
  y, dbeta = jax.value_and_grad(lambda beta: ops.local_response_norm(x, 3, 0.5, beta, 2.0).sum())(0.6)
  np.testing.assert_allclose(y, naive(x, 3, 0.5, 0.6, 2.0).sum(), rtol=1e-5)
  assert dbeta != 0


def test_a_window_has_a_middle():
  with pytest.raises(ValueError, match=r"size=4: accepted is an odd"):
    local_response_norm(jnp.zeros((1, 1, 8)), size=4)
