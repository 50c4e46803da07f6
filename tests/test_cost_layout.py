"""Which argument is the image, and which of its axes are positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export, lax

from nin_jax import cost


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def scoped(name, fn):
  return lambda *args: jax.named_scope(name)(fn)(*args)


def conv(x, w, layout="NHWC"):
  return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=(layout, "HWIO", layout))


def excited(y, axes):
  return y * jax.nn.sigmoid(y.mean(axes, keepdims=True))


def max_pool(x, window):
  return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def last_row(fn, *args, **options):
  layer = cost.analyze(fn, *args, **options).layers[-1]
  return layer.receptive_field, layer.jump


W = array(3, 5, 4, 4)


@pytest.mark.parametrize(
  ("layout", "shape"), [("NHWC", (2, 16, 12, 4)), ("NCHW", (2, 4, 16, 12)), ("CHWN", (4, 16, 12, 2))]
)
def test_a_convolution_says_which_axes_are_positions(layout, shape):
  layer = scoped("a", lambda x, w: conv(x, w, layout)[(slice(None),) * layout.index("W") + (slice(None, None, 2),)] * 2)
  assert last_row(layer, array(*shape), W, image=0) == ([3, 5], [1, 2])


def test_an_image_may_come_without_a_batch():
  layer = scoped("a", lambda x, w: conv(x[None], w)[0] * 2.0)
  assert last_row(layer, array(16, 12, 4), W, image=0) == ([3, 5], 1)
  for axes in ((0, 1), (1, 2)):  # squeeze-and-excitation of one image; [channels, height, width] the second time
    x, order = (array(16, 12, 4), "NHWC") if axes == (0, 1) else (array(4, 16, 12), "NCHW")
    gate = lambda x, w, axes=axes, order=order: scoped("se", lambda y: excited(y, axes))(conv(x[None], w, order)[0])
    assert last_row(gate, x, W, image=0) == (None, None)


def test_a_mean_over_the_positions_of_one_image_is_no_batch_statistic():
  assert last_row(scoped("se", lambda x: excited(x[0], (0, 1))), array(1, 8, 8, 3)) == (None, None)
  assert last_row(scoped("se", lambda x: excited(x.reshape(8, 8, 3), (0, 1))), array(1, 8, 8, 3)) == (None, None)
  assert last_row(scoped("mean", lambda x: x[0].mean((0, 1)) * 2), array(1, 8, 6, 3)) == ([8, 6], 1)
  # [height, width, channels], or a batch of sequences
  assert last_row(scoped("se", lambda x: excited(x, (0, 1))), array(8, 8, 3)) == (None, None)
  assert last_row(scoped("a", lambda x: x[::2] * 2), array(8, 8, 3)) == (None, None)
  # the statistics of a batch of one, also of flattened positions
  for flat in (False, True):
    norm = lambda x, flat=flat: (y := x.reshape(-1, 3) if flat else x) - y.mean(tuple(range(y.ndim - 1)))
    assert last_row(scoped("norm", lambda x, n=norm: n(x).reshape(x.shape) * 2), array(1, 8, 8, 3)) == (1, 1)


@pytest.mark.parametrize(
  ("shape", "window", "expected"),
  [
    ((2, 3, 8, 8), (1, 1, 4, 2), ([4, 2], [4, 2])),
    ((8, 8, 3), (4, 2, 1), ([4, 2], [4, 2])),
    ((2, 8, 8, 3), (1, 4, 2, 1), ([4, 2], [4, 2])),
    ((2, 8, 8, 3), (1, 4, 1, 1), ([4, 1], [4, 1])),
    ((2, 3, 8, 8), (1, 1, 1, 2), (None, None)),  # positions, or channels
  ],
)
def test_without_a_convolution_a_window_over_two_axes_says_it(shape, window, expected):
  assert last_row(scoped("pool", lambda x: max_pool(x, window)), array(*shape)) == expected


def test_contradictions_and_lost_axes_are_unknown():
  # Of channels first, the convolution says that the second axis holds channels; the mean came before.
  first = lambda x, w: conv(scoped("a", lambda x: x.mean((1, 2), keepdims=True) + x)(x), w, "NCHW")
  assert last_row(lambda x, w: scoped("b", first)(x, w), array(1, 4, 8, 8), W, image=0) == (None, None)
  # The convolution moves along an axis that a product has mixed, and along one of the image.
  mixed = lambda x, m, w: conv(jnp.einsum("nchw,hg->ncgw", x, m), w, "NCHW")
  assert last_row(scoped("a", mixed), array(1, 4, 8, 6), array(8, 8), W, image=0) == (None, None)


def test_a_resize_and_what_a_loop_carries_are_unknown():
  resized = scoped("a", lambda y: jax.image.resize(y, (1, 16, 8, 4), "bilinear"))
  looped = lambda y: lax.scan(
    lambda h, _: (scoped("a", lambda h: jnp.sin(y) + h[:, ::-1])(h), None), y * 0 + 1, None, 3
  )
  carried = lambda y: lax.scan(
    lambda h, _: (scoped("a", jnp.add)(jnp.roll(h, 1, 1), y), None), jnp.ones(y.shape), None, 3
  )
  for fn in (resized, looped, carried):
    counted = cost.analyze(lambda x, w, fn=fn: fn(conv(x, w)), array(1, 8, 8, 4), W)
    assert counted["a"].receptive_field is None


def test_the_image_is_what_the_first_convolution_reads():
  net = lambda x, w, mask: scoped("a", conv)(x, w) * mask
  assert cost.analyze(net, array(1, 8, 8, 4), W, array(1, 8, 8, 1))["a"].receptive_field == [3, 5]
  batch = {"image": array(1, 8, 8, 4), "labels": array(1, 8, 8, dtype=jnp.int32)}
  inside = lambda params, batch: scoped("a", conv)(batch["image"], params["w"]) * batch["labels"][..., None]
  assert cost.analyze(inside, {"w": W, "position": array(1, 8, 8, 4)}, batch)["a"].receptive_field == [3, 5]


def attention(params, ids, mask):
  x = params["embedding"][ids]
  q, k = (jnp.einsum("btd,dhk->bthk", x, params[name]) for name in "qk")
  logits = jnp.einsum("bthk,bshk->bhts", q, k)
  logits = jnp.where(mask, logits, -1e9) if mask.dtype == bool else logits + mask
  y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(logits), k)
  return scoped("out", lambda y: jnp.einsum("bthk,hkd->btd", y, params["o"]))(y)


PARAMS = {"embedding": array(50, 16), "q": array(16, 2, 8), "k": array(16, 2, 8), "o": array(2, 8, 16)}


@pytest.mark.parametrize("dtype", [bool, jnp.float32])
def test_neither_a_weight_nor_a_mask_is_an_image(dtype):
  out = cost.analyze(attention, PARAMS, array(1, 7, dtype=jnp.int32), array(1, 2, 7, 7, dtype=dtype))["out"]
  assert (out.receptive_field, out.jump, out.op, out.kernel) == (None, None, "pointwise", [1])
  # nor one of two arguments that meet
  heads = scoped("q", lambda x, w: jnp.einsum("btd,dhk->bthk", x, w))
  assert last_row(heads, array(1, 7, 16), array(16, 2, 8)) == (None, None)


@pytest.mark.parametrize("image", [2, 5, -3])
def test_an_image_past_the_arguments_is_a_mistake(image):
  with pytest.raises(ValueError, match=f"image={image}: expected"):
    cost.analyze(lambda x, y: x + y, array(1, 4, 4, 3), array(1, 4, 4, 3), image=image)
  assert cost.analyze(scoped("a", jnp.add), array(1, 4, 4, 3), array(1, 4, 4, 3), image=-1)["a"].receptive_field == 1


def strange(x, w):
  """NumPy integers wherever a geometry takes them."""
  two = np.int64(2)
  x = jnp.pad(x, np.array([(0, 0), (1, 1), (1, 1), (0, 0)]))
  dimensions = ("NHWC", "HWIO", "NHWC")
  x = lax.conv_general_dilated(x, w, np.array([2, 1]), [(two, two)] * 2, None, (two, two), dimension_numbers=dimensions)
  x = lax.reduce_window(x, -jnp.inf, lax.max, (1, two, two, 1), (1, two, two, 1), "VALID")
  x = lax.slice(x, (0, np.int64(1), 0, 0), x.shape, (1, two, 1, 1))
  x = x.reshape((np.int64(x.shape[0]), x.shape[1], -1, 4)) + jnp.take(w, np.int64(0), np.int64(0)).sum((np.int64(0), 1))
  return x + jnp.cumsum(x, axis=-1) * x.max(np.int64(3), keepdims=True)


def test_integers_of_numpy_are_integers():
  counted = cost.analyze(lambda x, w: scoped("b", jnp.sin)(scoped("a", strange)(x, w)), array(1, 16, 16, 4), W)
  # rows: 1 + 2·2, jump 2; a pool adds 2 for jump 4; strided slices 8. columns: 1 + 4·2, a pool adds 1 for jump 2
  assert (counted["a"].receptive_field, counted["a"].jump) == ([7, 10], [8, 2])
  assert "7×10" in cost.table(counted)
  assert '"receptive_field": [7, 10]' in cost.to_json(counted)
  assert "7x10" in cost.to_csv(counted)
  padded = scoped("a", lambda x: jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]) * 2)
  nested = lambda x: scoped("n", lambda x: scoped("b", jnp.sin)(padded(x)))(x)
  assert cost.analyze(lambda x: jnp.cos(nested(x)), array(1, 8, 8, 3)).by_module(1)["n"].receptive_field == 1


def test_fields_with_symbolic_dimensions():
  b, h = export.symbolic_shape("b, h")

  def net(x, w):
    x = scoped("pool", lambda x: nn.max_pool(x, (2, 2), (2, 2)))(scoped("conv", conv)(x, w))
    return scoped("head", lambda x: x.reshape(b, -1).sum(1))(x)

  counted = cost.analyze(net, array(b, h, h, 3), array(3, 3, 3, 8))
  assert (counted["conv"].receptive_field, counted["pool"].receptive_field) == (3, 4)
  assert str(counted.total["macs"]) == "216*b*h^2"
  assert "216*b*h^2" in cost.table(counted)
