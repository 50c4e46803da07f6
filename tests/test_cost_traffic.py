"""Bytes across a layer's border: whole arrays, or what is looked up or replaced in them."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

from nin_jax import cost


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


TABLE, ROW, INDEX = array(1000, 8), 8 * 4, array(dtype=jnp.int32)
CACHE, STEP = array(64, 3, 5), array(1, 3, 5)
ENTRY, WHOLE = 15 * 4, 64 * 15 * 4


def crossed(fn, *args):
  def layer(*args):
    with jax.named_scope("layer"):
      return fn(*args)

  return cost.analyze(layer, *args)["layer"].bytes


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda t, i: t[i] * 1.0, 2 * ROW + 4),
    (lambda t, i: lax.dynamic_index_in_dim(t, i) * 1.0, 2 * ROW + 4),
    (lambda t, i: t[jnp.stack([i, i + 1])] * 1.0, 2 * 2 * ROW + 4),
    (lambda t, i: t.astype(jnp.bfloat16)[i], ROW + ROW // 2 + 4),  # the cast is made of what is looked up
    (lambda t, i: jnp.sin(t[i]) + t[i], 2 * ROW + 4),  # the same row twice
    (lambda t, i: t[i] + t[3] * 1.0, 3 * ROW + 4),
    (lambda t, i: jnp.sin(t[2:4])[1] * i, 2 * ROW + 4),
    (lambda t, i: t[i] + t.sum(0), 1000 * ROW + ROW + 4),  # all of it is read anyway
    (lambda t, i: t[::2] * 1.0, 2 * 500 * ROW),
    (lambda t, i: t[1:] + t[:-1], 1000 * ROW + 999 * ROW),  # they overlap: no more than there is
    (lambda t, i: jnp.split(t, 4)[1] * 1.0, 2 * 250 * ROW),
  ],
)
def test_a_lookup_reads_what_it_looks_up(fn, expected):
  assert crossed(fn, TABLE, INDEX) == expected


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda c, k, i: lax.dynamic_update_slice(c, k * 1.0, (i, 0, 0)), 2 * ENTRY + 4),
    (lambda c, k, i: lax.dynamic_update_slice(c, k, (i, 0, 0)).reshape(64, 15), 2 * ENTRY + 4),
    (lambda c, k, i: c.at[i].set(k[0]), 2 * ENTRY + 4),
    (lambda c, k, i: c.at[i].add(k[0]), 3 * ENTRY + 4),  # the old entry is read
    (lambda c, k, i: c.at[i].set(k[0]).at[i + 1].set(k[0]), 3 * ENTRY + 4),
    (lambda c, k, i: (c.at[i].set(k[0]), c), 2 * WHOLE + ENTRY + 4),  # a copy: the old one is a result, too
    (lambda c, k, i: lax.dynamic_update_slice(c, k, (i, 0, 0)) * 2.0, 2 * WHOLE + ENTRY + 4),
    (lambda c, k, i: jnp.zeros((64, 3, 5)).at[i].set(k[0]), WHOLE + 2 * ENTRY + 4),  # a new array
  ],
)
def test_an_update_writes_what_it_replaces(fn, expected):
  assert crossed(fn, CACHE, STEP, INDEX) == expected


@pytest.mark.parametrize("around", ["scan", "layer"])
def test_a_cache_in_a_loop_is_updated_in_place_and_read_whole(around):
  def decode(cache, keys):
    def body(cache, step):
      with jax.named_scope("kv"):
        cache = lax.dynamic_update_slice(cache, step[1] * 1.0, (step[0], 0, 0))
      with jax.named_scope("attention"):
        return cache, (cache * step[1]).sum(0)

    return lax.scan(body, cache, (jnp.arange(7), keys))

  named = jax.named_scope("outer")(decode) if around == "layer" else decode
  counted = cost.analyze(named, CACHE, array(7, 1, 3, 5))
  prefix = "outer/" if around == "layer" else ""
  assert counted[prefix + "kv"].bytes == 7 * (2 * ENTRY + 4)
  assert counted[prefix + "attention"].bytes == 7 * (WHOLE + 2 * ENTRY)
  assert counted.total["bytes"] == counted[prefix + "kv"].bytes + counted[prefix + "attention"].bytes
  alone = lambda cache, keys: lax.scan(
    lambda c, step: (lax.dynamic_update_slice(c, step[1] * 1.0, (step[0], 0, 0)), None), cache, (jnp.arange(7), keys)
  )
  inner = lambda cache, keys: alone(cache, keys)[0]
  assert crossed(inner, CACHE, array(7, 1, 3, 5)) == 2 * 7 * ENTRY, "its indices are made inside"


def test_an_embedding_of_tokens_reads_their_rows():
  module = nn.Embed(1000, 8, dtype=jnp.bfloat16)
  tokens = array(2, 3, dtype=jnp.int32)
  variables = jax.eval_shape(module.init, jax.random.key(0), tokens)
  counted = cost.analyze(module.apply, variables, tokens, params=variables["params"])
  assert counted.total["bytes"] == 6 * (ROW + ROW // 2 + 4)
  few = nn.Embed(4, 8)
  variables = jax.eval_shape(few.init, jax.random.key(0), tokens)
  bounded = cost.analyze(few.apply, variables, tokens).total["bytes"]
  assert bounded == 4 * ROW + 6 * (ROW + 4), "no more rows than it has"


def _twice(x):
  return lax.fori_loop(0, 5, lambda _, x: lax.fori_loop(0, 7, lambda _, x: jnp.sin(x), x), x)


def _stacked_in_a_loop(x):
  body = lambda c, _: lax.scan(lambda c, _: (jnp.sin(c), jnp.cos(c)), c[0], None, 7)
  return lax.scan(lambda c, _: (body((c[0], 0), None), None), (x, jnp.zeros((7, 64))), None, 5)[0]


@pytest.mark.parametrize(
  ("fn", "shape", "expected"),
  [
    (lambda x: lax.fori_loop(0, 100, lambda _, x: jnp.sin(x), x), (64,), 2 * 64),
    (lambda x: lax.scan(lambda c, row: (c + row, None), jnp.zeros(64), x)[0], (100, 64), 101 * 64),
    (lambda x: lax.scan(lambda c, row: (c, c * row), x[0], x)[1], (100, 64), 2 * 100 * 64),
    (_twice, (64,), 2 * 64),
    (_stacked_in_a_loop, (64,), 64 + 8 * 64),
    (
      lambda x: lax.scan(lambda c, _: (c, lax.fori_loop(0, 7, lambda _, x: jnp.sin(x), c)), x, None, 5)[1],
      (64,),
      2 * 5 * 64,
    ),
  ],
)
def test_of_a_loop_within_a_layer_the_last_carry_leaves_it(fn, shape, expected):
  assert crossed(fn, array(*shape)) == 4 * expected


@pytest.mark.parametrize(
  ("fn", "factor"),
  [
    (lambda x: x.reshape(1, 8, 8, 2, 3).swapaxes(3, 4).reshape(1, 8, 8, 6), 2),  # a channel shuffle
    (lambda x: jnp.concatenate([x, x], -1), 3),
    (lambda x: x[:, ::-1], 2),
    (lambda x: x.astype(jnp.bfloat16), 1.5),
    (lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), 5),
    (lambda x: jnp.repeat(x, 3, -1).reshape(-1), 4),
  ],
)
def test_a_layer_that_moves_data_has_a_row(fn, factor):
  x = array(1, 8, 8, 6)
  layer = cost.analyze(jax.named_scope("shuffle")(fn), x)["shuffle"]
  assert (layer.op, layer.macs, layer.elementwise, layer.bytes) == ("movement", 0, 0, factor * 4 * 64 * 6)


def test_another_shape_is_no_traffic_and_a_value_under_two_shapes_crosses_once():
  def fn(x):
    with jax.named_scope("a"):
      y = jnp.sin(x)
      flat = y.reshape(-1)
    with jax.named_scope("b"):
      flat = flat.reshape(4, 6)[None]
    return y, flat

  counted = cost.analyze(fn, array(4, 6))
  assert [(layer.path, layer.bytes) for layer in counted.layers] == [("a", 2 * 4 * 24)]


@pytest.mark.parametrize(
  "fn", [lambda x: x[:, None], lambda x: jnp.zeros((8, 4, 6)), lambda x: jnp.broadcast_to(x, (1, 4, 6))]
)
def test_nothing_is_repeated(fn):
  assert not cost.analyze(jax.named_scope("view")(fn), array(4, 6)).layers


@pytest.mark.parametrize(
  ("dtype", "bits"),
  [("int4", 4), ("uint4", 4), ("int2", 2), ("float4_e2m1fn", 4), ("int8", 8), ("bool", 8), ("complex64", 64)],
)
def test_types_smaller_than_a_byte_are_packed(dtype, bits):
  assert crossed(lambda x: x.T, array(5, 7, dtype=getattr(jnp, dtype))) == 2 * -(-35 * bits // 8)


def test_a_product_of_four_bit_integers():
  product = lambda a, b: lax.dot(a, b, preferred_element_type=jnp.int32)
  four = array(32, 32, dtype=jnp.int4)
  assert crossed(product, four, four) == 2 * 32 * 32 // 2 + 4 * 32 * 32
