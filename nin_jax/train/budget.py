"""What a network costs, counted before anything runs."""

import functools
import json

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nin_jax import cost, models
from nin_jax.config import from_json
from nin_jax.train.objective import objective


def inference_cost(
  network: nn.Module, image_shape: tuple[int, int, int], built_for: tuple[int, int, int] | None = None
):
  """The `cost.Cost` of one image's forward pass, without auxiliary heads.

  Args:
    network: see `models.build`.
    image_shape: (height, width, channels).
    built_for: the image shape that the network was built for where it is not this one (a fully convolutional network).
  """
  variables = models.variable_shapes(network, built_for or image_shape, train=False)
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  forward = lambda variables, image: network.apply(variables, image)[0]
  return cost.analyze(forward, variables, image, params=variables["params"], image=1)


def model_cost(model: ConfigDict, precision: str, image_shape: tuple[int, int, int]):
  """The `inference_cost` of the network of `config.model`; equal ones are traced once."""
  return _model_cost(json.dumps(model.to_dict(), sort_keys=True), precision, tuple(image_shape))


@functools.lru_cache(maxsize=256)
def _model_cost(model: str, precision: str, image_shape: tuple[int, int, int]):
  return inference_cost(models.build(from_json(model), image_shape, precision), image_shape)


def training_cost(
  network: nn.Module, config_train: ConfigDict, image_shape: tuple[int, int, int], variables: dict | None = None
):
  """The `cost.Cost` of one image's forward and backward pass, auxiliary heads included.

  Args:
    network: see `models.build`; not bound to a parallel map (`axis_name=None`).
    config_train: see `objective`.
    image_shape: (height, width, channels).
    variables: shapes of the network's, auxiliary heads included; None: as `models.variable_shapes` finds them.
  """
  config_train = ConfigDict({**config_train, "remat": False})  # what is worked out twice counts once
  variables = variables or models.variable_shapes(network, image_shape, train=True)
  params, batch_stats = variables["params"], variables.get("batch_stats", {})

  def gradient(params, batch_stats, images, labels, example_ids, key):
    grad = jax.value_and_grad(objective, has_aux=True)
    return grad(params, batch_stats, network, config_train, images, labels, example_ids, key)

  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  index = jax.ShapeDtypeStruct((1,), jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return cost.analyze(gradient, params, batch_stats, image, index, index, key, params=params, image=2)
