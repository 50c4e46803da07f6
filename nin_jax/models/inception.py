"""Stacks of Inception modules, and the small one for images of 8×8 to 32×32."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from nin_jax.blocks import (
  DOWNSAMPLES,
  POINTWISE_LAYERS,
  AuxiliaryHead,
  Downsample,
  Inception,
  InceptionWidths,
  MLPConv,
)
from nin_jax.errors import ConfigError
from nin_jax.layers import Conv, Dense, Dropout, HeadPool, Pointwise
from nin_jax.models.options import LayerOptions, check_width, choose


class InceptionNet(nn.Module):
  """A stem, Inception modules in stages, then average, dropout and a linear layer.

  Attributes:
    stem: makes the first layers, `stem(conv, pointwise, name=...)`.
    modules: the widths of each module by name, in order; between modules whose names differ in the stage ("3" of
      "3b") the map is halved.
    num_classes: outputs.
    options: see `LayerOptions`.
    downsample: see `Downsample`.
    last_pool_window: window of the last of these pools (torchvision's GoogLeNet has 2).
    large_kernel, linear: see `Inception`.
    dropout: rate before the linear layer.
    auxiliary: the modules that an auxiliary head reads, in training only.
    auxiliary_options: fields of `AuxiliaryHead`.
    head_window: see `HeadPool`: None, or the fully convolutional form.
    head: False gives the map before the average.
  """

  stem: nn.Module
  modules: tuple[tuple[str, InceptionWidths], ...]
  num_classes: int
  options: LayerOptions = LayerOptions()
  downsample: str = "max"
  last_pool_window: int = 3
  large_kernel: int = 5
  linear: tuple[str, ...] = ()
  dropout: float = 0.0
  auxiliary: tuple[str, ...] = ()
  auxiliary_options: Mapping = dataclasses.field(default_factory=dict)
  head_window: tuple[int, int] | None = None
  head: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "n h w c"], train: bool = False, example_ids: Int[Array, " n"] | None = None
  ) -> tuple[Float[Array, "n *hw classes"], tuple[Float[Array, "n classes"], ...]]:
    """Logits in float32 (a map of them in the fully convolutional form), and in training those of the auxiliary heads.

    Args:
      x: images.
      train: dropout on, batch statistics, auxiliary heads.
      example_ids: each example's number within the whole batch, for dropout; None: 0, 1, 2, ….
    """
    if example_ids is None:
      example_ids = jnp.arange(x.shape[0])
    conv, pointwise = self.options.layer(Conv, train), self.options.layer(Pointwise, train)
    classifier = self.options.classifier()
    x = self.stem(x.astype(self.options.dtype), conv, pointwise)
    auxiliary = []
    stages = [stage(name) for name, _ in self.modules]
    for index, (name, widths) in enumerate(self.modules):
      if index and stages[index] != stages[index - 1]:
        window = self.last_pool_window if stages[index] == stages[-1] else 3
        x = Downsample(self.downsample, window, 2, pointwise, name=f"pool{stages[index - 1]}")(x)
      x = Inception(widths, self.large_kernel, self.linear, conv, pointwise, name=name)(x)
      if train and name in self.auxiliary:
        head = AuxiliaryHead(
          self.num_classes,
          deterministic=not train,
          pointwise=pointwise,
          dense=dataclasses.replace(self.options, norm="none").layer(Dense, train),
          classifier=classifier,
          name=name.replace("inception", "auxiliary"),
          **self.auxiliary_options,
        )
        auxiliary.append(head(x, example_ids))
    if not self.head:
      return x, ()
    x = HeadPool(self.head_window, name="gap")(x)
    x = Dropout(self.dropout, not train, name="dropout")(x, example_ids)
    x = classifier(self.num_classes, name="classifier")(x)
    return x if self.head_window else x[:, 0, 0, :], tuple(auxiliary)


class SmallStem(nn.Module):
  """An mlpconv block at full resolution."""

  features: tuple[int, ...]
  kernel: int = 3

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], conv, pointwise) -> Float[Array, "n h w d"]:
    return MLPConv(self.features, kernel=self.kernel, conv=conv, pointwise=pointwise, name="mlpconv")(x)


def stage(name: str) -> str:
  """The stage of a module: "3" of "inception_3b"."""
  return name.removeprefix("inception_")[:-1]


def defaults() -> ConfigDict:
  """`config.model` of a small Inception net for images of 8×8 to 32×32."""
  model = common_defaults()
  model.name = "inception"
  model.num_classes = 10
  model.stem_features = (32,)  # a k×k convolution, then 1×1
  model.stem_kernel = 3
  model.inception_1a = width_config(16, 16, 32, 8, 16, 16)
  model.inception_1b = width_config(24, 24, 48, 8, 24, 24)
  model.inception_2a = width_config(32, 32, 64, 16, 32, 32)
  model.inception_2b = width_config(32, 32, 64, 16, 32, 32)
  return model


def common_defaults() -> ConfigDict:
  """The fields that every stack of Inception modules has."""
  model = ConfigDict()
  model.norm = "batch"
  model.batch_norm_momentum = 0.9
  model.batch_norm_epsilon = 1e-5
  model.init = "he"  # gaussian | xavier | he
  model.init_std = 0.05  # of gaussian
  model.init_bias = 0.0
  model.reduce_scale = 1.0  # times the 3×3 and 5×5 reductions of every module
  model.reductions = True  # False takes them out
  model.pool_projection = True  # False takes out the 1×1 after each module's pool
  model.linear = ()  # 1×1 layers without ReLU: conv1x1, reduce3x3, reduce5x5, pool_proj
  model.large_kernel = 5  # of the branch called 5×5
  model.downsample = "max"  # max | avg | pointwise (a strided 1×1)
  model.dropout = 0.0
  return model


def width_config(*widths: int) -> ConfigDict:
  """`config.model.inception_1a`: conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj."""
  return ConfigDict(dataclasses.asdict(InceptionWidths(*widths)))


def module_widths(model: ConfigDict) -> tuple[tuple[str, InceptionWidths], ...]:
  """The modules of `config.model` by name, after `reduce_scale`, `reductions` and `pool_projection`.

  Raises:
    ConfigError: a name, a width or a scale that can't be.
  """
  scale = model.reduce_scale
  if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
    raise ConfigError("model.reduce_scale", scale, "a number more than 0")
  modules = []
  for name in sorted(name for name in model if name.startswith("inception_")):
    if not stage(name).isdigit() or not name[-1].isalpha():
      raise ConfigError(f"model.{name}", "…", "a name of the stage's number and a letter: inception_3a")
    config = model[name]
    fields = [field.name for field in dataclasses.fields(InceptionWidths)]
    if sorted(config) != sorted(fields):
      raise ConfigError(f"model.{name}", sorted(config), f"exactly {', '.join(fields)}")
    for field in fields:
      check_width(f"model.{name}.{field}", config[field], least=0)
    widths = InceptionWidths(**config.to_dict()).scale_reductions(scale)
    if not model.reductions:
      widths = widths.without("reduce3x3", "reduce5x5")
    if not model.pool_projection:
      widths = widths.without("pool_proj")
    modules.append((name, widths))
  if not modules:
    raise ConfigError("model", sorted(model), "at least one module, inception_1a")
  return tuple(sorted(modules, key=lambda item: (int(stage(item[0])), item[0])))


def network(
  model: ConfigDict, stem: nn.Module, norms: tuple[str, ...], dtype, axis_name: str | None, **fields
) -> InceptionNet:
  """The network of `config.model` over a stem; `fields` are `InceptionNet`'s own.

  Raises:
    ConfigError: a field that can't be.
  """
  choose("model.downsample", model.downsample, DOWNSAMPLES)
  for name in model.linear:
    choose("model.linear", name, POINTWISE_LAYERS)
  if not 0 <= model.dropout < 1:
    raise ConfigError("model.dropout", model.dropout, "0 or more, less than 1")
  return InceptionNet(
    stem=stem,
    modules=module_widths(model),
    num_classes=model.num_classes,
    options=LayerOptions.from_config(model, norms, dtype, axis_name),
    downsample=model.downsample,
    large_kernel=check_width("model.large_kernel", model.large_kernel),
    linear=tuple(model.linear),
    dropout=model.dropout,
    **fields,
  )


def from_config(model: ConfigDict, dtype, axis_name: str | None) -> InceptionNet:
  """The small network of `config.model`.

  Raises:
    ConfigError: a field that can't be.
  """
  for width in model.stem_features:
    check_width("model.stem_features", width)
  if not model.stem_features:
    raise ConfigError(
      "model.stem_features", model.stem_features, "the first convolution's width, then those of 1×1 layers"
    )
  check_width("model.stem_kernel", model.stem_kernel)
  stem = SmallStem(tuple(model.stem_features), model.stem_kernel)
  return network(model, stem, ("none", "batch"), dtype, axis_name)
