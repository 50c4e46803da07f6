"""The arguments of `cost.analyze`: keyword and static ones, objects that are no arrays, parameters in many forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nin_jax import cost


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


X = array(2, 4, 4, 3)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train=True, activation="relu"):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(5, name="dense")(x))
    return nn.relu(x) if activation == "relu" else x


VARIABLES = jax.eval_shape(Net().init, jax.random.key(0), X)
PARAMS = 3 * 5 + 5 + 10


def test_keywords_are_the_functions():
  counted = [
    cost.analyze(Net().apply, VARIABLES, X, train=False, activation="none"),
    cost.analyze(Net().apply, VARIABLES, X, False, "none"),
    cost.analyze(Net().apply, VARIABLES, activation="none", x=X, train=False),
    cost.analyze(lambda variables, x: Net().apply(variables, x, train=False, activation="none"), VARIABLES, X),
  ]
  assert all(one.layers == counted[0].layers for one in counted)
  elementwise = lambda **keywords: cost.analyze(Net().apply, VARIABLES, X, **keywords).total["elementwise"]
  assert elementwise(train=False) - elementwise(train=False, activation="none") == 2 * 16 * 5
  assert elementwise(mutable=["batch_stats"]) > elementwise(train=False)


def test_the_image_may_be_a_keyword():
  pooled = lambda name, x, stride: jax.named_scope(name)(lambda x: nn.max_pool(x, (1,), (stride,)))(x)
  fn = lambda x, y: (pooled("a", x, 2), pooled("b", y, 3))
  x = array(1, 9, 1)
  jumps = lambda *args, **options: [cost.analyze(fn, *args, **options)[path].jump for path in "ab"]
  assert jumps(x, x) == jumps(x, y=x) == jumps(x, y=x, image="y") == jumps(x, x, image=-1) == [None, 3]
  assert jumps(x, y=x, image=0) == jumps(y=x, x=x, image="x") == jumps(x, x, image=-2) == [2, None]
  for image in (2, -3, "z"):
    with pytest.raises(ValueError, match=f"image={image!r}: expected the position or the keyword"):
      cost.analyze(fn, x, x, image=image)


def repeated(x, count, axis):
  return jnp.stack([x] * count, axis) * 2


@pytest.mark.parametrize(
  ("args", "keywords", "static"),
  [
    ((3, 0), {}, {"static_argnums": (1, 2)}),
    ((3, 0), {}, {"static_argnums": (-2, -1)}),
    ((3, 0), {}, {"static_argnames": ("count", "axis")}),
    ((3,), {"axis": 0}, {"static_argnums": 1, "static_argnames": "axis"}),
    ((), {"count": 3, "axis": 0}, {"static_argnums": [1, 2]}),
  ],
)
def test_static_arguments_as_of_jit(args, keywords, static):
  assert cost.analyze(repeated, X, *args, **keywords, **static).total["elementwise"] == 3 * 96
  assert jax.eval_shape(jax.jit(repeated, **static), X, *args, **keywords).shape == (3, *X.shape)


def test_what_is_no_array_stays_as_it_is():
  elementwise = lambda fn, *args: cost.analyze(fn, *args).total["elementwise"]
  assert elementwise(lambda x, mask: x * 2 if mask is None else x * mask * 2, X, None) == 96
  assert elementwise(
    lambda x, flags: -x if flags["twice"] and flags["name"] == "n" else x, X, {"twice": True, "name": "n"}
  )
  assert elementwise(lambda x, fn: fn(x), X, jnp.sin) == elementwise(functools.partial(jnp.sin), X) == 96
  assert elementwise(lambda x, dtype: x.astype(dtype) + 1, X, np.float16) == 96
  assert elementwise(lambda x, n: x * n, X, 3) == elementwise(lambda x, n: x * n, X, 3.0) == 96
  assert cost.analyze(lambda x: (-x, "text", None), X).total["elementwise"] == 96
  with pytest.raises(ValueError, match="static_argnums=5"):
    cost.analyze(repeated, X, 3, 0, static_argnums=5)


def test_a_function_that_is_a_pytree_is_an_argument():
  fn = jax.tree_util.Partial(jnp.matmul, jnp.ones((3, 4)))
  assert cost.analyze(fn, array(4, 5)).total["bytes"] == 4 * (12 + 20 + 15)


def test_keywords_of_both_are_refused():
  both = lambda params, image=None: params["w"] @ image
  params, image = {"w": array(3, 4)}, array(4, 5)
  for keywords in ({"params": params, "image": image}, {"params": params}):
    with pytest.raises(TypeError, match=r"params=…: an argument of both.*lambda"):
      cost.analyze(both, **keywords)
  assert cost.analyze(lambda params, image: both(params, image=image), params, image, params=params).total["macs"] == 60
  assert cost.analyze(lambda x, fn: fn(x), X, fn=jnp.sin).total["elementwise"] == 96


def test_parameters_are_found_where_an_argument_says_so():
  assert cost.analyze(Net().apply, VARIABLES, X, False).total["params"] == PARAMS
  assert cost.analyze(Net().apply, VARIABLES, X, False, params=VARIABLES).total["params"] == PARAMS
  twice = lambda one, other, x: (Net().apply(one, x, False), Net().apply(other, x, False))
  assert cost.analyze(twice, VARIABLES, VARIABLES, X).total["params"] is None, "two have some"
  assert cost.analyze(lambda x, w: x @ w, X, array(3, 5)).total["params"] is None


def test_parameters_may_be_numbers_and_boxes():
  fn = lambda p, x: jax.named_scope("a")(lambda x: x @ p["a"]["w"] * p["a"]["scale"])(x)
  params = {"a": {"w": jnp.ones((3, 5)), "scale": 2.0, "bias": 1, "act": jnp.sin, "name": "n", "none": None}}
  assert cost.analyze(fn, params, X, params=params)["a"].params == 15 + 2
  boxed = nn.Dense(5, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, None)), name="dense")
  variables = jax.eval_shape(boxed.init, jax.random.key(0), X)
  assert isinstance(variables["params"]["kernel"], nn.Partitioned)
  counted = cost.analyze(boxed.apply, variables, X)
  assert [(layer.path, layer.params) for layer in counted.layers] == [("dense", 20)]
