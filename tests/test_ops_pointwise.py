"""The 1×1 convolution against XLA's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nin_jax.ops import pointwise, pointwise_branches


def xla(x, kernel, bias, strides, groups):
  y = lax.conv_general_dilated(
    x,
    kernel[None, None],
    (strides, strides) if isinstance(strides, int) else strides,
    "VALID",
    feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision="highest",
  )
  return y if bias is None else y + bias


def arrays(seed, *shapes):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(
  ("shape", "features", "strides", "groups", "biased"),
  [
    ((2, 5, 4, 6), 5, 1, 1, True),
    ((2, 5, 4, 6), 12, 2, 1, False),
    ((2, 5, 4, 6), 12, (1, 3), 2, True),
    ((1, 7, 1, 12), 6, 2, 3, True),
    ((3, 2, 3, 6), 6, 1, 6, False),
    ((1, 1, 1, 1), 1, 1, 1, True),
  ],
)
def test_values_and_gradients_are_those_of_a_convolution(shape, features, strides, groups, biased):
  channels = shape[-1]
  x, kernel, bias = arrays(0, shape, (channels // groups, features), (features,))
  primals = (x, kernel, bias) if biased else (x, kernel)

  @partial(jax.jit, static_argnums=0)
  def run(function, *primals):
    call = lambda x, kernel, bias=None: function(x, kernel, bias, strides, groups)
    y, vjp = jax.vjp(call, *primals)
    return y, *vjp(y * y)

  for got, want in zip(run(pointwise, *primals), run(xla, *primals), strict=True):
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_any_number_of_leading_dimensions(leading):
  x, kernel, bias = arrays(0, (*leading, 4, 5, 6), (6, 3), (3,))
  y = pointwise(x, kernel, bias, strides=(2, 3))
  np.testing.assert_allclose(y, x[..., ::2, ::3, :] @ kernel + bias, rtol=1e-5, atol=1e-5)
  assert y.shape == (*leading, 2, 2, 3)


def test_strides_are_slices_and_not_gathers():
  x, kernel = arrays(0, (1, 4, 5, 6), (6, 3))
  traced = jax.make_jaxpr(jax.grad(lambda x: pointwise(x, kernel, strides=(2, 3)).sum()))(x)
  assert "pad[" in str(traced)  # a slice's gradient
  assert "gather" not in str(traced)
  assert "scatter" not in str(traced)


def test_a_1x1_sees_one_position_only():
  """Claim 7: without a larger kernel there is no spatial structure."""
  x, kernel = arrays(1, (1, 4, 4, 3), (3, 5))
  jacobian = np.asarray(jax.jacobian(lambda x: pointwise(x, kernel))(x))[0, :, :, :, 0]  # h w d h' w' c
  for h, w, row, column in np.ndindex(4, 4, 4, 4):
    want = kernel.T if (h, w) == (row, column) else np.zeros((5, 3))
    np.testing.assert_allclose(jacobian[h, w, :, row, column], want, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 4])
def test_bfloat16_sums_and_adds_the_bias_in_float32(groups):
  """One rounding, at the end: the error is half a unit in the last place, whatever the sum cancels."""
  channels, features = 1024, 8
  x, kernel = arrays(2, (2, 4, 4, channels), (channels // groups, features))
  x, kernel = jnp.asarray(x, jnp.bfloat16), jnp.asarray(jnp.asarray(kernel, jnp.bfloat16), jnp.float32)
  exact = np.float64(x).reshape(-1, groups, channels // groups)
  exact = np.einsum("pgc,cgd->pgd", exact, np.float64(kernel).reshape(channels // groups, groups, -1))
  exact = exact.reshape(2, 4, 4, features)
  bias = -np.float32(exact[0, 0, 0])  # the sums at one position cancel against the bias
  y = pointwise(x, kernel, bias, groups=groups)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(y), exact + bias, rtol=2**-8, atol=2e-4)


def test_bfloat16_gradients_of_float32_parameters_are_float32():
  x, kernel, bias = arrays(3, (2, 4, 4, 16), (16, 8), (8,))
  x = jnp.asarray(x, jnp.bfloat16)
  (cotangent,) = arrays(4, (2, 4, 4, 8))
  cotangent = jnp.asarray(cotangent, jnp.bfloat16)
  y, vjp = jax.vjp(pointwise, x, jnp.asarray(kernel), jnp.asarray(bias))
  dx, dkernel, dbias = vjp(cotangent)
  assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
  assert dkernel.dtype == dbias.dtype == jnp.float32
  flat, want = np.float64(x).reshape(-1, 16), np.float64(cotangent).reshape(-1, 8)
  np.testing.assert_allclose(dkernel, flat.T @ want, rtol=2**-7, atol=1e-5)
  np.testing.assert_allclose(dbias, want.sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ("channels", "kernel", "groups"),
  [(6, (5, 4), 1), (6, (6, 4), 2), (6, (2, 4), 3), (5, (2, 4), 2)],
  ids=["other channels", "groups not divided out", "features not a multiple", "channels not a multiple"],
)
def test_a_kernel_that_does_not_fit_is_refused(channels, kernel, groups):
  with pytest.raises(ValueError, match=f"{kernel[0]}×{kernel[1]} in {groups} groups does not fit {channels}"):
    pointwise(jnp.zeros((1, 2, 2, channels)), jnp.zeros(kernel), groups=groups)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_branches_are_what_each_is_alone_with_its_gradients(biased, dtype):
  relus, widths = (True, False, True), (5, 1, 12)
  x, *kernels = arrays(5, (2, 4, 3, 8), *((8, width) for width in widths))
  biases = arrays(6, *((width,) for width in widths)) if biased else [None] * 3

  def alone(x, kernels, biases):
    branches = zip(kernels, biases, relus, strict=True)
    return tuple(pointwise(x, kernel, bias, relu=relu) for kernel, bias, relu in branches)

  @partial(jax.jit, static_argnums=0)
  def run(function, *primals):
    results, vjp = jax.vjp(function, *primals)
    return results, vjp(tuple(jnp.sin(y) for y in results))

  together = lambda x, kernels, biases: pointwise_branches(x, kernels, biases, relus)
  got, want = (run(function, x.astype(dtype), kernels, biases) for function in (together, alone))
  assert jax.tree.structure(got) == jax.tree.structure(want)
  tolerance = 1e-5 if dtype == jnp.float32 else 2**-6
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_branches_have_one_product_for_the_input_and_one_for_their_kernels():
  x, *kernels = arrays(7, (2, 4, 3, 8), (8, 5), (8, 3), (8, 4))
  loss = lambda x, kernels: sum(y.sum() for y in pointwise_branches(x, kernels, [None] * 3, [True] * 3))
  text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernels))
  assert text.count("dot_general") == 3 + 2


def test_branches_have_biases_all_or_none():
  x, a, b, bias = arrays(9, (1, 2, 2, 3), (3, 2), (3, 2), (2,))
  with pytest.raises(ValueError, match="all branches have a bias or none"):
    pointwise_branches(x, [a, b], [None, bias], [True, True])


@pytest.mark.parametrize("shape", [(0, 2, 3, 6), (2, 0, 3, 6), (2, 3, 0, 2, 6)])
def test_maps_may_be_empty(shape):
  x, kernels = jnp.zeros(shape), [jnp.zeros((6, 4)), jnp.zeros((6, 2))]
  results = pointwise_branches(x, kernels, [None, None], [True, False])
  assert [y.shape for y in results] == [(*shape[:-1], 4), (*shape[:-1], 2)]
  assert pointwise(x, jnp.zeros((3, 4)), groups=2).shape == (*shape[:-1], 4)
