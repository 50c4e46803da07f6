"""Network in Network (Lin, Chen, Yan 2013), as the authors' files define it."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from nin_jax.blocks import DOWNSAMPLES, Downsample, MLPConv
from nin_jax.errors import ConfigError
from nin_jax.layers import Conv, Dropout, HeadPool, Pointwise, kernel_initializer
from nin_jax.models.options import LayerOptions, check_width, choose


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
      x = MLPConv(
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


def _block(name: str, block: ConfigDict, last: bool) -> NINBlock:
  fields = {field.name for field in dataclasses.fields(NINBlock)}
  for field in block:
    if field not in fields:
      raise ConfigError(f"model.{name}.{field}", block[field], f"a block with {', '.join(sorted(fields))}")
  block = NINBlock(**block.to_dict())
  prefix = f"model.{name}"
  for width in block.features:
    check_width(f"{prefix}.features", width)
  if not block.features:
    raise ConfigError(
      f"{prefix}.features", block.features, "the width of the k×k convolution, then those of the cccp layers"
    )
  for field, least in dict(kernel=1, strides=1, padding=0, pool_window=1, pool_strides=1).items():
    check_width(f"{prefix}.{field}", getattr(block, field), least)
  choose(f"{prefix}.pool", block.pool, (*DOWNSAMPLES, "none"))
  if not 0 <= block.dropout < 1:
    raise ConfigError(f"{prefix}.dropout", block.dropout, "0 or more, less than 1")
  layers = len(block.features) + last
  if len(block.init_std) not in (0, layers):
    raise ConfigError(f"{prefix}.init_std", block.init_std, f"() or {layers} standard deviations, one a layer")
  return block


def from_config(model: ConfigDict, dtype, axis_name: str | None) -> NIN:
  """The network of `config.model`.

  Raises:
    ConfigError: a field that can't be.
  """
  given = sorted(name for name in model if name.startswith("block"))
  names = [f"block{number}" for number in range(1, len(given) + 1)]
  if not names or given != sorted(names):
    raise ConfigError("model", given, "block1, block2, … without a gap")
  return NIN(
    blocks=tuple(_block(name, model[name], name == names[-1]) for name in names),
    num_classes=model.num_classes,
    options=LayerOptions.from_config(model, ("none", "batch"), dtype, axis_name),
    last_relu=model.last_relu,
  )
