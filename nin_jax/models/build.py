"""From `config.model` to a network."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from nin_jax.errors import ConfigError, ImageTooSmall
from nin_jax.models import googlenet, inception, nin
from nin_jax.models.options import check_width, choose

MODELS = {"nin": nin, "inception": inception, "googlenet": googlenet}
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def defaults(name: str) -> ConfigDict:
  """A new `config.model` with all the fields of a model: "nin", "inception" or "googlenet".

  Raises:
    ConfigError: another name.
  """
  choose("model.name", name, tuple(MODELS))
  return MODELS[name].defaults()


def build(
  model: ConfigDict,
  image_shape: tuple[int, int, int],
  precision: str = "float32",
  axis_name: str | None = None,
  fully_convolutional: bool = False,
) -> nn.Module:
  """The network of `config.model`; `network.apply(variables, images, train)` gives (logits, auxiliary logits).

  Args:
    model: the fields of `defaults(model.name)`; NIN and the Inception nets take any number of blocks.
    image_shape: (height, width, channels) of the images that it is trained with.
    precision: "float32" or "bfloat16", the type of compute; parameters are float32.
    axis_name: of the parallel map over which batch normalisation is synchronised; None: per device.
    fully_convolutional: the classifier slides over images larger than image_shape, with the same parameters, and gives
      maps of logits [n, h, w, classes], one for each place that a window of the training map has.

  Raises:
    ConfigError: a field that can't be, or an image too small for the network.
  """
  choose("model.name", model.get("name"), tuple(MODELS))
  choose("precision", precision, tuple(PRECISIONS))
  check_width("model.num_classes", model.num_classes)
  _check_fields(model)
  network = MODELS[model.name].from_config(model, PRECISIONS[precision], axis_name)
  try:
    if fully_convolutional:
      trunk = network.clone(head=False)
      (maps, _), _ = jax.eval_shape(trunk.init_with_output, jax.random.key(0), _image(image_shape))
      network = network.clone(head_window=maps.shape[1:3])
    variable_shapes(network, image_shape)
  except ImageTooSmall as error:
    height, width, _ = image_shape
    or_else = "; without model.auxiliary smaller ones may do" if model.get("auxiliary") else ""
    accepted = f"larger images for this network ({error}){or_else}"
    raise ConfigError("data.image_size", f"{height}×{width}", accepted) from error
  return network


def variable_shapes(network: nn.Module, image_shape: tuple[int, int, int], train: bool = True) -> dict:
  """Shapes and types of the network's variables, nothing computed; with `train` those of its auxiliary heads too."""
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(lambda image: network.init(keys, image, train=train), _image(image_shape))


def _image(shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *shape), jnp.float32)


def _check_fields(model: ConfigDict) -> None:
  """A config whose `model.name` was changed on the command line has another model's fields."""
  repeated = "block" if model.name == "nin" else "inception_"
  expected = {field for field in MODELS[model.name].defaults() if not field.startswith(repeated)}
  missing = sorted(expected - set(model))
  if missing:
    raise ConfigError(
      "model.name", model.name, f"the model that this config file has the fields of (model.{missing[0]} is missing)"
    )
  surplus = sorted(field for field in set(model) - expected if not field.startswith(repeated))
  if surplus:
    raise ConfigError(
      f"model.{surplus[0]}", model[surplus[0]], f"a field of {model.name}: {', '.join(sorted(expected))}"
    )
