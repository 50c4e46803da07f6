"""Convolutions of any layout and their derivatives of any order, against a count of each product that is made."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jax import lax

from nin_jax import cost
from nin_jax.cost import program

BOUNDED = settings(max_examples=40, deadline=None, derandomize=True)
NHWC = ("NHWC", "HWIO", "NHWC")


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def by_hand(sizes, kernel, outputs, strides, padding, spread, dilation):
  """Pairs of positions along all axes, listed one by one: what `macs` counts, padding included."""
  total = 1
  for size, taps, out, stride, (before, after), gap, step in zip(
    sizes, kernel, outputs, strides, padding, spread, dilation, strict=True
  ):
    whole = step * (taps - 1)
    full = gap == stride == 1 and taps > 1 and before == after == whole
    if full or (gap > 1 and stride == 1):  # transposed: each input meets each tap
      pairs = list(itertools.product(range(size), range(taps)))
    else:  # each output meets each tap that falls on the input's grid, which goes on in the padding
      meets = lambda o, t, stride=stride, before=before, gap=gap, step=step: (o * stride + t * step - before) % gap == 0
      pairs = [pair for pair in itertools.product(range(out), range(taps)) if meets(*pair)]
    total *= len(pairs)
  return total


@st.composite
def convolutions(draw):
  """A random convolution: (function, x, w, MACs counted by hand)."""
  rank = draw(st.integers(1, 2))
  small = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
  sizes, kernel, strides, dilation = small(1, 7), small(1, 4), small(1, 3), small(1, 2)
  spread = draw(st.sampled_from([(1,) * rank, (1,) * rank, small(1, 3)]))
  named = draw(st.sampled_from(["SAME", "VALID", None])) if set(spread) == {1} else None
  if named:
    reach = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    padding = lax.padtype_to_pads(sizes, reach, strides, named)
  else:
    padding = tuple((draw(st.integers(-1, 4)), draw(st.integers(-1, 4))) for _ in range(rank))
  groups, of_batch = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2)]))
  batch, depth = of_batch * draw(st.integers(1, 3)), draw(st.integers(1, 3))
  features = groups * of_batch * draw(st.integers(1, 3))
  layouts = st.permutations("NCHW"[: 2 + rank]), st.permutations("OIHW"[: 2 + rank])
  layout = tuple("".join(draw(layouts[i])) for i in (0, 1, 0))
  axes = [letter for letter in layout[1] if letter in "HW"]  # strides and the like go by the kernel's order
  place = lambda spec, where: tuple(where[letter] for letter in spec)
  x = array(*place(layout[0], {"N": batch, "C": groups * depth, **dict(zip(axes, sizes, strict=True))}))
  w = array(*place(layout[1], {"I": depth, "O": features, **dict(zip(axes, kernel, strict=True))}))
  conv = lambda x, w: lax.conv_general_dilated(
    x, w, strides, padding, spread, dilation, layout, feature_group_count=groups, batch_group_count=of_batch
  )
  try:
    y = jax.eval_shape(conv, x, w)
  except (TypeError, ValueError):  # negative padding larger than the input
    assume(False)
  assume(math.prod(y.shape) > 0)
  outputs = [y.shape[layout[2].index(axis)] for axis in axes]
  pairs = by_hand(sizes, kernel, outputs, strides, padding, spread, dilation)
  return conv, x, w, pairs * batch // of_batch * features * depth


def convolution_macs(fn, *args):
  """Of each convolution that is left in a program."""
  return [o.work.macs for o in program.trace(fn, *args).operations if o.primitive == "conv_general_dilated"]


@BOUNDED
@given(convolutions())
def test_every_convolution_of_every_derivative_costs_what_the_forward_one_does(case):
  conv, x, w, macs = case
  assert convolution_macs(conv, x, w) == [macs]
  loss = lambda x, w: jnp.sin(conv(x, w)).sum()
  penalty = lambda x, w: sum((g**2).sum() for g in jax.grad(loss, (0, 1))(x, w))
  total = cost.analyze(jax.grad(loss, (0, 1)), x, w).total
  assert (total["macs"], total["backward_macs"]) == (macs, 2 * macs)
  found = convolution_macs(jax.grad(penalty, (0, 1)), x, w)
  assert len(found) > 6
  assert set(found) == {macs}
  tangent = lambda x, w: jax.jvp(jax.grad(loss, (0, 1)), (x, w), (x, w))[1]
  assert set(convolution_macs(tangent, x, w)) == {macs}


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("depth", [1, 3])
def test_learning_to_learn_counts_each_convolution_once(kernel, depth):
  """MAML and a penalty on the weights' gradient: stride 1 and 8 → 8 channels, so that all cost the same."""

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      for i in range(depth):
        x = jnp.tanh(nn.Conv(8, (kernel, kernel), use_bias=False, name=f"c{i}")(x))
      return x

  x = array(2, 6, 6, 8)
  variables = jax.eval_shape(Net().init, jax.random.key(0), x)
  loss = lambda p, x: Net().apply(p, x).sum()
  step = lambda p, x: jax.tree.map(lambda w, g: w - 0.1 * g, p, jax.grad(loss)(p, x))
  first = 3 * depth - 1  # no gradient of the image
  maml = jax.grad(lambda p, x, y: loss(step(p, x), y))
  penalty = jax.grad(lambda p, x: sum((g**2).sum() for g in jax.tree.leaves(jax.grad(loss)(p, x))))
  one = 2 * 36 * 64 * kernel**2
  for fn, args in ((jax.grad(loss), (x,)), (maml, (x, x)), (penalty, (x,))):
    total = cost.analyze(fn, variables, *args, params=variables["params"]).total
    convolutions = str(jax.make_jaxpr(fn)(variables, *args)).count("= conv_general_dilated")
    assert convolutions >= first
    assert total["macs"] + total["backward_macs"] == convolutions * one


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_each_example_and_second_derivatives_by_tangents(stride):
  """Mapped, the arrays of a derivative have more channels than those of the forward convolution."""
  conv = lambda x, w: lax.conv_transpose(x, w, (stride,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
  loss = lambda x, w: jnp.sin(conv(x[None], w)).sum()
  one = 6 * 3 * 2 * 3
  assert convolution_macs(jax.vmap(jax.grad(loss, (0, 1)), (0, None)), array(5, 6, 2), array(3, 2, 3)) == [5 * one] * 3
  assert convolution_macs(jax.vmap(jax.grad(loss, (0, 1))), array(5, 6, 2), array(5, 3, 2, 3)) == [5 * one] * 3
  second = convolution_macs(jax.hessian(loss, 1), array(6, 2), array(3, 2, 3))
  assert second == [one, 18 * one, 18 * one]


def test_a_layer_that_looks_like_the_gradient_of_another_one_has_its_own_count():
  """5 taps on 3 positions, padded, and 3 taps on 5 positions, not padded, are the same form along one axis."""
  small = lambda x, w: lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
  large = lambda x, w: lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
  both = lambda x, w, y, v: jnp.sin(small(x, w)).sum() + jnp.sin(large(y, v)).sum()
  args = array(1, 3, 4), array(5, 4, 6), array(1, 5, 7), array(3, 7, 2)
  assert convolution_macs(both, *args) == [3 * 5 * 4 * 6, 3 * 3 * 7 * 2]
  found = convolution_macs(jax.grad(both, (0, 1, 2, 3)), *args)
  assert sorted(found) == [3 * 3 * 7 * 2] * 3 + [3 * 5 * 4 * 6] * 3


def test_two_layouts_in_one_scope():
  first = lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=NHWC)
  second = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("HWNC", "HWIO", "HWNC"))
  loss = lambda x, w, v: (second(jnp.transpose(jnp.sin(first(x, w)), (1, 2, 0, 3)), v) ** 2).sum()
  one = 2 * 16 * 9 * 15 + 2 * 16 * 9 * 20
  total = cost.analyze(jax.grad(loss, (0, 1, 2)), array(2, 8, 8, 3), array(3, 3, 3, 5), array(3, 3, 5, 4)).total
  assert (total["macs"], total["backward_macs"]) == (one, 2 * one)
  mixed = lambda x, w: lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("CHWN", "HWIO", "NHWC"))
  gradient = jax.grad(lambda x, w: jnp.square(mixed(x, w)).sum(), (0, 1))
  total = cost.analyze(gradient, array(12, 8, 8, 2), array(3, 3, 12, 20)).total
  assert total["backward_macs"] == 2 * 2 * 16 * 9 * 12 * 20


def test_published_counts_of_single_convolutions():
  transposed = lambda stride: lambda x, w: lax.conv_transpose(x, w, (stride, stride), "VALID")
  for stride in (1, 2):  # fvcore, issue 78
    assert convolution_macs(transposed(stride), array(1, 1, 1, 32), array(3, 3, 32, 1)) == [288]
  assert convolution_macs(transposed(2), array(1, 2, 2, 3), array(2, 2, 3, 1)) == [48]  # ptflops, issue 149
  depthwise = lambda x, w: lax.conv_general_dilated(
    x, w, (1, 1), [(1, 2)] * 2, (2, 2), None, NHWC, feature_group_count=4
  )
  assert convolution_macs(depthwise, array(2, 8, 8, 4), array(3, 3, 1, 4)) == [2 * 64 * 9 * 4]
  both = lambda x, w: lax.conv_general_dilated(x, w, (2, 2), [(1, 1)] * 2, (2, 2), dimension_numbers=NHWC)
  assert convolution_macs(both, array(2, 8, 8, 12), array(3, 3, 12, 20)) == [2 * 64 * 12 * 20]  # the centre tap alone


def test_a_convolution_that_may_be_transposed_is_noted():
  """One padded by its whole kernel is the same equation as a transposed one of stride 1 without padding."""

  def net(x, w):
    for name, padding in (("same", 1), ("full", 2), ("valid", 0)):
      with jax.named_scope(name):
        x = lax.conv_general_dilated(x, w, (1, 1), [(padding, padding)] * 2, dimension_numbers=NHWC)
    return x.sum()

  args = array(1, 8, 8, 3), array(3, 3, 3, 3)
  for fn in (net, jax.value_and_grad(net, (0, 1))):
    counted = cost.analyze(fn, *args)
    (note,) = counted.notes
    assert note.endswith("counts as transposed, each input with each tap: full")
    assert [row.macs for row in counted.layers if row.macs] == [64 * 81] * 3
  assert not cost.analyze(lambda x, w: lax.conv_transpose(x, w, (2, 2), "VALID"), *args).notes


@BOUNDED
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["NHWC", "NCHW"]))
@example(3, 1, 1, "NHWC")
def test_patches_move_data(kernel, channels, stride, layout):
  cut = lambda x: lax.conv_general_dilated_patches(
    x, (kernel, kernel), (stride, stride), "VALID", dimension_numbers=(layout, "HWIO", layout)
  )
  x = array(*((1, 7, 7, channels) if layout == "NHWC" else (1, channels, 7, 7)))
  assert cost.analyze(cut, x).total["macs"] == 0
  work = program.trace(jax.grad(lambda x: jnp.sin(cut(x)).sum()), x).operations
  adding = [o.work for o in work if o.primitive == "conv_general_dilated"][-1]
  taps = kernel**2 if kernel > 1 else 0  # each pixel is the sum of the taps that it went to
  assert (adding.macs, adding.elementwise) == (0, 49 * channels * taps)


def test_a_kernel_that_only_looks_like_an_identity_multiplies():
  near = lambda x: lax.conv_general_dilated(x, 2 * jnp.eye(4)[None, None], (1, 1), "SAME", dimension_numbers=NHWC)
  assert convolution_macs(near, array(1, 5, 5, 4)) == [25 * 16]


def test_a_convolution_with_a_kernel_for_each_position_costs_its_product():
  local = nn.ConvLocal(5, (3, 3), padding="VALID", use_bias=False)
  variables = jax.eval_shape(local.init, jax.random.key(0), array(1, 8, 8, 4))
  assert cost.analyze(local.apply, variables, array(1, 8, 8, 4)).total["macs"] == 36 * 9 * 4 * 5
