"""Pools against XLA's windows, and against Caffe's and cuda-convnet's loops."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nin_jax.errors import ImageTooSmall
from nin_jax.ops import avg_pool, global_avg_pool, max_pool

# One compilation for each shape; their many slices, one by one, would be many.
max_pool = jax.jit(max_pool, static_argnames=("window", "strides", "padding", "ceil_mode"))
avg_pool = jax.jit(avg_pool, static_argnames=("window", "strides", "padding", "ceil_mode", "count_include_pad"))

APART = [  # windows that do not overlap, some with gaps between them; the last is folded axis by axis
  (2, 3, "VALID"),
  ((1, 2), (2, 3), ((0, 0), (1, 1))),
  (3, 3, ((1, 0), (0, 2))),
  (7, 8, ((0, 0), (3, 3))),
]
WINDOWS = [  # window, strides, padding; the last three are folded axis by axis
  (2, 2, "VALID"),
  (3, 2, "VALID"),
  (3, 2, "SAME"),
  (3, 1, "SAME"),
  ((2, 4), 1, ((1, 0), (3, 2))),
  ((3, 2), (1, 2), 1),
  (5, 3, ((2, 0), (1, 3))),
  ((7, 6), (2, 1), "VALID"),
  (6, 2, "SAME"),
  (7, 1, ((3, 2), (0, 6))),
]


def relued(seed, *shape):
  """Maps as they come out of a ReLU, in few different values: each window has ties."""
  x = np.random.default_rng(seed).normal(size=shape)
  return np.maximum(np.round(x), 0).astype(np.float32)


def reduce_window(x, initial, combine, window, strides, padding):
  twice = lambda value: (value, value) if isinstance(value, int) else value
  if not isinstance(padding, str):
    padding = [(0, 0), *(twice(side) for side in twice(padding)), (0, 0)]
  return lax.reduce_window(x, initial, combine, (1, *twice(window), 1), (1, *twice(strides), 1), padding)


def value_and_gradient(function, x):
  @jax.jit
  def run(x):
    y, vjp = jax.vjp(function, x)
    return y, vjp(jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype))[0]

  return run(x)


@pytest.mark.parametrize(("window", "strides", "padding"), [*WINDOWS, *APART])
def test_max_pool_is_xlas_and_so_is_its_gradient_where_values_tie(window, strides, padding):
  x = relued(0, 2, 11, 10, 3)
  y, gradient = value_and_gradient(lambda x: max_pool(x, window, strides, padding), x)
  want = value_and_gradient(lambda x: reduce_window(x, -jnp.inf, lax.max, window, strides, padding), x)
  np.testing.assert_array_equal(y, want[0])
  np.testing.assert_allclose(gradient, want[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "strides", "padding"), [WINDOWS[2], WINDOWS[4], WINDOWS[8], *APART[:2]])
def test_max_pool_of_signed_bfloat16_too(window, strides, padding):
  x = jnp.asarray(np.round(np.random.default_rng(2).normal(-1, 1, size=(2, 11, 10, 3)), 1), jnp.bfloat16)
  x = x.at[0, 0, 0, 0].set(jnp.nan).at[0, 5, 5, 1].set(-jnp.inf)
  y, gradient = value_and_gradient(lambda x: max_pool(x, window, strides, padding), x)
  wide = lambda x: reduce_window(x.astype(jnp.float32), -jnp.inf, lax.max, window, strides, padding)
  assert (y.dtype, gradient.dtype) == (jnp.bfloat16, jnp.bfloat16)
  np.testing.assert_array_equal(np.float32(y), wide(x))
  x = jnp.nan_to_num(x)  # where NaN wins, XLA's gradient goes to another place
  _, gradient = value_and_gradient(lambda x: max_pool(x, window, strides, padding), x)
  _, want = value_and_gradient(lambda x: wide(x).astype(jnp.bfloat16), x)
  np.testing.assert_allclose(np.float32(gradient), np.float32(want), rtol=2**-5, atol=2**-4)  # of sums


@pytest.mark.parametrize(("window", "strides", "padding"), [*WINDOWS, *APART])
def test_avg_pool_is_xlas_sum_over_the_windows_size(window, strides, padding):
  x = np.random.default_rng(2).normal(size=(2, 11, 10, 3)).astype(np.float32)
  taps = window**2 if isinstance(window, int) else math.prod(window)
  y, gradient = value_and_gradient(lambda x: avg_pool(x, window, strides, padding), x)
  want = value_and_gradient(lambda x: reduce_window(x, 0.0, lax.add, window, strides, padding) / taps, x)
  np.testing.assert_allclose(y, want[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient, want[1], rtol=1e-5, atol=1e-6)


def test_padding_never_wins_a_maximum():
  x = -1 - relued(3, 1, 4, 4, 2)
  assert np.all(max_pool(x, 3, 2, padding=1, ceil_mode=True) <= -1)


def caffe_pool(x, kernel, stride, pad, mode):
  """Forward_cpu of Caffe's pooling_layer.cpp on maps [h, w]; mode "cuda-convnet" divides by the map's own positions."""
  pooled = []
  for n in x.shape:
    size = math.ceil((n + 2 * pad - kernel) / stride) + 1
    if pad and (size - 1) * stride >= n + pad:
      size -= 1
    pooled.append(size)
  y = np.zeros(pooled)
  for ph, pw in itertools.product(*map(range, pooled)):
    begin = [ph * stride - pad, pw * stride - pad]
    end = [min(b + kernel, n + pad) for b, n in zip(begin, x.shape, strict=True)]
    padded_size = math.prod(e - b for b, e in zip(begin, end, strict=True))
    begin = [max(b, 0) for b in begin]
    end = [min(e, n) for e, n in zip(end, x.shape, strict=True)]
    values = np.float64(x[begin[0] : end[0], begin[1] : end[1]])
    y[ph, pw] = {
      "max": values.max(),
      "avg": values.sum() / padded_size,
      "cuda-convnet": values.mean(),
    }[mode]
  return y


CAFFE_POOLS = [  # height, width, kernel, stride, pad
  (8, 7, 3, 2, 0),
  (13, 6, 3, 2, 0),
  (14, 14, 5, 3, 0),
  (7, 8, 3, 2, 1),
  (3, 5, 2, 2, 1),  # the window that would begin in the padding is left out
  (6, 7, 4, 3, 3),
  (9, 8, 6, 5, 2),  # folded axis by axis
]


@pytest.mark.parametrize("mode", ["max", "avg", "cuda-convnet"])
@pytest.mark.parametrize(("height", "width", "kernel", "stride", "pad"), CAFFE_POOLS)
def test_ceil_mode_gives_the_values_of_caffe(height, width, kernel, stride, pad, mode):
  x = np.random.default_rng(4).normal(size=(1, height, width, 1)).astype(np.float32)
  if mode == "max":
    y = max_pool(x - 3, kernel, stride, pad, ceil_mode=True) + 3  # below zero: a padding of zeros would win
  else:
    y = avg_pool(x, kernel, stride, pad, ceil_mode=True, count_include_pad=mode == "avg")
  np.testing.assert_allclose(y[0, :, :, 0], caffe_pool(x[0, :, :, 0], kernel, stride, pad, mode), rtol=1e-5, atol=1e-6)


def test_what_ceil_mode_adds_is_not_counted():
  ones = np.ones((1, 4, 4, 1), np.float32)
  np.testing.assert_array_equal(avg_pool(ones, 3, 2, ceil_mode=True), np.ones((1, 2, 2, 1)))
  np.testing.assert_allclose(avg_pool(ones, 3, 2, padding=1)[0, 0, 0, 0], 4 / 9, rtol=1e-6)
  np.testing.assert_array_equal(avg_pool(ones, 3, 2, padding=1, count_include_pad=False), np.ones((1, 2, 2, 1)))


def test_the_3_2_ceil_pool_on_112_is_same_and_not_padding_1():
  x = np.random.default_rng(5).normal(size=(1, 112, 112, 1)).astype(np.float32)
  ceil = max_pool(x, 3, 2, ceil_mode=True)
  np.testing.assert_array_equal(ceil, max_pool(x, 3, 2, "SAME"))
  symmetric = max_pool(x, 3, 2, padding=1)
  assert ceil.shape == symmetric.shape == (1, 56, 56, 1)
  assert np.mean(np.asarray(ceil != symmetric)) > 0.3


@pytest.mark.parametrize("window", [5, 7])  # folded tap by tap, and axis by axis
def test_averages_of_bfloat16_are_summed_in_float32(window):
  x = jnp.asarray(np.random.default_rng(6).uniform(1, 2, size=(1, window, window, 64)), jnp.bfloat16)
  for y in (avg_pool(x, window)[:, 0, 0, :], global_avg_pool(x)):
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(y), np.float64(x).mean((1, 2)), rtol=2**-8)


def test_max_pool_keeps_the_type():
  x = jnp.asarray(relued(7, 1, 4, 4, 2), jnp.bfloat16)
  y = max_pool(x, 3, 2, ceil_mode=True)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(np.float32(y), max_pool(np.float32(x), 3, 2, ceil_mode=True))


def test_global_average_is_the_mean_of_each_map():
  x = np.random.default_rng(8).normal(size=(2, 5, 7, 3)).astype(np.float32)
  np.testing.assert_allclose(global_avg_pool(x), np.float64(x).mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_a_window_that_does_not_fit_is_refused(pool, ceil_mode):
  with pytest.raises(ImageTooSmall, match="window of 3 does not fit into 2"):
    pool(jnp.zeros((1, 4, 2, 1)), 3, 2, ceil_mode=ceil_mode)


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 2), (0, 2)])
def test_max_pool_lets_nan_through(place):
  x = jnp.arange(9.0).reshape(1, 3, 3, 1).at[(0, *place, 0)].set(jnp.nan)
  assert jnp.isnan(max_pool(x, 3)).all()


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
@pytest.mark.parametrize("padding", [2, ((0, 0), (0, 2))])
def test_a_window_of_padding_alone_is_refused(pool, padding):
  with pytest.raises(ValueError, match="less than the window"):
    pool(jnp.zeros((1, 4, 4, 1)), 2, padding=padding)
