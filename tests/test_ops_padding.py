"""Padding against XLA's rule and Caffe's, and the sizes that the papers' pools give."""

import itertools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from nin_jax.errors import ImageTooSmall
from nin_jax.ops.padding import explicit_padding, pair, positions


def pooled(n, kernel, stride, padding="VALID", ceil_mode=True):
  """One dimension of a pool's output."""
  size, window, strides = (n, n), (kernel, kernel), (stride, stride)
  return positions(size, window, strides, explicit_padding(padding, size, window, strides, ceil_mode))[0]


def caffe_pooled(n, kernel, stride, pad):
  """`PoolingLayer::LayerSetUp` of Caffe's pooling_layer.cpp, for one dimension."""
  size = math.ceil((n + 2 * pad - kernel) / stride) + 1
  if pad and (size - 1) * stride >= n + pad:
    size -= 1
  return size


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
windows = st.tuples(st.integers(1, 9), st.integers(1, 9))
strides = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(size=sizes, window=windows, strides=strides, kind=st.sampled_from(["SAME", "VALID"]))
def test_same_and_valid_are_those_of_xla(size, window, strides, kind):
  assume(kind == "SAME" or all(n >= k for n, k in zip(size, window, strict=True)))
  assert explicit_padding(kind, size, window, strides) == tuple(lax.padtype_to_pads(size, window, strides, kind))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(n=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 9), pad=st.integers(0, 8))
def test_ceil_mode_has_as_many_positions_as_caffe(n, kernel, stride, pad):
  assume(pad < kernel and stride <= kernel <= n + 2 * pad)  # Caffe checks pad < kernel
  assert pooled(n, kernel, stride, pad) == caffe_pooled(n, kernel, stride, pad)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(size=sizes, window=windows, strides=strides, pad=st.integers(0, 4))
def test_ceil_mode_only_adds_at_the_end_and_leaves_no_row_out(size, window, strides, pad):
  assume(all(pad < k and s <= k <= n + 2 * pad for n, k, s in zip(size, window, strides, strict=True)))
  pads = explicit_padding(pad, size, window, strides, ceil_mode=True)
  counts = positions(size, window, strides, pads)
  for n, k, s, count, (low, high) in zip(size, window, strides, counts, pads, strict=True):
    assert low == pad
    assert high >= pad
    assert (count - 1) * s + k - low >= n  # the last window reaches the last row …
    assert (count - 1) * s - low < n  # … and begins inside the map


@pytest.mark.parametrize(
  ("network", "sizes", "kernel"),
  [
    ("NIN, CIFAR-10", (32, 16, 8), 3),
    ("NIN, MNIST", (28, 14, 7), 3),
    ("NIN, ImageNet", (54, 27, 13, 6), 3),
    ("GoogLeNet", (112, 56, 28, 14, 7), 3),
    ("GoogLeNet of torchvision, last pool", (14, 7), 2),
  ],
)
def test_map_sizes_of_the_papers(network, sizes, kernel):
  for before, after in itertools.pairwise(sizes):
    assert pooled(before, kernel, 2) == after


def test_a_3_2_ceil_pool_on_112_is_same_and_not_symmetric():
  size, window, strides = (112, 112), (3, 3), (2, 2)
  ceil = explicit_padding("VALID", size, window, strides, ceil_mode=True)
  assert ceil == explicit_padding("SAME", size, window, strides) == ((0, 1), (0, 1))
  assert ceil != explicit_padding(1, size, window, strides)


def test_caffes_and_xlas_padding_of_the_7x7_stem():
  assert explicit_padding(3, (224, 224), (7, 7), (2, 2)) == ((3, 3), (3, 3))
  assert explicit_padding("SAME", (224, 224), (7, 7), (2, 2)) == ((2, 3), (2, 3))


def test_explicit_pairs_are_top_bottom_left_right():
  assert explicit_padding(((1, 2), (0, 3)), (8, 8), (3, 3), (1, 1)) == ((1, 2), (0, 3))


def test_pair():
  assert pair(3) == (3, 3)
  assert pair((1, 2)) == (1, 2)


@pytest.mark.parametrize("padding", ["VALID", 1, ((2, 0), (0, 2))])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_a_window_that_does_not_fit_is_refused(padding, ceil_mode):
  with pytest.raises(ImageTooSmall, match="window of 7"):
    explicit_padding(padding, (4, 4), (7, 7), (1, 1), ceil_mode)


def test_an_unknown_padding_is_refused():
  with pytest.raises(ValueError, match="'FULL': accepted is VALID, SAME"):
    explicit_padding("FULL", (8, 8), (3, 3), (1, 1))
