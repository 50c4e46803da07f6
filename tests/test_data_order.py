import numpy as np
import pytest

from nin_jax.data import order


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 10), (7, 20), (128, 1)])
def test_each_epoch_sees_every_example_once(size, batch_size):
  epochs = 6
  steps = epochs * size // batch_size + 1
  visited = np.concatenate([order.batch(5, step, batch_size, size) for step in range(steps)])
  assert visited.dtype == np.int32
  for epoch in range(epochs):
    assert sorted(visited[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_a_batch_is_a_function_of_seed_and_step():
  forwards = [order.batch(1, step, 30, 100) for step in range(20)]
  order.permutation.cache_clear()
  backwards = [order.batch(1, step, 30, 100) for step in reversed(range(20))][::-1]
  np.testing.assert_array_equal(forwards, backwards)
  assert not np.array_equal(order.permutation(1, 0, 100), order.permutation(2, 0, 100))
  assert not np.array_equal(order.permutation(1, 0, 100), order.permutation(1, 1, 100))


def test_seeds_may_be_any_integer():
  assert sorted(order.permutation(-1, 0, 50)) == list(range(50))


def test_the_order_stays_the_same_over_machines_and_versions():
  """A change here makes interrupted runs resume differently: bump it only on purpose."""
  assert order.permutation(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
  assert order.permutation(3, 2, 8).tolist() == [2, 4, 1, 3, 6, 5, 0, 7]


def test_permutations_are_uniform():
  counts = np.zeros((5, 5))
  for epoch in range(4000):
    counts[np.arange(5), order.permutation(0, epoch, 5)] += 1
  assert np.abs(counts / 4000 - 0.2).max() < 0.03  # five standard deviations


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 64])
def test_padded_batches_hold_each_example_once(batch_size):
  batches = list(order.padded_batches(batch_size, 10))
  assert all(batch.shape == (batch_size,) and batch.dtype == np.int32 for batch in batches)
  flat = np.concatenate(batches)
  np.testing.assert_array_equal(flat[:10], np.arange(10))
  assert (flat[10:] == -1).all()
  assert len(flat) - 10 < batch_size
