"""Which layer work, parameters and memory traffic belong to, and what each layer is called."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

from nin_jax import cost
from nin_jax.cost import scope

X = jax.ShapeDtypeStruct((2, 8, 6, 4), jnp.float32)


def analyze(module, *args):
  variables = jax.eval_shape(module.init, jax.random.key(0), *args)
  return cost.analyze(module.apply, variables, *args, params=variables["params"])


@pytest.mark.parametrize(
  ("stack", "modules", "direction"),
  [
    ("", (), "forward"),
    ("NIN/block1/conv", ("NIN", "block1", "conv"), "forward"),
    ("jvp(NIN)/block1/conv", ("NIN", "block1", "conv"), "forward"),
    ("transpose(jvp(NIN))/block1", ("NIN", "block1"), "backward"),
    ("transpose(jvp(vmap(NIN/block1)))/conv", ("NIN", "block1", "conv"), "backward"),
    ("transpose(jvp())/NIN/rematted_computation/block1", ("NIN", "block1"), "recompute"),
    ("block1/nhwc,hwcd->nd", ("block1",), "forward"),
    ("loss(x)/v1.5", ("loss(x)", "v1.5"), "forward"),
    ("features.conv1/features.conv2", ("features.conv1", "features.conv2"), "forward"),
    (f"step/jvp({scope.module('net/~/conv')})/{scope.module('net/head')}", ("net", "head"), "forward"),
  ],
)
def test_name_stacks(stack, modules, direction):
  parsed = scope.parse(stack)
  assert (parsed.modules, parsed.direction) == (modules, direction)


@pytest.mark.parametrize(
  ("stack", "modules"),
  [
    (f"jvp(VAE.encode/{scope.METHOD}/enc.features/{scope.METHOD})/conv", ("VAE", "enc", "conv")),
    (f"NIN/NIN.features/{scope.METHOD}/conv", ("NIN", "conv")),
    ("features/features.conv1", ("features", "features.conv1")),
    ("Block.conv1", ("Block.conv1",)),
  ],
)
def test_only_marked_names_are_methods(stack, modules):
  assert scope.parse(stack).modules == modules


@pytest.mark.parametrize("names", [("features.conv1", "features.conv2"), ("Block.a", "Block.b"), ("f.0", "f.1")])
@pytest.mark.parametrize("around", [None, "features", "f", "Block"])
def test_scopes_with_dots_are_layers_of_their_own(names, around):
  def two(x, w):
    for name in names:
      with jax.named_scope(name):
        x = x @ w
    return x

  counted = cost.analyze(jax.named_scope(around)(two) if around else two, jnp.ones((4, 8)), jnp.ones((8, 8)))
  assert [(layer.path, layer.macs) for layer in counted.layers] == [(name, 4 * 8 * 8) for name in names]


class Coder(nn.Module):
  def setup(self):
    self.hidden, self.block = nn.Dense(3), Block()

  def encode(self, x):
    return self.block.features(self.hidden(x))

  def decode(self, x):
    return self.block(x)


class Block(nn.Module):
  def setup(self):
    self.a, self.b = nn.Dense(5), nn.Dense(3)

  def features(self, x):
    return self.b(self.a(x))

  def __call__(self, x):
    return self.features(x)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_methods_of_linen_belong_to_their_modules_also_if_traced_before(jitted, named):
  both = lambda module, x: module.decode(module.encode(x))
  x = jnp.ones((2, 4))
  variables = jax.eval_shape(lambda: Coder().init(jax.random.key(0), x, method=both))

  def fn(params, x):
    return Coder().apply({"params": params}, Coder().apply({"params": params}, x, method="encode"), method="decode")

  fn = jax.jit(fn) if jitted else fn
  if jitted:
    fn.lower(variables["params"], x)
  params = variables["params"] if named else None
  counted = cost.analyze(fn, variables["params"], x, params=params)
  macs = {"hidden": 2 * 4 * 3, "block/a": 2 * 2 * 3 * 5, "block/b": 2 * 2 * 5 * 3}
  assert {layer.path: layer.macs for layer in counted.layers} == macs


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (3, 3), strides=(2, 2), feature_group_count=2, name="grouped")(x)
    x = nn.LayerNorm(name="ln")(x)
    x = Flat(name="flat")(x)
    x = x.mean((1, 2))
    return nn.Dense(3, name="head")(x)


class Flat(nn.Module):
  """A strided 1×1 convolution on flattened positions, its product in a scope of its own."""

  @nn.compact
  def __call__(self, x):
    kernel = self.param("kernel", nn.initializers.ones, (8, 5))
    x = lax.slice(x, (0, 0, 0, 0), x.shape, (1, 2, 2, 1))
    with jax.named_scope("einsum"):
      y = jnp.einsum("pc,cd->pd", x.reshape(-1, 8), kernel)
    return nn.relu(nn.BatchNorm(True, name="norm")(y.reshape(*x.shape[:-1], 5)))


def test_layers_are_told_by_what_they_do():
  counted = analyze(Net(), X)
  describe = lambda path: (counted[path].op, counted[path].kernel, counted[path].strides, counted[path].groups)
  assert [layer.path for layer in counted.layers] == ["grouped", "ln", "flat", "flat/norm", "Net", "head"]
  assert describe("grouped") == ("conv", [3, 3], [2, 2], 2)
  assert describe("ln")[0] == describe("flat/norm")[0] == "norm"
  assert describe("flat") == ("pointwise", [1, 1], [2, 2], 1)
  assert describe("Net")[:2] == ("avg_pool", [2, 2])
  assert describe("head")[0] == "dense"
  assert (counted["flat"].output_shape, counted["flat"].jump) == ([2, 2, 2, 5], 4)
  assert [counted[path].macs for path in ("grouped", "flat", "head")] == [2 * 12 * 9 * 2 * 8, 8 * 8 * 5, 2 * 5 * 3]
  assert counted.total["activations"] == 2 * 12 * 8 + 8 * 5 + 2 * 3
  assert counted.total["params"] == (9 * 2 * 8 + 8) + 16 + 40 + 10 + (15 + 3)


def test_windows_as_slices_and_as_products():
  def pooled(x):
    with jax.named_scope("max"):
      taps = [lax.slice_in_dim(x, tap, x.shape[1] - 2 + tap, 2, axis=1) for tap in range(3)]
      x = jnp.maximum(jnp.maximum(taps[0], taps[1]), taps[2])
    with jax.named_scope("mean"):
      x = (x[:, :, :-1] + x[:, :, 1:]) / 2
    with jax.named_scope("window"):
      return jnp.einsum("nhwc,hwcd->nd", x, jnp.ones((3, 5, 4, 7)))

  counted = cost.analyze(pooled, X)
  describe = lambda path: (counted[path].op, counted[path].kernel, counted[path].strides)
  assert describe("max") == ("max_pool", [3, 1], [2, 1])
  assert describe("mean") == ("avg_pool", [1, 2], [1, 1])
  assert describe("window") == ("dense", [3, 5], None)


def test_a_shared_module_counts_its_parameters_once_and_its_work_each_time():
  class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
      conv = nn.Conv(4, (3, 3), name="conv")
      return conv(nn.relu(conv(x)))

  layer = analyze(Shared(), X)["conv"]
  assert (layer.params, layer.macs) == (9 * 16 + 4, 2 * 2 * 48 * 9 * 16)
  assert layer.activations == 2 * 2 * 48 * 4


def test_parameters_without_work_have_a_row_so_that_totals_are_right():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      unused = nn.Dense(5, name="unused")(x)
      del unused
      return nn.Dense(3, name="used")(x)

  params = jax.eval_shape(Net().init, jax.random.key(0), X)["params"]
  counted = cost.analyze(lambda params, x: Net().apply({"params": params}, x), params, X, params=params)
  assert counted.total["params"] == 4 * 5 + 5 + 4 * 3 + 3
  extra = {**params, "ghost": {"deep": {"kernel": jnp.ones((7, 3))}}}
  counted = cost.analyze(lambda params, x: Net().apply({"params": params}, x), params, X, params=extra)
  assert (counted["ghost/deep"].op, counted["ghost/deep"].params) == ("params", 21)


def test_the_root_is_left_out_of_paths_with_and_without_parameters():
  class Outer(nn.Module):
    def setup(self):
      self.stem, self.head = nn.Conv(4, (1, 1)), nn.Dense(2)

    def features(self, x):
      return self.stem(x)

    def __call__(self, x):
      return self.head(self.features(x))

  assert [layer.path for layer in analyze(Outer(), X).layers] == ["stem", "head"]
  variables = jax.eval_shape(Outer().init, jax.random.key(0), X)
  for fn in (Outer().apply, lambda v, x: jax.named_scope("step")(Outer().apply)(v, x)):
    assert [layer.path for layer in cost.analyze(fn, variables, X, params=variables["params"]).layers] == [
      "stem",
      "head",
    ]
  assert [layer.path for layer in cost.analyze(Outer().apply, variables, X).layers] == ["stem", "head"]
  lone = analyze(nn.Dense(3), X)
  assert [(layer.path, layer.params) for layer in lone.layers] == [("Dense", 15)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bytes_are_what_crosses_the_border(dtype):
  """Reads the float32 parameters and the image, writes the result; what lies between is fused."""

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Conv(16, (3, 3), dtype=dtype, name="conv")(x)
      return nn.relu(x) + 1

  counted = analyze(Net(), X)
  size = jnp.dtype(dtype).itemsize
  assert counted["conv"].bytes == 4 * (2 * 8 * 6 * 4) + 4 * (9 * 4 * 16 + 16) + size * 2 * 8 * 6 * 16
  assert counted["Net"].bytes == 2 * size * 2 * 8 * 6 * 16
  assert counted["conv"].arithmetic_intensity == 2 * counted["conv"].macs / counted["conv"].bytes
  grad = jax.grad(lambda v, x: Net().apply(v, x).sum())
  variables = jax.eval_shape(Net().init, jax.random.key(0), X)
  trained = cost.analyze(grad, variables, X, params=variables["params"])
  assert trained["conv"].bytes == counted["conv"].bytes, "saving residuals is not part of the forward pass"


def test_a_value_read_twice_crosses_once():
  def fn(x):
    with jax.named_scope("a"):
      return x * x + jnp.sin(x)

  assert cost.analyze(fn, X)["a"].bytes == 2 * 4 * 2 * 8 * 6 * 4


def test_a_loop_moves_its_values_at_each_trip():
  def fn(x, w):
    def body(c, _):
      with jax.named_scope("a"):
        return c @ w, None

    return lax.scan(body, x, None, length=5)[0]

  layer = cost.analyze(fn, jnp.ones((2, 3)), jnp.ones((3, 3)))["a"]
  assert (layer.macs, layer.bytes) == (5 * 18, 5 * 4 * (6 + 9 + 6))


@pytest.mark.parametrize(
  "part",
  [
    lambda: nn.RNN(nn.LSTMCell(6)),
    lambda: nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.GRUCell(3))),
    lambda: nn.WeightNorm(nn.Dense(6)),
  ],
)
def test_layers_beside_one_that_runs_modules_it_does_not_hold(part):
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(5, name="head")(part()(nn.Dense(4, name="stem")(x)))

  counted = analyze(Net(), jax.ShapeDtypeStruct((2, 9, 3), jnp.float32))
  assert counted.root == "Net"
  rows = [counted["stem"], counted["head"]]
  assert [(row.op, row.params, row.macs) for row in rows] == [("pointwise", 16, 18 * 12), ("pointwise", 35, 18 * 30)]
