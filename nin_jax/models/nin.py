"""Network in Network (Lin, Chen, Yan 2013), as the authors' files define it."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from nin_jax.blocks import DOWNSAMPLES, Downsample, MLPConv
from nin_jax.checks import Fields, field, fraction, numbers, one_of, positive, whole, within
from nin_jax.errors import ConfigError
from nin_jax.layers import Conv, Dropout, HeadPool, Pointwise, kernel_initializer
from nin_jax.models.options import LayerOptions, option_checks, width_checks, width_tuple_checks, window_checks


@dataclasses.dataclass(frozen=True)
class NINBlock:
  """An mlpconv block with the pool and the dropout after it; the fields of `config.model.block1` and so on.

  Attributes:
    features: channels of the k×k convolution and of each cccp layer (the classes' own is added to the last block).
    kernel, strides, padding: of the k×k convolution; padding in rows and columns on each side.
    pool: "max", "avg", "pointwise" (a strided 1×1) or "none"; pools in ceil mode.
    pool_window, pool_strides: of the pool.
    dropout: rate after the pool.
    init_std: one standard deviation for each layer, in place of `model.init_std`, where `model.init` is gaussian.
  """

  features: tuple[int, ...]
  kernel: int = 5
  strides: int = 1
  padding: int = 2
  pool: str = "none"
  pool_window: int = 3
  pool_strides: int = 2
  dropout: float = 0.0
  init_std: tuple[float, ...] = ()


class NIN(nn.Module):
  """mlpconv blocks, the last of which gives one map a class, then their global average.

  Attributes:
    blocks: see `NINBlock`.
    num_classes: maps of the last cccp layer.
    options: see `LayerOptions`.
    last_relu: whether the last cccp layer has its ReLU, as the authors have it. With it the loss can stall at
      ln(num_classes), all logits zero.
    head_window: see `HeadPool`: None, or the fully convolutional form.
    head: False gives the maps before the average.
  """

  blocks: tuple[NINBlock, ...]
  num_classes: int
  options: LayerOptions = LayerOptions()
  last_relu: bool = True
  head_window: tuple[int, int] | None = None
  head: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], train: bool = False, example_ids: Int[Array, " n"] | None = None
  ) -> tuple[Float[Array, "n *hw classes"], tuple]:
    """Logits in float32, a map of them in the fully convolutional form, and no auxiliary logits.

    Args:
      x: images.
      train: dropout on, batch statistics.
      example_ids: each example's number within the whole batch, for dropout; None: 0, 1, 2, ….
    """
    if example_ids is None:
      example_ids = jnp.arange(x.shape[0])
    x = x.astype(self.options.dtype)
    for number, block in enumerate(self.blocks, 1):
      last = number == len(self.blocks)
      gaussian = self.options.init == "gaussian"
      inits = [kernel_initializer("gaussian", std) for std in block.init_std] if gaussian else None
      pointwise = self.options.layer(Pointwise, train)
      x = self.options.block(MLPConv, train)(
        (*block.features, self.num_classes) if last else block.features,
        kernel=block.kernel,
        strides=block.strides,
        padding=block.padding,
        last_activation=self.last_relu or not last,
        kernel_inits=inits,
        conv=self.options.layer(Conv, train),
        pointwise=pointwise,
        name=f"block{number}",
      )(x)
      if block.pool != "none":
        x = Downsample(block.pool, block.pool_window, block.pool_strides, pointwise, name=f"pool{number}")(x)
      if block.dropout:
        x = Dropout(block.dropout, not train, name=f"dropout{number}")(x, example_ids)
    if not self.head:
      return x, ()
    x = HeadPool(self.head_window, name="gap")(x)
    return x if self.head_window else x[:, 0, 0, :], ()


def defaults() -> ConfigDict:
  """`config.model` of the authors' network for CIFAR-10."""
  model = ConfigDict()
  model.name = "nin"
  model.num_classes = 10
  model.norm = "none"  # none | batch
  model.batch_norm_momentum = 0.9
  model.batch_norm_epsilon = 1e-5
  model.init = "gaussian"  # gaussian | xavier | he
  model.init_std = 0.05
  model.init_bias = 0.0
  model.last_relu = True
  model.block1 = block_config((192, 160, 96), pool="max", dropout=0.5)
  model.block2 = block_config((192, 192, 192), pool="max", dropout=0.5)  # the authors' Caffe copy says avg
  model.block3 = block_config((192, 192), kernel=3, padding=1)  # and one cccp layer more, for the classes
  return model


def block_config(features: tuple[int, ...], **fields) -> ConfigDict:
  """`config.model.blockN`: the fields of `NINBlock`."""
  return ConfigDict(dataclasses.asdict(NINBlock(tuple(features), **fields)))


def is_block(name: str) -> bool:
  """Whether a field of `config.model` is one of any number of blocks."""
  return name.startswith("block")


def block_fields() -> ConfigDict:
  """A block with a value of the right type in each field."""
  return block_config((1,))


def _blocks(model: ConfigDict | Fields) -> list[str]:
  """The names of the blocks, in order, where they are right."""
  return sorted(filter(is_block, model), key=lambda name: (len(name), name))


def _numbered(model: Fields) -> Iterator[ConfigError]:
  names = _blocks(model)
  if not names or names != [f"block{number}" for number in range(1, len(names) + 1)]:
    yield ConfigError("model", names, "block1, block2, … without a gap")


def _each_block(model: Fields) -> Iterator[ConfigError]:
  *names, last = _blocks(model) or [""]
  yield from within(model, names, [*_BLOCK, _deviations(0)])
  yield from within(model, [last] if last else [], [*_BLOCK, _deviations(1)])


def _deviations(classes: int):
  def check(block: Fields) -> Iterator[ConfigError]:
    layers = len(block.features) + classes
    if len(block.init_std) not in (0, layers):
      yield block.error("init_std", f"() or {layers} standard deviations, one a layer")

  return check


_BLOCK = [
  *width_tuple_checks("features", "the width of the k×k convolution, then those of the cccp layers"),
  *window_checks("kernel pool_window"),
  *window_checks("padding", 0),
  *whole("strides pool_strides", 1),
  *one_of("pool", (*DOWNSAMPLES, "none")),
  *field("dropout", fraction, "0 or more, less than 1"),
  *numbers("init_std", positive, "standard deviations of more than 0"),
]

CHECKS = [*width_checks("num_classes"), *option_checks(("none", "batch")), _numbered, _each_block]


def from_config(model: ConfigDict, dtype, axis_name: str | None) -> NIN:
  """The network of `config.model`, whose fields are right."""
  blocks = []
  for name in _blocks(model):
    fields = {field: tuple(value) if isinstance(value, list) else value for field, value in model[name].items()}
    blocks.append(NINBlock(**fields))
  return NIN(
    blocks=tuple(blocks),
    num_classes=model.num_classes,
    options=LayerOptions.from_config(model, dtype, axis_name),
    last_relu=model.last_relu,
  )
