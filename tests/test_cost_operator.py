"""The kind of a layer, told from its operations alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from nin_jax import cost


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def kind(fn, *args, **options):
  def scoped(*args):
    with jax.named_scope("layer"):
      return fn(*args)

  layer = cost.analyze(scoped, *args, **options)["layer"]
  return layer.op, layer.kernel


QKV = [array(2, 7, 4, 8)] * 3


def self_attention(x, wq, wk):
  return jax.nn.softmax(jnp.einsum("btk,bsk->bts", x @ wq, x @ wk)) @ x


@pytest.mark.parametrize(
  ("fn", "args"),
  [
    (jax.nn.dot_product_attention, QKV),
    (lambda x: x[0] @ x[0].T, [array(1, 7, 16)]),
    (self_attention, [array(2, 7, 16), array(16, 8), array(16, 8)]),
    (lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x), [array(2, 8, 8, 3)]),  # a Gram matrix
    (lambda ids, p: (y := p["e"][ids]) @ y.swapaxes(1, 2), [array(2, 7, dtype=jnp.int32), {"e": array(50, 16)}]),
    (lambda x: jax.image.resize(x, (1, 16, 16, 3), "bilinear"), [array(1, 8, 8, 3)]),
    (lambda x: jax.image.resize(x, (1, 3, 4, 4), "cubic"), [array(1, 3, 8, 8)]),
  ],
)
def test_a_product_without_weights_is_a_product_and_has_no_kernel(fn, args):
  assert kind(fn, *args) == ("product", None)


def test_a_resize_counts_as_the_products_that_run_and_says_so():
  """XLA multiplies by the whole matrices; bilinear interpolation has four taps."""
  resize = lambda x: jax.image.resize(x, (1, 16, 16, 3), "bilinear")
  counted = cost.analyze(resize, array(1, 8, 8, 3))
  assert counted.total["macs"] == 16 * 8 * 8 * 3 + 16 * 16 * 8 * 3
  assert any("resize" in note for note in counted.notes)
  assert not cost.analyze(jnp.matmul, array(4, 8), array(8, 8)).notes


@pytest.mark.parametrize(
  ("equation", "shapes", "expected"),
  [
    ("nhwc,cd->nhwd", [(1, 8, 8, 3), (3, 5)], ("pointwise", [1, 1])),
    ("nchw,cd->ndhw", [(1, 3, 8, 8), (3, 5)], ("pointwise", [1, 1])),
    ("nhwgc,gcd->nhwgd", [(1, 8, 8, 2, 3), (2, 3, 5)], ("pointwise", [1, 1])),
    ("btd,dhk->bthk", [(1, 7, 16), (16, 2, 8)], ("pointwise", [1])),
    ("nhwc,hwcd->nd", [(1, 8, 8, 3), (8, 8, 3, 5)], ("dense", None)),
    ("nc,cd->nd", [(4, 3), (3, 5)], ("dense", None)),
  ],
)
def test_a_product_with_weights_is_pointwise_or_dense(equation, shapes, expected):
  x, w = (array(*shape) for shape in shapes)
  assert kind(lambda x, w: jnp.einsum(equation, x, w), x, w) == expected


def test_weights_that_are_shared_with_an_embedding_are_still_weights():
  tied = lambda p, ids: p["e"][ids] @ p["e"].T
  assert kind(tied, {"e": array(50, 16)}, array(2, 7, dtype=jnp.int32))[0] == "pointwise"


def test_a_product_along_the_positions_is_dense():
  """As in an MLP-mixer: each new position reads all of the old ones."""

  def mixer(x, w, m):
    with jax.named_scope("patches"):
      x = lax.conv_general_dilated(x, w, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    with jax.named_scope("mix"):
      return jnp.einsum("btc,ts->bsc", x.reshape(1, -1, 5), m)

  mix = cost.analyze(mixer, array(1, 8, 6, 3), array(2, 2, 3, 5), array(12, 9), image=0)["mix"]
  assert (mix.op, mix.kernel, mix.receptive_field, mix.jump) == ("dense", [4, 3], [8, 6], None)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_pools_in_any_layout(layout):
  shape = tuple({"N": 2, "C": 3, "H": 8, "W": 6}[name] for name in layout)
  window = tuple({"H": 2, "W": 3}.get(name, 1) for name in layout)
  positions = tuple(map(layout.index, "HW"))
  pool = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
  assert kind(pool, array(*shape)) == ("max_pool", [2, 3])
  excited = lambda x: x * jax.nn.sigmoid(x.mean(positions, keepdims=True))
  assert kind(lambda x: pool(excited(x)), array(*shape)) == ("max_pool", [2, 3])
  assert kind(lambda x: x.mean(positions), array(*shape)) == ("avg_pool", [8, 6])


WINDOW, ONES = (1, 2, 2, 1), (1, 1, 1, 1)


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda x, v: x**1.5, "elementwise"),
    (lambda x, v: jnp.sqrt(x) * v, "elementwise"),
    (lambda x, v: x / jnp.sqrt(64.0), "elementwise"),
    (lambda x, v: jnp.sqrt(jnp.square(x).sum(-1)), "elementwise"),  # a length, by which nothing is scaled
    (lambda x, v: x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)), "norm"),
    (lambda x, v: (x - 0.5) * lax.rsqrt(v + 1e-5), "norm"),
    (lambda x, v: x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * v, "norm"),
    (lambda x, v: x / (1 + lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 3), ONES, "SAME")) ** 0.75, "norm"),
    (lambda x, v: x / (1 + jnp.pad(x * x, [(0, 0)] * 3 + [(1, 0)])[..., :3] + x * x) ** 0.75, "norm"),
    (lambda x, v: lax.reduce_window(x, jnp.inf, lax.min, WINDOW, ONES, "SAME"), "elementwise"),
    (lambda x, v: lax.reduce_window(x, -jnp.inf, lax.max, WINDOW, ONES, "SAME"), "max_pool"),
  ],
)
def test_norms_scale_by_a_root_of_a_statistic_and_pools_take_means_or_maxima(fn, expected):
  def layer(x, v):
    with jax.named_scope("layer"):
      return fn(x, v)

  assert cost.analyze(layer, array(1, 8, 8, 3), array(3), image=0)["layer"].op == expected


def test_a_sum_of_rows_of_a_table_is_no_pool():
  assert kind(lambda table, i: table[i].sum(1), array(50, 16), array(2, 7, dtype=jnp.int32)) == ("elementwise", None)
  assert kind(lambda x: x.sum(1), array(2, 7, 16)) == ("avg_pool", [7])


def test_standardised_weights_are_full():
  def net(x, w):
    with jax.named_scope("conv"):
      w = (w - w.mean((0, 1, 2))) / (w.std((0, 1, 2)) + 1e-5)
      return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

  assert cost.analyze(net, array(1, 8, 8, 3), array(3, 3, 3, 5))["conv"].receptive_field == 3


def test_a_product_after_all_positions_were_gathered_is_dense():
  def net(x, w, v):
    with jax.named_scope("gather"):
      x = (x.reshape(1, -1) @ w).reshape(1, 5, 7)
    with jax.named_scope("head"):
      return x @ v

  counted = cost.analyze(net, array(1, 4, 4, 3), array(48, 35), array(7, 2), image=0)
  assert [row.op for row in counted.layers] == ["dense", "dense"]


def test_pools_after_convolutions_without_a_batch():
  w = array(3, 3, 3, 5)

  def net(x, w):
    with jax.named_scope("conv"):
      x = lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    with jax.named_scope("pool"):
      x = nn.max_pool(x[None], (2, 3), (2, 3))[0]
    with jax.named_scope("mean"):
      return x.mean((0, 1))

  counted = cost.analyze(net, array(8, 9, 3), w, image=0)
  assert [(row.op, row.kernel) for row in counted.layers] == [
    ("conv", [3, 3]),
    ("max_pool", [2, 3]),
    ("avg_pool", [4, 3]),
  ]
  assert [row.receptive_field for row in counted.layers] == [3, [4, 5], [10, 11]]


def test_constants_tell_a_kernel_s_extent():
  """Of what a function closes over, the numbers are known: an edge filter, and a kernel whose last row is zero."""
  image, spec = array(1, 8, 8, 1), ("NHWC", "HWIO", "NHWC")
  for rows, expected in (([1, 0, -1], 3), ([1, 2, 0], None)):
    kernel = np.array(rows, np.float32).reshape(3, 1, 1, 1) * np.ones((3, 3, 1, 1), np.float32)

    def edges(x, kernel=kernel):
      with jax.named_scope("edges"):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=spec)

    assert cost.analyze(edges, image)["edges"].receptive_field == expected
