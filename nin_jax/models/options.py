"""What a network says of all its layers: normalisation, initialisation, type of compute."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from nin_jax.checks import MAX_FLOAT, Check, field, fraction, one_of, positive, whole
from nin_jax.layers import Pointwise, batch_norm, kernel_initializer
from nin_jax.layers.initializers import INITIALIZERS

MAX_WIDTH = 2**20  # more channels than any network has, and shapes stay far from what overflows
MAX_WINDOW = 256  # a pool is unrolled over its window
MAX_LAYERS = 100  # of a block


@dataclasses.dataclass(frozen=True)
class LayerOptions:
  """Injected into each layer of a network.

  Attributes:
    norm: "batch": batch normalisation in place of each bias; any other: biases.
    batch_norm_momentum, batch_norm_epsilon: see `layers.batch_norm`.
    init, init_std: see `layers.kernel_initializer`.
    init_bias: the biases' first value.
    dtype: type of compute.
    axis_name: of the parallel map over which batch normalisation is synchronised; None: per device.
    remat: in training, keep what goes into a block and work its maps out again for the gradients (Chen et al. 2016).
  """

  norm: str = "none"
  batch_norm_momentum: float = 0.9
  batch_norm_epsilon: float = 1e-5
  init: str = "he"
  init_std: float = 0.05
  init_bias: float = 0.0
  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None
  remat: bool = False

  @classmethod
  def from_config(cls, model: ConfigDict, dtype: DTypeLike, axis_name: str | None):
    """Reads the fields of `config.model` that have these names."""
    own = {field.name: model[field.name] for field in dataclasses.fields(cls) if field.name in model}
    return cls(**own, dtype=dtype, axis_name=axis_name)

  def layer(self, kind: Callable[..., nn.Module], train: bool) -> Callable[..., nn.Module]:
    """`kind` (Conv, Pointwise or Dense) as this network has it in its body."""
    norm = None
    if self.norm == "batch":
      norm = batch_norm(train, self.dtype, self.axis_name, self.batch_norm_momentum, self.batch_norm_epsilon)
    return partial(
      kind,
      norm=norm,
      kernel_init=kernel_initializer(self.init, self.init_std),
      bias_init=nn.initializers.constant(self.init_bias),
      dtype=self.dtype,
    )

  def block(self, kind: Callable[..., nn.Module], train: bool) -> Callable[..., nn.Module]:
    """`kind`, a block, as this network has it."""
    return nn.remat(kind) if self.remat and train else kind

  def classifier(self) -> Callable[..., nn.Module]:
    """The 1×1 that gives the logits: linear, with a bias that begins at 0, and a float32 result."""
    init = kernel_initializer(self.init, self.init_std)
    return partial(Pointwise, norm=None, activation=None, kernel_init=init, dtype=self.dtype, result_dtype=jnp.float32)


def option_checks(norms: tuple[str, ...]) -> list[Check]:
  """Checks of the fields of `config.model` that `LayerOptions` reads."""
  return [
    *one_of("norm", norms),
    *one_of("init", INITIALIZERS),
    *field("init_std batch_norm_epsilon", positive, "more than 0"),
    *field("batch_norm_momentum", fraction, "0 or more, less than 1"),
    *field("init_bias", lambda value: abs(value) < MAX_FLOAT, "a finite number"),
  ]


def width_checks(names: str, least: int = 1) -> list[Check]:
  """Checks of numbers of channels."""
  return whole(names, least, MAX_WIDTH)


def window_checks(names: str, least: int = 1) -> list[Check]:
  """Checks of kernels, pools and paddings."""
  return whole(names, least, MAX_WINDOW)


def width_tuple_checks(name: str, what: str) -> list[Check]:
  """A check of a tuple of numbers of channels, one a layer."""

  def sound(values: tuple) -> bool:
    whole_numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return 1 <= len(values) <= MAX_LAYERS and whole_numbers and all(1 <= value <= MAX_WIDTH for value in values)

  return field(name, sound, f"{what}: up to {MAX_LAYERS} whole numbers from 1 to {MAX_WIDTH}")
