"""Pools as modules hand their fields to the ops."""

import numpy as np
import pytest

from nin_jax import ops
from nin_jax.layers import AvgPool, HeadPool, MaxPool

X = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(
  ("layer", "want"),
  [
    (MaxPool(3, 2, 1, True), lambda: ops.max_pool(X, 3, 2, 1, True)),
    (MaxPool((2, 1)), lambda: ops.max_pool(X, (2, 1))),
    (AvgPool(3, 2, 1, True, False), lambda: ops.avg_pool(X, 3, 2, 1, True, count_include_pad=False)),
    (AvgPool(2, 3, "SAME"), lambda: ops.avg_pool(X, 2, 3, "SAME")),
  ],
)
def test_fields_reach_the_op(layer, want):
  np.testing.assert_array_equal(layer.apply({}, X), want())


def test_the_head_averages_the_whole_map():
  y = HeadPool().apply({}, X)
  assert y.shape == (2, 1, 1, 3)
  np.testing.assert_allclose(y[:, 0, 0], X.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_the_sliding_head_gives_one_average_for_each_place_of_the_window():
  y = HeadPool((4, 5)).apply({}, X)
  assert y.shape == (2, 3, 1, 3)
  for row in range(3):
    np.testing.assert_allclose(y[:, row, 0], X[:, row : row + 4].mean((1, 2)), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(HeadPool((6, 5)).apply({}, X), HeadPool().apply({}, X), rtol=1e-5, atol=1e-6)
