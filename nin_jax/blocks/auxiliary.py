"""The auxiliary classifier of GoogLeNet."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float, Int

from nin_jax.layers import AvgPool, Dense, Dropout, Pointwise


class AuxiliaryHead(nn.Module):
  """Average pool 5×5/3, 1×1, fully connected, dropout, linear (Szegedy et al. 2014, section 5).

  Attributes:
    num_classes: outputs.
    reduction, features: channels of the 1×1 and of the fully connected layer.
    dropout_rate: before the linear layer.
    deterministic: True switches dropout off.
    pointwise, dense: the layers with what the network says of type, norm, activation and bias.
    classifier: makes the linear layer, `classifier(num_classes, name=...)`.
  """

  num_classes: int
  reduction: int = 128
  features: int = 1024
  dropout_rate: float = 0.7
  deterministic: bool = False
  pointwise: Callable[..., nn.Module] = Pointwise
  dense: Callable[..., nn.Module] = Dense
  classifier: Callable[..., nn.Module] = Pointwise

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"], example_ids: Int[Array, " n"]) -> Float[Array, "n classes"]:
    x = AvgPool(5, 3, name="pool")(x)
    x = self.pointwise(self.reduction, name="reduce")(x)
    x = self.dense(self.features, size=x.shape[1:3], name="dense")(x)
    x = Dropout(self.dropout_rate, self.deterministic, name="dropout")(x, example_ids)
    return self.classifier(self.num_classes, name="classifier")(x)[:, 0, 0, :]
