"""A network on a larger image gives a map of scores: what it would say of each crop, with the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nin_jax import models
from nin_jax.layers import Conv, Dense, MaxPool, Pointwise
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config


def images(size, channels=3):
  return np.random.default_rng(0).normal(size=(2, size, size, channels)).astype(np.float32)


def random_params(network, shape):
  rng = np.random.default_rng(1)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=(2 / np.prod(leaf.shape[:-1])) ** 0.5).astype(np.float32)
  return jax.tree.map(draw, models.variable_shapes(network, shape, train=False)["params"])


def nin(window):
  """Without padding, so that a crop and the same place of a larger image see the same."""
  model = models.defaults("nin")
  model.num_classes, model.last_relu = 5, False
  model.block1 = block_config((6, 5), kernel=5, padding=0, pool="max", pool_window=window)
  model.block2 = block_config((6,), kernel=3, padding=0, pool="avg", pool_window=window)
  model.block3 = block_config((6,), kernel=3, padding=0)
  return model


@pytest.mark.parametrize(("window", "size"), [(2, 24), (3, 31)])
def test_nin_says_of_each_place_what_it_says_of_the_crop(window, size):
  shape, stride, places = (size, size, 3), 4, 3
  network = models.build(nin(window), shape)
  dense = models.build(nin(window), shape, fully_convolutional=True)
  params = random_params(network, shape)
  crop_logits = jax.jit(lambda x: network.apply({"params": params}, x)[0])
  x = images(size + (places - 1) * stride)
  scores, _ = jax.jit(dense.apply)({"params": params}, x)
  assert scores.shape == (2, places, places, 5)
  for row, column in np.ndindex(places, places):
    crop = x[:, row * stride : row * stride + size, column * stride : column * stride + size]
    np.testing.assert_allclose(scores[:, row, column], crop_logits(crop), rtol=1e-5, atol=1e-5)
  assert np.ptp(scores, axis=(1, 2)).min() > 1e-3  # and says something else of another place


class ConvolutionThenConnected(nn.Module):
  """A stem, two fully connected layers: the first reads a 4×3 map, the second a 1×1."""

  @nn.compact
  def __call__(self, x):
    x = MaxPool(2, 2)(Conv(6, kernel=3, strides=2, padding="VALID", name="stem")(x))
    x = Dense(16, size=(4, 3), name="dense")(x)
    return Pointwise(5, activation=None, name="classifier")(x)


def test_fully_connected_layers_are_convolutions():
  """Claim 11: a head of fully connected layers slides over a larger image with its own parameters."""
  network, stride = ConvolutionThenConnected(), 4
  x = np.random.default_rng(2).normal(size=(2, 25, 21, 3)).astype(np.float32)
  height, width = 17, 13
  rng = np.random.default_rng(3)
  draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.2).astype(np.float32)
  variables = jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0), x[:, :height, :width]))
  scores = jax.jit(network.apply)(variables, x)
  assert scores.shape == (2, 3, 3, 5)
  apply = jax.jit(network.apply)
  for row, column in np.ndindex(3, 3):
    crop = x[:, row * stride : row * stride + height, column * stride : column * stride + width]
    np.testing.assert_allclose(scores[:, row, column], apply(variables, crop)[:, 0, 0], rtol=1e-5, atol=1e-5)


def inception():
  model = models.defaults("inception")
  model.norm, model.num_classes = "none", 5
  del model["inception_1b"], model["inception_2b"]
  model.inception_1a = model.inception_2a = width_config(3, 2, 4, 2, 3, 2)
  return model


def test_with_padding_inside_scores_still_move_with_the_image():
  """The Inception modules pad, so a crop's border differs; away from the border a shift of the image by the total
  stride shifts the scores by one place."""
  shape, stride = (8, 8, 3), 2
  dense = models.build(inception(), shape, fully_convolutional=True)
  params = random_params(dense, shape)
  apply = jax.jit(lambda x: dense.apply({"params": params}, x)[0])
  x = images(50)
  scores, shifted = apply(x[:, :48, :48]), apply(x[:, stride:, stride:])
  assert scores.shape == (2, 21, 21, 5)  # 24² maps, a window of 4²
  reach = 4  # places whose receptive field (3 + 4 + 2·1 + 2·4 + 2·3 = 23 pixels) meets the border
  inner = slice(reach, -reach)
  np.testing.assert_allclose(
    scores[:, 1:, 1:][:, inner, inner], shifted[:, :-1, :-1][:, inner, inner], rtol=1e-4, atol=1e-5
  )
  assert np.ptp(scores[:, inner, inner], axis=(1, 2)).min() > 1e-3


@pytest.mark.parametrize(
  ("model", "shape"),
  [
    (models.defaults("nin"), (32, 32, 3)),
    (nin(2), (24, 24, 3)),
    (inception(), (8, 8, 3)),
    (models.defaults("googlenet"), (224, 224, 3)),
  ],
  ids=["nin", "nin without padding", "inception", "googlenet"],
)
def test_both_forms_have_the_same_parameters(model, shape):
  forms = [models.build(model, shape, fully_convolutional=form) for form in (False, True)]
  ordinary, dense = (models.variable_shapes(form, shape) for form in forms)
  assert jax.tree.structure(ordinary) == jax.tree.structure(dense)
  assert jax.tree.leaves(ordinary) == jax.tree.leaves(dense)


@pytest.mark.parametrize("name", ["nin", "inception"])
def test_at_the_training_size_the_one_score_is_the_logits(name):
  shape = (9, 8, 3)  # not square
  model = inception() if name == "inception" else nin(2)
  if name == "nin":
    for block in (model.block1, model.block2, model.block3):
      block.padding = 1
  network, dense = (models.build(model, shape, fully_convolutional=form) for form in (False, True))
  variables = {"params": random_params(network, shape)}
  x = images(9)[:, :, :8]
  logits, scores = (jax.jit(form.apply)(variables, x)[0] for form in (network, dense))
  assert (logits.shape, scores.shape) == ((2, 5), (2, 1, 1, 5))
  np.testing.assert_allclose(scores[:, 0, 0], logits, rtol=1e-5, atol=1e-6)


def test_scores_are_float32_in_bfloat16_too():
  dense = models.build(inception(), (8, 8, 3), "bfloat16", fully_convolutional=True)
  variables = models.variable_shapes(dense, (8, 8, 3))
  scores, _ = jax.eval_shape(dense.apply, variables, images(12))
  assert (scores.shape, scores.dtype) == ((2, 3, 3, 5), jnp.float32)
