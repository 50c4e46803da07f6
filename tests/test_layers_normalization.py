"""Batch statistics: over which examples, in which type, and how they run on."""

import jax
import jax.numpy as jnp
import numpy as np

from nin_jax import ops
from nin_jax.layers import LocalResponseNorm, batch_norm

X = np.random.default_rng(0).normal(3, 2, size=(8, 4, 3, 5)).astype(np.float32)
GROUPS = X.reshape(2, 4, 4, 3, 5)


def run(norm, x):
  """Normalises and gives the running statistics, in one jitted call."""
  variables = norm.init(jax.random.key(0), x)
  return jax.jit(lambda x: norm.apply(variables, x, mutable=["batch_stats"]))(x)


def over_groups(axis_name):
  norm = batch_norm(train=True, dtype=jnp.float32, axis_name=axis_name)()
  variables = norm.init(jax.random.key(0), GROUPS[0])
  call = lambda x: norm.apply(variables, x, mutable=["batch_stats"])
  return jax.jit(jax.vmap(call, axis_name="devices"))(GROUPS)


def normalized(x):
  x = np.float64(x)
  axes = tuple(range(x.ndim - 1))
  return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def test_with_an_axis_name_statistics_are_those_of_the_whole_batch():
  y, state = over_groups("devices")
  np.testing.assert_allclose(np.reshape(y, X.shape), normalized(X), rtol=1e-3, atol=1e-4)
  want, want_state = run(batch_norm(train=True, dtype=jnp.float32)(), X)
  np.testing.assert_allclose(np.reshape(y, X.shape), want, rtol=1e-4, atol=1e-5)
  for leaf, want_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(want_state), strict=True):
    for device in range(2):
      np.testing.assert_allclose(leaf[device], want_leaf, rtol=1e-4)


def test_without_an_axis_name_each_device_has_its_own():
  y, state = over_groups(None)
  for device in range(2):
    np.testing.assert_allclose(y[device], normalized(GROUPS[device]), rtol=1e-3, atol=1e-4)
  mean = state["batch_stats"]["mean"]
  assert np.abs(mean[0] - mean[1]).max() > 0.01


def test_running_statistics_move_by_one_less_momentum_and_are_used_in_evaluation():
  options = dict(dtype=jnp.float32, momentum=0.7, epsilon=1e-3)
  _, state = run(batch_norm(train=True, **options)(), X)
  mean, var = X.mean((0, 1, 2)), X.var((0, 1, 2))
  stats = state["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.3 * mean, rtol=1e-4)
  np.testing.assert_allclose(stats["var"], 0.7 + 0.3 * var, rtol=1e-4)
  norm = batch_norm(train=False, **options)()
  variables = {"params": {"scale": np.full(5, 2.0, np.float32), "bias": np.ones(5, np.float32)}, **state}
  want = 2 * (X - 0.3 * mean) / np.sqrt(0.7 + 0.3 * var + 1e-3) + 1
  np.testing.assert_allclose(norm.apply(variables, X), want, rtol=1e-4, atol=1e-4)


def test_statistics_of_bfloat16_maps_are_taken_in_float32():
  x = jnp.asarray(100 + np.random.default_rng(1).normal(size=(16, 8, 8, 4)), jnp.bfloat16)
  norm = batch_norm(train=True, dtype=jnp.bfloat16, momentum=0.0)()
  y, state = run(norm, x)
  assert y.dtype == jnp.bfloat16
  stats = state["batch_stats"]
  assert stats["mean"].dtype == stats["var"].dtype == jnp.float32
  np.testing.assert_allclose(stats["mean"], np.float64(x).mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(stats["var"], np.float64(x).var((0, 1, 2)), rtol=0.02)


def test_local_response_norm_hands_its_fields_on():
  layer = LocalResponseNorm(size=3, alpha=0.5, beta=0.6, k=2.0)
  np.testing.assert_allclose(layer.apply({}, X), ops.local_response_norm(X, 3, 0.5, 0.6, 2.0), rtol=1e-6)
