"""Layers and parameters of networks that are not Linen's: NNX, Haiku, Equinox, Keras, and plain functions."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from nin_jax import cost


def array(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


X = array(2, 6, 6, 3)
CONV = lambda inputs, outputs: 9 * inputs * outputs


class Block(nnx.Module):
  def __init__(self, inputs, outputs, rngs):
    self.conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(outputs, rngs=rngs)

  def __call__(self, x):
    return nnx.relu(self.norm(self.conv(x)))


class Checkpointed(Block):
  @nnx.remat
  def __call__(self, x):
    return nnx.relu(self.norm(self.conv(x)))


@nnx.split_rngs(splits=3)
@nnx.vmap(in_axes=0, out_axes=0)
def stack(rngs):
  return Block(4, 4, rngs)


class Net(nnx.Module):
  def __init__(self, rngs):
    self.stem = Block(3, 4, rngs)
    self.blocks = nnx.Sequential(Checkpointed(4, 4, rngs), Block(4, 4, rngs))
    self.stack = stack(rngs)
    self.head = nnx.Linear(4, 5, rngs=rngs)

  def features(self, x):
    return self.blocks(self.stem(x))

  def __call__(self, x):
    x = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(self.features(x), self.stack)
    return self.head(x.mean((1, 2)))


LAYERS = {  # parameters, MACs
  "stem/conv": (CONV(3, 4) + 4, 72 * CONV(3, 4)),
  "stem/norm": (8, 0),
  "stem": (0, 0),
  "blocks/layers/0/conv": (CONV(4, 4) + 4, 72 * CONV(4, 4)),
  "blocks/layers/0/norm": (8, 0),
  "blocks/layers/0": (0, 0),
  "blocks/layers/1/conv": (CONV(4, 4) + 4, 72 * CONV(4, 4)),
  "blocks/layers/1/norm": (8, 0),
  "blocks/layers/1": (0, 0),
  "stack/conv": (3 * (CONV(4, 4) + 4), 3 * 72 * CONV(4, 4)),
  "stack/norm": (3 * 8, 0),
  "stack": (0, 0),
  "Net": (0, 0),
  "head": (25, 2 * 20),
}


@pytest.fixture(scope="module")
def net():
  return Net(nnx.Rngs(0))


def described(counted):
  return {layer.path: (layer.params, layer.macs) for layer in counted.layers if layer.path != "other"}


def test_an_nnx_module_has_its_tree_as_layers(net):
  counted = cost.analyze(net, X)
  assert described(counted) == LAYERS
  assert (counted.root, counted.notes) == ("Net", ())
  assert [counted[path].op for path in ("stem/conv", "stem/norm", "head")] == ["conv", "norm", "dense"]
  assert counted["blocks/layers/1/conv"].receptive_field == 7


def test_nnx_modules_and_states_among_the_arguments(net):
  graphdef, state = nnx.split(net)
  merged = lambda state, x: nnx.merge(graphdef, state)(x)
  assert described(cost.analyze(lambda model, x: model(x), net, X)) == LAYERS
  assert described(cost.analyze(nnx.jit(lambda model, x: model(x)), net, X)) == LAYERS
  assert described(cost.analyze(lambda graphdef, state, x: nnx.merge(graphdef, state)(x), graphdef, state, X)) == LAYERS
  assert described(cost.analyze(merged, state, X)) == LAYERS
  assert described(cost.analyze(merged, state, X, params=state)) == LAYERS
  assert described(cost.analyze(nnx.eval_shape(lambda: Net(nnx.Rngs(0))), X)) == LAYERS
  jitted = jax.jit(merged)
  jitted.lower(state, X)
  assert described(cost.analyze(jitted, state, X)) == LAYERS, "traced before, without scopes"


def test_gradients_and_methods_of_nnx(net):
  counted = cost.analyze(nnx.value_and_grad(lambda model, x: model(x).sum()), net, X)
  assert described(counted) == LAYERS
  backward = {layer.path: (layer.backward_macs, layer.recompute_macs) for layer in counted.layers if layer.macs}
  conv = 72 * CONV(4, 4)
  assert backward == {
    "stem/conv": (72 * CONV(3, 4), 0),
    "blocks/layers/0/conv": (2 * conv, conv),
    "blocks/layers/1/conv": (2 * conv, 0),
    "stack/conv": (6 * conv, 0),
    "head": (2 * 40, 0),
  }
  counted = cost.analyze(net.features, X)
  assert {layer.path for layer in counted.layers if layer.macs} == {path for path in backward if path[0] in "sb"} - {
    "stack/conv"
  }
  assert counted.total["params"] == sum(params for params, _ in LAYERS.values())
  assert any("parameters join no layer" in note and "head" in note for note in counted.notes)


class Two(nnx.Module):
  def __init__(self, rngs):
    self.a, self.b = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)

  def __call__(self, x):
    return self.b(self.a(x))


def test_nnx_modules_are_told_apart_or_it_is_noted():
  one, other, x = Two(nnx.Rngs(0)), Two(nnx.Rngs(1)), array(3, 4)
  paths = lambda *call, **options: [layer.path for layer in cost.analyze(*call, **options).layers]
  assert paths(lambda model, x: model.b(model.a(x)), one, x) == ["a", "b"]
  assert paths(lambda teacher, x, student: student(teacher(x)), one, x, other) == [
    "Two/a",
    "Two/b",
    "Two_1/a",
    "Two_1/b",
  ]
  assert paths(lambda models, x: models[1](models[0](x)), [one, other], x) == ["Two/a", "Two/b", "Two_1/a", "Two_1/b"]
  captured = cost.analyze(lambda x: one.b(one.a(x)), x)
  assert [layer.path for layer in captured.layers] == ["Linear"]
  assert any("2 modules of type Linear" in note for note in captured.notes)


def test_nnx_is_left_as_it_was(net):
  call, features, attributes = nnx.Linear.__call__, Net.features, set(vars(net.head))
  captured = lambda x: net.head(x)
  cost.analyze(net, X)
  assert cost.analyze(captured, array(2, 4))["Linear"].macs == 40
  for fn in (net, captured):
    with pytest.raises((TypeError, ValueError)):
      cost.analyze(fn, array(2, 6, 6, 7))
  assert (nnx.Linear.__call__, Net.features) == (call, features)
  assert set(vars(net.head)) == attributes


def scoped(name, fn):
  return jax.named_scope(name)(fn)


def test_haiku_parameters_join_their_scopes():
  """The scopes and the parameters of `hk.nets.MLP([5, 4])` in a module `net`, with a linear layer beside it."""

  def net(p, x):
    for name in ("linear_0", "linear_1"):
      layer = p[f"net/mlp/~/{name}"]
      x = scoped("mlp", scoped(name, lambda x, layer=layer: x @ layer["w"] + layer["b"]))(x)
      x = scoped("mlp", jax.nn.relu)(x)
    return scoped("linear", lambda x: x @ p["net/linear"]["w"])(x)

  params = {
    "net/mlp/~/linear_0": {"w": array(3, 5), "b": array(5)},
    "net/mlp/~/linear_1": {"w": array(5, 4), "b": array(4)},
    "net/linear": {"w": array(4, 2)},
  }
  counted = cost.analyze(scoped("net", net), params, array(7, 3), params=params)
  assert described(counted) == {
    "net/mlp/linear_0": (20, 7 * 15),
    "net/mlp/linear_1": (24, 7 * 20),
    "net/mlp": (0, 0),
    "net/linear": (8, 7 * 8),
  }
  assert (counted["net/linear"].op, counted.notes) == ("dense", ())


def equinox(named):
  """Equinox's scopes are the types of its layers; `named` are scopes of the user's around them."""
  params = {"conv": {"weight": array(4, 3, 3, 3)}, "layers": [{"weight": array(4, 4, 3, 3)}, {"weight": array(6, 4)}]}

  def net(p, x):
    conv = scoped("eqx.nn.Conv", lambda x, w: lax.conv(x[None], w["weight"], (1, 1), "SAME")[0])
    x = (scoped("conv", conv) if named else conv)(x, p["conv"])
    x = (scoped("layers/0", conv) if named else conv)(x, p["layers"][0])
    linear = scoped("eqx.nn.Linear", lambda x, w: w["weight"] @ x)
    return (scoped("layers/1", linear) if named else linear)(x.mean((1, 2)), p["layers"][1])

  return net, params, array(3, 8, 8)


def test_equinox_types_are_no_layers_and_it_is_noted():
  net, params, x = equinox(named=False)
  for given in (params, None):
    counted = cost.analyze(net, params, x, params=given)
    assert any("Equinox" in note and "jax.named_scope" in note for note in counted.notes)
    assert "Equinox" in cost.table(counted)
    assert "Equinox" in cost.to_json(counted)
    assert counted["eqx.nn.Conv"].params is None, "unknown, not 0"
    assert counted["eqx.nn.Linear"].op == "dense", "nobody knows that it has no parameters"
  counted = cost.analyze(net, params, x, params=params)
  assert counted.total["params"] == 108 + 144 + 24
  assert any("276 parameters join no layer" in note for note in counted.notes)


def test_scopes_around_equinox_layers_name_them():
  net, params, x = equinox(named=True)
  counted = cost.analyze(net, params, x, params=params)
  macs = {"conv": 64 * 108, "layers/0": 64 * 144, "layers/1": 24}
  assert {layer.path: layer.macs for layer in counted.layers if layer.macs} == macs
  assert [counted[path].params for path in macs] == [108, 144, 24]
  assert cost.analyze(net, params, x).notes == counted.notes == ()


def test_keys_of_parameters_may_be_paths():
  """As of Keras: `{v.path: v.value for v in model.trainable_variables}`."""
  fn = lambda w, x: scoped("sequential", scoped("dense", jnp.matmul))(x, w)
  params = {"sequential/dense/kernel": array(3, 5)}
  assert cost.analyze(fn, array(3, 5), array(2, 3), params=params)["sequential/dense"].params == 15


def test_work_in_no_scope_is_noted():
  fn = lambda w, x: x @ w["a"]["kernel"] @ w["b"]["kernel"]
  params = {"a": {"kernel": array(4, 4)}, "b": {"kernel": array(4, 4)}}
  counted = cost.analyze(fn, params, array(2, 4), params=params)
  assert [(layer.path, layer.params, layer.macs) for layer in counted.layers] == [
    ("a", 16, 0),
    ("b", 16, 0),
    ("other", None, 64),
  ]
  assert counted.total["params"] == 32
  unscoped, apart = counted.notes
  assert "2 convolutions and products are in no scope" in unscoped
  assert "jax.named_scope" in unscoped
  assert "32 parameters join no layer" in apart
  assert apart.endswith("a, b")
  assert cost.analyze(jnp.matmul, array(2, 4), array(4, 4)).notes == (), "one product needs no scope"


def test_real_haiku():
  hk = pytest.importorskip("haiku")

  class Net(hk.Module):
    def __init__(self):
      super().__init__(name="net")
      self.stem = hk.Conv2D(4, 3)

    def features(self, x):
      return hk.Conv2D(8, 3)(self.stem(x))

    def __call__(self, x):
      return hk.Linear(5)(hk.Conv2D(6, 1)(self.features(x)).mean((1, 2)))

  net = hk.transform(lambda x: Net()(x))
  params = jax.eval_shape(net.init, jax.random.key(0), X)
  counted = cost.analyze(net.apply, params, None, X, params=params)
  owned = {path: sum(leaf.size for leaf in leaves.values()) for path, leaves in params.items()}
  assert {layer.path: layer.params for layer in counted.layers if layer.params} == owned, "~/conv2_d is not conv2_d"
  assert (counted["net/~features/conv2_d"].macs, counted.notes) == (72 * CONV(4, 8), ())


@pytest.mark.parametrize("named", [False, True])
def test_real_equinox(named):
  eqx = pytest.importorskip("equinox")

  class Net(eqx.Module):
    first: eqx.nn.Linear
    layers: list

    def __call__(self, x):
      with jax.named_scope("first" if named else ""):
        x = self.first(x)
      for i, layer in enumerate(self.layers):
        with jax.named_scope(f"layers/{i}" if named else ""):
          x = layer(x)
      return x

  key = jax.random.key(0)
  net = Net(eqx.nn.Linear(3, 5, key=key), [jax.nn.relu, eqx.nn.Linear(5, 2, key=key)])
  counted = cost.analyze(net, array(3), params=net)
  assert counted.total["params"] == 20 + 12
  if named:
    assert {layer.path: layer.params for layer in counted.layers if layer.macs} == {"first": 20, "layers/1": 12}
  else:
    assert any("Equinox" in note for note in counted.notes)


def test_real_keras():
  keras = pytest.importorskip("keras")
  if keras.backend.backend() != "jax":
    pytest.skip("KERAS_BACKEND is not jax")
  model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()])
  counted = cost.analyze(model, array(1, 6, 6, 3), params={v.path: v.value for v in model.trainable_variables})
  assert counted[f"{model.name}/conv"].params == CONV(3, 4) + 4
