"""Receptive fields of small random networks in any layout: the extent of the gradient of an output, or unknown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from nin_jax.cost import program, receptive_field

SIZES = {"N": 1, "H": 9, "W": 8, "C": 2}


class Builder:
  """An array with the names of its dimensions, and the random geometry of what is done to it."""

  def __init__(self, x, layout, seed):
    self.x, self.layout, self.random = x, layout, np.random.default_rng(seed)

  def weights(self, *shape):
    return jnp.asarray(self.random.normal(size=shape) + 0.01, jnp.float32)

  def pick(self, low, high):
    return int(self.random.integers(low, high + 1))

  def per_axis(self, of, rest):
    """One value per dimension: `of()` for positions, `rest` elsewhere."""
    return [of() if name in "HW" else rest for name in self.layout]

  def axis(self):
    return self.layout.index("HW"[self.pick(0, 1)])

  def along(self, vector, d):
    return vector.reshape([-1 if i == d else 1 for i in range(self.x.ndim)])

  def convolved(self, weight, stride, padding, dilation, spread=1):
    batched = "N" in self.layout
    layout = self.layout if batched else f"N{self.layout}"
    y = lax.conv_general_dilated(
      self.x if batched else self.x[None],
      weight,
      stride,
      padding,
      lhs_dilation=(spread, spread),
      rhs_dilation=dilation,
      dimension_numbers=(layout, "HWIO", layout),
      feature_group_count=self.x.shape[self.layout.index("C")] // weight.shape[2],
    )
    return y if batched else y[0]

  def same(self):
    c = self.x.shape[self.layout.index("C")]
    return self.convolved(self.weights(self.pick(1, 3), self.pick(1, 3), c, c), (1, 1), "SAME", (1, 1))

  def geometry(self):
    stride, dilation = ((self.pick(1, 2), self.pick(1, 2)) for _ in range(2))
    return stride, [(self.pick(0, 2), self.pick(0, 2)) for _ in range(2)], dilation


def conv(net):
  c = net.x.shape[net.layout.index("C")]
  return net.convolved(net.weights(net.pick(1, 3), net.pick(1, 3), c, 2), *net.geometry())


def depthwise(net):
  c = net.x.shape[net.layout.index("C")]
  return net.convolved(net.weights(2, 3, 1, 2 * c), *net.geometry())


def masked_conv(net):
  """As in PixelCNN: the last row of the kernel is never read."""
  c = net.x.shape[net.layout.index("C")]
  mask = (jnp.arange(3) < 2).reshape(3, 1, 1, 1)
  return net.convolved(jnp.where(mask, net.weights(3, 2, c, 2), 0), *net.geometry())


def transposed_conv(net):
  c = net.x.shape[net.layout.index("C")]
  return net.convolved(net.weights(3, 3, c, 2), (1, 1), [(2, 1), (2, 1)], (1, 1), spread=2)


def pool(net):
  window, strides = net.per_axis(lambda: net.pick(1, 3), 1), net.per_axis(lambda: net.pick(1, 2), 1)
  return lax.reduce_window(net.x, 0.0, lax.add, window, strides, "SAME" if net.pick(0, 1) else "VALID")


def pad(net):
  mode = ("constant", "edge", "wrap", "reflect")[net.pick(0, 3)]
  return jnp.pad(net.x, net.per_axis(lambda: (net.pick(0, 2), net.pick(0, 2)), (0, 0)), mode=mode)


def transpose(net):
  order = net.random.permutation(len(net.layout))
  net.layout = "".join(net.layout[d] for d in order)
  return net.x.transpose(order)


def unbatch(net):
  if "N" not in net.layout:
    net.layout = f"N{net.layout}"
    return net.x[None]
  d = net.layout.index("N")
  net.layout = net.layout.replace("N", "")
  return net.x.mean(d) if net.pick(0, 1) else jnp.squeeze(net.x, d)


def resize(net):
  shape = [n * 2 if name == "W" else n for name, n in zip(net.layout, net.x.shape, strict=True)]
  return jax.image.resize(net.x, shape, ("bilinear", "nearest")[net.pick(0, 1)])


def strided(net):
  return net.x[tuple(net.per_axis(lambda: slice(net.pick(0, 1), None, net.pick(1, 2)), slice(None)))]


def dynamic_slice(net):
  starts, sizes = [0] * net.x.ndim, list(net.x.shape)
  d = net.axis()
  starts[d], sizes[d] = (1, jnp.argmax(net.x.reshape(-1)[:2]))[net.pick(0, 1)], sizes[d] - 1
  return lax.dynamic_slice(net.x, starts, sizes)


def excited(net):
  return net.x * jax.nn.sigmoid(net.x.mean(tuple(map(net.layout.index, "HW")), keepdims=True))


def mixed(net):
  """A product along positions, with a full matrix or a triangular one."""
  d = net.axis()
  matrix = net.weights(net.x.shape[d], net.x.shape[d])
  matrix = matrix * jnp.tril(jnp.ones_like(matrix)) if net.pick(0, 1) else matrix
  return jnp.moveaxis(jnp.tensordot(net.x, matrix, (d, 0)), -1, d)


def chosen_by_position(net):
  d = net.axis()
  return jnp.where(net.along(jnp.arange(net.x.shape[d]) < 4, d), net.x, net.same())


def loop(net):
  return lax.scan(lambda h, _: (net.x + jnp.roll(h, 1, net.axis()), None), jnp.zeros_like(net.x), None, length=3)[0]


LAYERS = {
  **{f.__name__: f for f in (conv, depthwise, masked_conv, transposed_conv, pool, pad, transpose, unbatch, resize)},
  **{f.__name__: f for f in (strided, dynamic_slice, excited, mixed, chosen_by_position, loop)},
  "residual": lambda net: net.x + net.same(),
  "branches": lambda net: jnp.concatenate([net.x, net.same()], net.layout.index("C")),
  "side by side": lambda net: jnp.concatenate([net.x, net.same()], net.axis()),
  "repeat": lambda net: jnp.repeat(net.x, 2, net.axis()),
  "flip": lambda net: jnp.flip(net.x, net.axis()),
  "roll": lambda net: jnp.roll(net.x, 2, net.axis()),
  "fft": lambda net: jnp.fft.fft(net.x, axis=net.axis()).real,
  "sort": lambda net: jnp.sort(net.x, net.axis()),
  "cumsum": lambda net: jnp.cumsum(net.x, net.axis()),
  "gather": lambda net: jnp.take(net.x, np.arange(net.x.shape[d := net.axis()])[::-1].copy(), d),
  "branch": lambda net: lax.cond(net.x.sum() > -1e9, lambda: net.x, lambda: jnp.tanh(jnp.ones_like(net.x))),
}
UNDERSTOOD = {"conv", "depthwise", "pool", "transpose", "unbatch", "strided", "residual", "branches"}


def check(layout, names, seed):
  """Compares the propagated reach along each axis with the gradient at eight positions of the output."""

  def fn(x):
    net = Builder(x, layout, seed)
    for name in names:
      net.x = LAYERS[name](net)
    fn.layout = net.layout
    return net.x

  image = jax.ShapeDtypeStruct([SIZES[name] for name in layout], jnp.float32)
  traced = program.trace(fn, image)
  shape = dict(zip(fn.layout, traced.outputs[0].shape, strict=True))
  if 0 in shape.values():
    return
  record = receptive_field.propagate(traced, traced.inputs[0])[traced.outputs[0]]
  if set(names) <= UNDERSTOOD:
    assert len(record.reach) == 2
    assert None not in record.reach
  if not any(record.reach):
    return
  assert len(record.reach) == 2

  def output(x, row, column):
    at = {"H": row, "W": column}
    return fn(x)[tuple(at.get(name, slice(None)) for name in fn.layout)].sum()

  positions = [(row * shape["H"] // 4, column * shape["W"] // 2) for row in range(4) for column in range(2)]
  x = jnp.asarray(np.random.default_rng(seed).normal(size=image.shape), jnp.float32)
  gradients = jax.jit(jax.vmap(jax.grad(output), (None, 0, 0)))(x, *map(jnp.array, zip(*positions, strict=True)))
  axes = [name for name in layout if name in "HW"]
  for i, (name, reach) in enumerate(zip(axes, record.reach, strict=True)):
    if reach is None:
      continue
    others = tuple(d + 1 for d in range(x.ndim) if layout[d] != name)
    held = any(axis == i for dim in record.dims for _, axis in dim)
    for position, gradient in zip(positions, np.abs(np.asarray(gradients)).sum(others), strict=True):
      read = np.flatnonzero(gradient)
      if read.size == 0:  # all in the padding along the other axis
        continue
      if reach.jump is None:
        assert np.ptp(read) < reach.extent
        continue
      step = reach.jump * position["HW".index(name)] if held else 0
      first, last = step + reach.lo, step + reach.hi
      assert first <= read.min()
      assert read.max() <= last
      if first >= 0 and last < SIZES[name]:
        assert (read.min(), read.max()) == (first, last)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_after_a_convolution_each_layer_has_its_field_or_none(name):
  check("NHWC", ["conv", name], 3)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
  st.sampled_from(["NHWC", "NCHW", "HWC", "CHW"]),
  st.lists(st.sampled_from(sorted(LAYERS)), max_size=2),
  st.integers(0, 99),
)
def test_a_field_is_the_extent_of_the_gradient_or_unknown(layout, names, seed):
  check(layout, [*names[:1], "conv", *names[1:]], seed)
