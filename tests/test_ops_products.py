"""The products of a 1×1 and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.ops import products


@pytest.mark.parametrize("positions", [7, 4096, 5000, 4099, 16384])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_kernels_gradient_is_the_sum_over_all_positions(positions, dtype, monkeypatch):
  monkeypatch.setattr(products, "LEAST_PARTED", 0)
  rng = np.random.default_rng(0)
  x, g = (jnp.asarray(rng.normal(size=(positions, width)), dtype) for width in (6, 5))
  exact = np.float64(x).T @ np.float64(g)
  dkernel = jax.jit(products.kernel_gradient)(x, g)
  assert dkernel.dtype == jnp.float32
  np.testing.assert_allclose(dkernel, exact, rtol=1e-4, atol=1e-5 * positions**0.5)


@pytest.mark.parametrize("transposed", [False, True])
def test_stacks_of_products(transposed):
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(5, 30, 6)).astype(np.float32), rng.normal(size=(5, 30 if transposed else 6, 7))
  stack = products.each_transposed if transposed else products.each
  exact = np.swapaxes(np.float64(a), 1, 2) @ b if transposed else np.float64(a) @ b
  np.testing.assert_allclose(jax.jit(stack)(a, b.astype(np.float32)), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
  ("positions", "parts"), [(1, 1), (4096, 1), (8192, 2), (12288, 3), (25088, 4), (65536, 16), (8209, 1)]
)
def test_parts_divide_the_positions_and_are_not_small(positions, parts):
  assert products._parts(positions, products.LEAST_PARTED) == parts
  assert products._parts(positions, (products.LEAST_PARTED - 1) // positions) == 1
  for count in range(1, 60000, 271):
    of = products._parts(count, products.LEAST_PARTED)
    assert count % of == 0
    assert of == 1 or count // of >= products.PART
