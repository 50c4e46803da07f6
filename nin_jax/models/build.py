"""From `config.model` to a network."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array
from ml_collections import ConfigDict

from nin_jax.checks import Fields, gather, one_of, structure, type_mistake, unknown
from nin_jax.errors import ConfigError, ImageTooSmall, refuse
from nin_jax.layers import Conv, Dense, Pointwise
from nin_jax.models import googlenet, inception, nin
from nin_jax.ops.lowering import lowered_as

MODELS = {"nin": nin, "inception": inception, "googlenet": googlenet}
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def defaults(name: str) -> ConfigDict:
  """A new `config.model` with all the fields of a model: "nin", "inception" or "googlenet".

  Raises:
    ConfigError: another name.
  """
  refuse(_name(Fields(ConfigDict({"name": name}), "model.")))
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
  fields = Fields(model, "model.")
  refuse([*field_mistakes(fields), *mistakes(fields)])
  refuse(gather(Fields(ConfigDict({"precision": precision})), one_of("precision", PRECISIONS)))
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


def init(
  network: nn.Module, image_shape: tuple[int, int, int], keys: dict[str, Array], train: bool = True
) -> tuple[dict, dict[str, Array]]:
  """A network's first variables, and the maps [1, h, w, channels] that its convolutions give, by their paths.

  Args:
    network: see `build`.
    image_shape: (height, width, channels).
    keys: "params" and "dropout".
    train: whether the auxiliary heads are there, in both.
  """
  return _init(network, tuple(image_shape), train)(keys)


@functools.lru_cache(maxsize=256)
def _init(network: nn.Module, image_shape: tuple[int, int, int], train: bool) -> Callable[[dict], tuple[dict, dict]]:
  """`init` of a network: jitted, so that its shapes and what compiles its first values take one trace."""
  convolution = lambda module, _: isinstance(module, (Conv, Dense, Pointwise))

  def of(keys: dict[str, Array]) -> tuple[dict, dict[str, Array]]:
    image = jnp.zeros((1, *image_shape))
    with lowered_as("xla"):  # JAX keeps the trace, whatever is asked for where it is made
      made = network.init_with_output(keys, image, train=train, capture_intermediates=convolution, mutable=True)
    variables = made[1]
    leaves = jax.tree_util.tree_leaves_with_path(variables.pop("intermediates", {}))
    return variables, {"/".join(str(key.key) for key in path[:-2]): leaf for path, leaf in leaves}

  return jax.jit(of)


def map_shapes(
  network: nn.Module, image_shape: tuple[int, int, int], train: bool = True
) -> tuple[dict, dict[str, jax.ShapeDtypeStruct]]:
  """Shapes and types of what `init` gives, nothing computed."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(_init(network, tuple(image_shape), train), {"params": key, "dropout": key})


def variable_shapes(network: nn.Module, image_shape: tuple[int, int, int], train: bool = True) -> dict:
  """Shapes and types of the network's variables, nothing computed; with `train` those of its auxiliary heads too."""
  return map_shapes(network, image_shape, train)[0]


def _image(shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *shape), jnp.float32)


def field_mistakes(model: Fields) -> Iterator[ConfigError]:
  """Yields the mistakes in the names and types of `config.model`; blocks and modules may be added and taken out."""
  return gather(model, [_name, _own_fields])


def mistakes(model: Fields) -> Iterator[ConfigError]:
  """Yields the mistakes in the values of `config.model`, where `field_mistakes` found none."""
  return gather(model, [lambda model: gather(model, MODELS[model.name].CHECKS)])


def _name(model: Fields) -> Iterator[ConfigError]:
  name = model.section.get("name")
  if not (isinstance(name, str) and name in MODELS):
    yield ConfigError("model.name", name, f"one of {', '.join(MODELS)}")
    return
  differences = {other: len(set(_expected(other)) ^ _given(model, other)) for other in MODELS}
  closest = min(MODELS, key=lambda other: (differences[other], other != name))
  if closest != name and len(list(model)) > 1:  # changed on the command line, but the other fields were not
    yield ConfigError("model.name", name, f"{closest}, the model that this config has the fields of")


def _own_fields(model: Fields) -> Iterator[ConfigError]:
  name, section = model.name, model.section
  expected, kind = _expected(name), MODELS[name]
  for field in sorted(_given(model, name) - set(expected)):
    yield unknown(section, field, expected, model.prefix, name)
  for field, like in expected.items():
    if field not in section:
      yield ConfigError(f"{model.prefix}{field}", None, f"a field that is there: {name} has it")
    elif accepted := type_mistake(section[field], like):
      yield model.error(field, accepted)
  for field in filter(kind.is_block, section):
    yield from structure(section[field], kind.block_fields(), f"{model.prefix}{field}.", "a block")


def _expected(name: str) -> dict:
  return {field: value for field, value in MODELS[name].defaults().items() if not MODELS[name].is_block(field)}


def _given(model: Fields, name: str) -> set[str]:
  return {field for field in model if not MODELS[name].is_block(field)}
