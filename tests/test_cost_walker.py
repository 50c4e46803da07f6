"""The walker: counts by the formula, whatever the program is wrapped in, and the papers' numbers."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from nin_jax import cost

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True)


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


@BOUNDED
@given(
  size=st.integers(1, 6), kernel=st.integers(1, 5), stride=st.integers(2, 3), padding=st.sampled_from(["SAME", "VALID"])
)
def test_a_transposed_convolution_meets_each_tap_once_per_input_and_so_do_its_gradients(size, kernel, stride, padding):
  conv = lambda x, w: lax.conv_transpose(x, w, (stride, stride), padding)
  x, w = array(2, size, size, 3), array(kernel, kernel, 3, 4)
  macs = 2 * size**2 * kernel**2 * 3 * 4
  total = cost.analyze(jax.grad(lambda x, w: (conv(x, w) ** 2).sum(), (0, 1)), x, w).total
  assert (total["macs"], total["backward_macs"]) == (macs, 2 * macs)


def test_per_example_gradients_cost_what_the_batch_gradient_does():
  conv = lambda x, w: lax.conv_general_dilated(x[None], w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  gradients = jax.vmap(jax.grad(lambda w, x: (conv(x, w) ** 2).sum()), (None, 0))
  total = cost.analyze(gradients, array(3, 3, 2, 4), array(5, 7, 7, 2)).total
  assert total["macs"] == total["backward_macs"] == 5 * 4 * 4 * 9 * 2 * 4


class Cccp(nn.Module):
  widths: tuple[int, int, int]
  kernel: int
  pool: bool = True

  @nn.compact
  def __call__(self, x):
    for name, width, k in zip(("conv", "cccp1", "cccp2"), self.widths, (self.kernel, 1, 1), strict=True):
      x = nn.relu(nn.Conv(width, (k, k), name=name)(x))
    return nn.max_pool(x, (3, 3), (2, 2), ((0, 1), (0, 1))) if self.pool else x


class NIN(nn.Module):
  block: type[nn.Module] = Cccp

  @nn.compact
  def __call__(self, x):
    x = self.block((192, 160, 96), 5, name="block1")(x)
    x = self.block((192, 192, 192), 5, name="block2")(x)
    x = self.block((192, 192, 10), 3, pool=False, name="block3")(x)
    return x.mean((1, 2))


IMAGE = array(1, 32, 32, 3)


def shapes(module, *args):
  return jax.eval_shape(module.init, jax.random.key(0), *args)["params"]


def forward(module, params, *args):
  return cost.analyze(lambda params, *args: module.apply({"params": params}, *args), params, *args, params=params)


def training(module, params, x):
  loss = lambda params, x: (module.apply({"params": params}, x) ** 2).sum()
  return cost.analyze(jax.jit(jax.grad(loss)), params, x, params=params)


def test_the_cifar10_network_in_network_costs_what_its_authors_definition_does():
  params = shapes(NIN(), IMAGE)
  counted = forward(NIN(), params, IMAGE)
  macs = [14745600, 31457280, 15728640, 117964800, 9437184, 9437184, 21233664, 2359296, 122880]
  assert [layer.macs for layer in counted.layers if layer.macs] == macs
  assert (counted.total["macs"], counted.total["params"]) == (222_486_528, 966_986)
  assert [counted[f"block{i}/conv"].receptive_field for i in (1, 2, 3)] == [5, 15, 27]
  assert [layer.path for layer in counted.layers if layer.op == "pointwise"] == [
    f"block{i}/cccp{j}" for i in (1, 2, 3) for j in (1, 2)
  ]
  assert (counted["block1"].op, counted["NIN"].op) == ("max_pool", "avg_pool")
  assert counted.subtotal("block1")["macs"] == sum(macs[:3])
  assert counted.subtotal("block")["macs"] == 0


def test_training_costs_three_times_the_forward_pass_less_the_first_input_gradient():
  total = training(NIN(), shapes(NIN(), IMAGE), IMAGE).total
  assert (total["macs"], total["backward_macs"]) == (222_486_528, 2 * 222_486_528 - 14_745_600)
  assert (total["macs"] + total["backward_macs"]) / total["macs"] == pytest.approx(2.9337, abs=1e-4)
  assert total["train_flops"] == 2 * (total["macs"] + total["backward_macs"])


class Nested(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3), name="before")(x))
    x = nn.remat(Cccp)((4, 5, 6), 3, name="inner")(x)
    return nn.Conv(4, (3, 3), name="after")(x)


class Outer(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.remat(Nested)(name="outer")(x)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("module", [NIN(), NIN(nn.remat(Cccp)), Outer()])
def test_rematerialised_work_is_kept_apart_and_in_its_layer(module, jit):
  params = shapes(module, IMAGE)
  plain = forward(module, params, IMAGE)
  loss = lambda params, x: (module.apply({"params": params}, x) ** 2).sum()
  counted = cost.analyze(jax.grad(jax.jit(loss) if jit else loss), params, IMAGE, params=params)
  first = next(layer for layer in counted.layers if layer.macs)
  assert counted.total["macs"] == plain.total["macs"]
  assert counted.total["backward_macs"] == 2 * plain.total["macs"] - first.macs
  if isinstance(module, Outer):  # inside the outer block and inside the inner one; what nothing reads is left out
    assert counted.subtotal("outer/inner")["recompute_macs"] == 2 * plain.subtotal("outer/inner")["macs"]
  else:
    assert counted.total["recompute_macs"] == (plain.total["macs"] if module.block is not Cccp else 0)
  assert {layer.path for layer in counted.layers if layer.recompute_macs} <= {
    layer.path for layer in plain.layers if layer.macs
  }


def test_remat_keeps_the_layers_of_the_plain_network():
  plain = training(NIN(), shapes(NIN(), IMAGE), IMAGE)
  remat = training(NIN(nn.remat(Cccp)), shapes(NIN(), IMAGE), IMAGE)
  pick = lambda counted: {layer.path: (layer.macs, layer.backward_macs, layer.params) for layer in counted.layers}
  assert pick(plain) == pick(remat)


def matmul(x, w):
  return x @ w


X, W = array(6, 4), array(4, 4)
ONE = 6 * 4 * 4


@jax.custom_vjp
def by_hand(x, w):
  return x @ w


by_hand.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))


@jax.custom_jvp
def by_tangent(x, w):
  return x @ w


by_tangent.defjvp(lambda primals, tangents: (by_tangent(*primals), tangents[0] @ primals[1] + primals[0] @ tangents[1]))


@pytest.mark.parametrize("fn", [matmul, jax.jit(matmul), jax.checkpoint(matmul), by_hand, by_tangent])
def test_wrappers_do_not_hide_work(fn):
  assert cost.analyze(fn, X, W).total["macs"] == ONE
  total = cost.analyze(jax.grad(lambda x, w: jnp.sin(fn(x, w)).sum(), (0, 1)), X, W).total
  assert (total["macs"], total["backward_macs"]) == (ONE, 2 * ONE)


def test_a_loop_counts_each_trip_forward_and_backward():
  loop = lambda x, w: lax.scan(lambda c, b: (jnp.sin(c @ w + b), c.sum()), x, jnp.zeros((5, 6, 4)))[0].sum()
  total = cost.analyze(jax.grad(loop, (0, 1)), X, W).total
  assert (total["macs"], total["backward_macs"]) == (5 * ONE, 10 * ONE)
  nested = lambda x, w: lax.scan(lambda c, _: (lax.fori_loop(0, 3, lambda i, c: c @ w, c), None), x, None, length=5)[0]
  assert cost.analyze(nested, X, W).total["macs"] == 15 * ONE


def test_an_unknown_number_of_trips_counts_once_and_says_so():
  counted = cost.analyze(lambda x, w: lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ w, x), X, W)
  assert counted.total["macs"] == ONE
  assert any("while" in note for note in counted.notes)


def test_the_most_expensive_branch_counts():
  branches = [lambda x, w: x, lambda x, w: x @ w @ w, lambda x, w: jnp.sin(x @ w)]
  counted = cost.analyze(lambda i, x, w: lax.switch(i, branches, x, w), array(dtype=jnp.int32), X, W)
  assert counted.total["macs"] == 2 * ONE
  assert counted.total["elementwise"] < 6 * 4, "the sine of the other branch was counted too"
  assert any("cond" in note for note in counted.notes)


def test_mapped_functions_count_the_whole_batch():
  assert cost.analyze(jax.vmap(matmul, (0, None)), array(3, 6, 4), W).total["macs"] == 3 * ONE
  pmapped = jax.pmap(lambda x, w: lax.psum(x @ w, "i"), axis_name="i", in_axes=(0, None))
  assert cost.analyze(pmapped, array(1, 6, 4), W).total["macs"] == ONE


def test_products_of_any_form():
  batched = lambda a, b: jnp.einsum("gpc,gcd->pgd", a, b)
  assert cost.analyze(batched, array(3, 5, 2), array(3, 2, 7)).total["macs"] == 3 * 5 * 2 * 7
  ragged = lambda a, b, sizes: jnp.sin(lax.ragged_dot(a, b, sizes)).sum()
  total = cost.analyze(jax.grad(ragged, (0, 1)), array(6, 4), array(2, 4, 5), array(2, dtype=jnp.int32)).total
  assert (total["macs"], total["backward_macs"]) == (6 * 4 * 5, 2 * 6 * 4 * 5)


def test_unknown_work_is_shown_and_not_lost():
  def fn(x):
    with jax.named_scope("layer"):
      return jnp.fft.fft(x).real + jnp.sort(x)

  counted = cost.analyze(fn, array(8, 16))
  assert counted["other"].other == {"fft": 8 * 16, "sort": 8 * 16}
  assert counted.total["other"] == 2 * 8 * 16


def test_work_outside_scopes_is_other_and_another_shape_is_nothing():
  counted = cost.analyze(matmul, X, W)
  assert [(layer.path, layer.macs) for layer in counted.layers] == [("other", ONE)]
  assert cost.analyze(lambda x: lax.stop_gradient(x.reshape(2, 12)[None]), X).layers == ()


def test_products_that_add_nothing_up():
  """A scale is element-wise however it is written; an outer product is a matrix's gradient, and costs what it does."""
  for scaled in (lambda x, s: jnp.einsum("nhwc,nc->nhwc", x, s), lambda x, s: x * s[:, None, None]):
    total = cost.analyze(scaled, array(1, 8, 8, 4), array(1, 4)).total
    assert (total["macs"], total["elementwise"]) == (0, 256)
  assert cost.analyze(lambda a, b: jnp.einsum("i,j->ij", a, b), array(3), array(5)).total["macs"] == 15
  total = cost.analyze(jax.grad(lambda x, w: jnp.sin(x @ w).sum(), (0, 1)), array(3), array(3, 5)).total
  assert (total["macs"], total["backward_macs"]) == (15, 30)
  each = jax.vmap(jax.grad(lambda w, x: jnp.sin(x @ w).sum()), (None, 0))
  assert cost.analyze(each, array(3, 5), array(7, 3)).total["backward_macs"] == 7 * 15


def test_elementwise_work_is_per_output_and_reductions_per_input():
  def fn(x):
    with jax.named_scope("layer"):
      return jnp.exp(x).sum(0)

  assert cost.analyze(fn, X)["layer"].elementwise == 24 + 24
  pool = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
  assert cost.analyze(pool, array(1, 7, 7, 2)).total["elementwise"] == 3 * 3 * 2 * 9
