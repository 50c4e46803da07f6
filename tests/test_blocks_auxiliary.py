"""GoogLeNet's auxiliary classifier."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import ops
from nin_jax.blocks import AuxiliaryHead
from nin_jax.errors import ImageTooSmall
from nin_jax.layers import Pointwise

LINEAR = partial(Pointwise, activation=None)


@pytest.mark.parametrize(("channels", "params"), [(512, 3_188_840), (528, 3_190_888)])
def test_on_the_paper_s_14x14_maps(channels, params):
  head = AuxiliaryHead(1000, deterministic=True, classifier=LINEAR)
  maps = np.zeros((2, 14, 14, channels), np.float32)
  logits, variables = jax.eval_shape(head.init_with_output, jax.random.key(0), maps, jnp.arange(2))
  assert logits.shape == (2, 1000)
  assert variables["params"]["dense"]["kernel"].shape == (4, 4, 128, 1024)  # 14² → 4²
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == params


def test_it_is_pool_pointwise_dense_dropout_linear():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 8, 11, 6)).astype(np.float32)
  head = AuxiliaryHead(3, reduction=4, features=16, deterministic=True, classifier=LINEAR)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.5).astype(np.float32)
  params = jax.tree.map(draw, jax.eval_shape(head.init, jax.random.key(0), x, jnp.arange(2))["params"])
  layer = lambda name, x: x @ params[name]["kernel"].reshape(x.shape[-1], -1) + params[name]["bias"]
  reduced = np.maximum(layer("reduce", np.asarray(ops.avg_pool(x, 5, 3))), 0)
  assert reduced.shape == (2, 2, 3, 4)
  hidden = np.maximum(layer("dense", reduced.reshape(2, -1)), 0)
  logits = jax.jit(head.apply)({"params": params}, x, jnp.arange(2))
  np.testing.assert_allclose(logits, layer("classifier", hidden), rtol=1e-4, atol=1e-4)
  assert np.min(logits) < 0

  train = head.clone(deterministic=False)
  dropped = train.apply({"params": params}, x, jnp.arange(2), rngs={"dropout": jax.random.key(0)})
  assert np.abs(dropped - logits).max() > 1e-3


def test_a_map_smaller_than_its_pool_is_refused():
  with pytest.raises(ImageTooSmall, match="window of 5"):
    jax.eval_shape(AuxiliaryHead(3).init, jax.random.key(0), np.zeros((1, 4, 4, 2)), jnp.arange(1))
