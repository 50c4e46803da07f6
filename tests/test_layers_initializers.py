"""Initialisers against the distributions that the sources give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.layers import kernel_initializer

SHAPES = [(3, 3, 64, 100), (576, 100)]  # fan_in 576 both


def draw(name, shape, **options):
  return np.float64(kernel_initializer(name, **options)(jax.random.key(0), shape, jnp.float32))


def kurtosis(w):
  return np.mean(w**4) / np.mean(w**2) ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_has_the_given_deviation_whatever_the_fan(shape):
  for w, std in ((draw("gaussian", shape), 0.05), (draw("gaussian", shape, std=0.001), 0.001)):
    np.testing.assert_allclose(w.std(), std, rtol=0.02)
    assert abs(w.mean()) < 5 * std / np.sqrt(w.size)
    np.testing.assert_allclose(kurtosis(w), 3, rtol=0.05)
    assert np.abs(w).max() > 3 * std  # not cut off


@pytest.mark.parametrize("shape", SHAPES)
def test_xavier_is_caffes_uniform_of_variance_1_by_fan_in(shape):
  w = draw("xavier", shape)
  bound = np.sqrt(3 / 576)
  assert np.abs(w).max() <= bound
  assert np.abs(w).max() > 0.999 * bound
  np.testing.assert_allclose(w.var(), 1 / 576, rtol=0.02)
  np.testing.assert_allclose(kurtosis(w), 1.8, rtol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_he_is_normal_of_variance_2_by_fan_in(shape):
  w = draw("he", shape)
  np.testing.assert_allclose(w.var(), 2 / 576, rtol=0.02)
  np.testing.assert_allclose(kurtosis(w), 3, rtol=0.05)


def test_the_fan_of_a_grouped_kernel_is_that_of_one_group():
  np.testing.assert_allclose(draw("he", (7, 7, 1, 2000)).var(), 2 / 49, rtol=0.03)


def test_another_name_is_refused():
  with pytest.raises(ValueError, match="'glorot': accepted is one of gaussian, xavier, he"):
    kernel_initializer("glorot")
