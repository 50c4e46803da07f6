"""What a network says of all its layers: normalisation, initialisation, type of compute."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from nin_jax.errors import ConfigError
from nin_jax.layers import Pointwise, batch_norm, kernel_initializer
from nin_jax.layers.initializers import INITIALIZERS


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
  """

  norm: str = "none"
  batch_norm_momentum: float = 0.9
  batch_norm_epsilon: float = 1e-5
  init: str = "he"
  init_std: float = 0.05
  init_bias: float = 0.0
  dtype: DTypeLike = jnp.float32
  axis_name: str | None = None

  @classmethod
  def from_config(cls, model: ConfigDict, norms: tuple[str, ...], dtype: DTypeLike, axis_name: str | None):
    """Reads the fields of `config.model` that have these names.

    Raises:
      ConfigError: an unknown normalisation or initialiser, or numbers out of range.
    """
    choose("model.norm", model.norm, norms)
    choose("model.init", model.init, INITIALIZERS)
    if model.init_std <= 0:
      raise ConfigError("model.init_std", model.init_std, "more than 0")
    if not 0 <= model.batch_norm_momentum < 1:
      raise ConfigError("model.batch_norm_momentum", model.batch_norm_momentum, "0 or more, less than 1")
    if model.batch_norm_epsilon <= 0:
      raise ConfigError("model.batch_norm_epsilon", model.batch_norm_epsilon, "more than 0")
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

  def classifier(self) -> Callable[..., nn.Module]:
    """The 1×1 that gives the logits: linear, with a bias that begins at 0, and a float32 result."""
    init = kernel_initializer(self.init, self.init_std)
    return partial(Pointwise, norm=None, activation=None, kernel_init=init, dtype=self.dtype, result_dtype=jnp.float32)


def choose(field: str, value: object, accepted: tuple) -> None:
  """Raises ConfigError unless the value is one of those accepted."""
  if value not in accepted:
    raise ConfigError(field, value, f"one of {', '.join(map(str, accepted))}")


def check_width(field: str, value: object, least: int = 1) -> int:
  """A number of channels, or ConfigError."""
  if not isinstance(value, int) or isinstance(value, bool) or value < least:
    raise ConfigError(field, value, f"a whole number of at least {least}")
  return value
