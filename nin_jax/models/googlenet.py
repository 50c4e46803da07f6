"""GoogLeNet (Szegedy et al. 2014), as the paper's Table 1 has it, and torchvision's variant."""

from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from nin_jax.blocks import SeparableConv
from nin_jax.checks import field, fraction, one_of
from nin_jax.layers import LocalResponseNorm, MaxPool
from nin_jax.models import inception
from nin_jax.models.inception import block_fields, is_block
from nin_jax.models.options import option_checks, width_checks, window_checks

# Table 1: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj.
TABLE_1 = {
  "inception_3a": (64, 96, 128, 16, 32, 32),
  "inception_3b": (128, 128, 192, 32, 96, 64),
  "inception_4a": (192, 96, 208, 16, 48, 64),
  "inception_4b": (160, 112, 224, 24, 64, 64),
  "inception_4c": (128, 128, 256, 24, 64, 64),
  "inception_4d": (112, 144, 288, 32, 64, 64),
  "inception_4e": (256, 160, 320, 32, 128, 128),
  "inception_5a": (256, 160, 320, 32, 128, 128),
  "inception_5b": (384, 192, 384, 48, 128, 128),
}
__all__ = ["CHECKS", "block_fields", "defaults", "from_config", "is_block", "torchvision_defaults"]

AUXILIARY = ("inception_4a", "inception_4d")


class GoogLeNetStem(nn.Module):
  """7×7/2, pool, 1×1, 3×3, pool: from 224² to 28².

  Attributes:
    conv1, reduce2, conv2: output channels.
    separable: the first layer as a depthwise 7×7/2 of multiplier 8 and a 1×1, see `SeparableConv`.
    lrn: local response normalisation after the first pool and before the second.
  """

  conv1: int = 64
  reduce2: int = 64
  conv2: int = 192
  separable: bool = False
  lrn: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], conv, pointwise) -> Float[Array, "n h2 w2 d"]:
    if self.separable:
      x = SeparableConv(self.conv1, conv=conv, pointwise=pointwise, name="conv1")(x)
    else:
      x = conv(self.conv1, kernel=7, strides=2, padding=3, name="conv1")(x)
    x = MaxPool(3, 2, ceil_mode=True, name="pool1")(x)
    x = LocalResponseNorm(name="lrn1")(x) if self.lrn else x
    x = pointwise(self.reduce2, name="reduce2")(x)
    x = conv(self.conv2, kernel=3, name="conv2")(x)
    x = LocalResponseNorm(name="lrn2")(x) if self.lrn else x
    return MaxPool(3, 2, ceil_mode=True, name="pool2")(x)


def defaults() -> ConfigDict:
  """`config.model` of the paper's network, with the initialisation of BVLC's Caffe copy."""
  model = inception.common_defaults()
  model.name = "googlenet"
  model.num_classes = 1000
  model.norm = "lrn"  # lrn | batch | none
  model.init = "xavier"
  model.init_bias = 0.2  # of convolutions; the classifiers' begin at 0
  model.dropout = 0.4
  model.stem = "dense"  # dense | separable
  model.conv1, model.reduce2, model.conv2 = 64, 64, 192
  for name, widths in TABLE_1.items():
    model[name] = inception.width_config(*widths)
  model.last_pool_window = 3  # torchvision has 2
  model.auxiliary = True  # heads on 4a and 4d, in training only
  model.auxiliary_dropout = 0.7
  model.auxiliary_reduction, model.auxiliary_features = 128, 1024
  return model


def torchvision_defaults() -> ConfigDict:
  """`config.model` of torchvision's GoogLeNet: batch normalisation, 3×3 in place of 5×5, and a 2×2 last pool."""
  model = defaults()
  model.norm = "batch"
  model.batch_norm_epsilon = 1e-3
  model.init, model.init_bias = "he", 0.0
  model.large_kernel = 3
  model.last_pool_window = 2
  model.dropout = 0.2
  return model


CHECKS = [
  *inception.COMMON_CHECKS,
  *option_checks(("lrn", "batch", "none")),
  *one_of("stem", ("dense", "separable")),
  *width_checks("conv1 reduce2 conv2 auxiliary_reduction auxiliary_features"),
  *window_checks("last_pool_window"),
  *field("auxiliary_dropout", fraction, "0 or more, less than 1"),
]


def from_config(model: ConfigDict, dtype, axis_name: str | None) -> inception.InceptionNet:
  """The network of `config.model`, whose fields are right."""
  widths = (model.conv1, model.reduce2, model.conv2)
  return inception.network(
    model,
    GoogLeNetStem(*widths, separable=model.stem == "separable", lrn=model.norm == "lrn"),
    dtype,
    axis_name,
    last_pool_window=model.last_pool_window,
    auxiliary=tuple(name for name in AUXILIARY if name in model) if model.auxiliary else (),
    auxiliary_options=FrozenDict(
      reduction=model.auxiliary_reduction, features=model.auxiliary_features, dropout_rate=model.auxiliary_dropout
    ),
  )
