"""Stacks of Inception modules, and the small one for images of 8×8 to 32×32."""

import dataclasses
import re
from collections.abc import Iterator

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
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
from nin_jax.checks import Fields, field, fraction, one_of, within
from nin_jax.errors import ConfigError
from nin_jax.layers import Conv, Dense, Dropout, HeadPool, Pointwise
from nin_jax.models.options import (
  MAX_WIDTH,
  LayerOptions,
  option_checks,
  width_checks,
  width_tuple_checks,
  window_checks,
)


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
    auxiliary_options: fields of `AuxiliaryHead`, frozen: networks are hashed.
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
  auxiliary_options: FrozenDict = FrozenDict()
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
    auxiliary, module = [], self.options.block(Inception, train)
    stages = [stage(name) for name, _ in self.modules]
    for index, (name, widths) in enumerate(self.modules):
      if index and stages[index] != stages[index - 1]:
        window = self.last_pool_window if stages[index] == stages[-1] else 3
        x = Downsample(self.downsample, window, 2, pointwise, name=f"pool{stages[index - 1]}")(x)
      x = module(widths, self.large_kernel, self.linear, conv, pointwise, train, name=name)(x)
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


def is_block(name: str) -> bool:
  """Whether a field of `config.model` is one of any number of modules."""
  return name.startswith("inception_")


def block_fields() -> ConfigDict:
  """A module with a value of the right type in each field."""
  return width_config(1, 1, 1, 1, 1, 1)


def module_widths(model: ConfigDict) -> tuple[tuple[str, InceptionWidths], ...]:
  """The modules of `config.model` by name, in order, after `reduce_scale`, `reductions` and `pool_projection`."""
  modules = []
  for name in sorted(filter(is_block, model), key=lambda name: (int(stage(name)), name)):
    widths = InceptionWidths(**model[name].to_dict()).scale_reductions(model.reduce_scale)
    if not model.reductions:
      widths = widths.without("reduce3x3", "reduce5x5")
    if not model.pool_projection:
      widths = widths.without("pool_proj")
    modules.append((name, widths))
  return tuple(modules)


def _modules(model: Fields) -> Iterator[ConfigError]:
  names = list(filter(is_block, model))
  if not names:
    yield ConfigError("model", sorted(model), "at least one module, inception_1a")
  for name in names:
    if not re.fullmatch("inception_[0-9]{1,4}[a-z]", name):
      yield model.error(name, "a name of the stage's number and a letter: inception_3a")


def _each_module(model: Fields) -> Iterator[ConfigError]:
  fields = [field.name for field in dataclasses.fields(InceptionWidths)]
  yield from within(model, filter(is_block, model), width_checks(" ".join(fields), 0))


def _linear(model: Fields) -> Iterator[ConfigError]:
  for name in model.linear:
    if not (isinstance(name, str) and name in POINTWISE_LAYERS):
      yield ConfigError(f"{model.prefix}linear", name, f"one of {', '.join(POINTWISE_LAYERS)}")


def _scaled(model: Fields) -> Iterator[ConfigError]:
  reductions = [model[name][reduction] for name in filter(is_block, model) for reduction in ("reduce3x3", "reduce5x5")]
  if model.reduce_scale * max(reductions, default=0) > MAX_WIDTH:
    yield model.error("reduce_scale", f"a number that leaves all widths at {MAX_WIDTH} or less")


COMMON_CHECKS = [
  *width_checks("num_classes"),
  *window_checks("large_kernel"),
  *one_of("downsample", DOWNSAMPLES),
  *field("dropout", fraction, "0 or more, less than 1"),
  *field("reduce_scale", lambda scale: 0 < scale <= MAX_WIDTH, f"a number more than 0, up to {MAX_WIDTH}"),
  _linear,
  _modules,
  _each_module,
  _scaled,
]

CHECKS = [
  *COMMON_CHECKS,
  *option_checks(("none", "batch")),
  *width_tuple_checks("stem_features", "the first convolution's width, then those of 1×1 layers"),
  *window_checks("stem_kernel"),
]


def network(model: ConfigDict, stem: nn.Module, dtype, axis_name: str | None, **fields) -> InceptionNet:
  """The network of `config.model`, whose fields are right, over a stem; `fields` are `InceptionNet`'s own."""
  return InceptionNet(
    stem=stem,
    modules=module_widths(model),
    num_classes=model.num_classes,
    options=LayerOptions.from_config(model, dtype, axis_name),
    downsample=model.downsample,
    large_kernel=model.large_kernel,
    linear=tuple(model.linear),
    dropout=model.dropout,
    **fields,
  )


def from_config(model: ConfigDict, dtype, axis_name: str | None) -> InceptionNet:
  """The small network of `config.model`, whose fields are right."""
  return network(model, SmallStem(tuple(model.stem_features), model.stem_kernel), dtype, axis_name)
