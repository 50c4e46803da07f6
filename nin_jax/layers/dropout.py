"""Dropout whose noise belongs to an example, not to its place on a device."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int


class Dropout(nn.Module):
  """Sets each value to zero with probability `rate` and scales the others by 1 / (1 - rate).

  Each example's mask is drawn from the layer's key and the example's number: a batch gets the same masks however it is
  spread over devices or split into parts. (Flax's own draws one mask for the array that a device holds.)

  Attributes:
    rate: probability of a zero.
    deterministic: True leaves the input as it is.
  """

  rate: float
  deterministic: bool

  @nn.compact
  def __call__(self, x: Float[Array, " n *shape"], example_ids: Int[Array, " n"]) -> Float[Array, " n *shape"]:
    if self.deterministic or self.rate == 0.0:
      return x
    keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), example_ids)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros((), x.dtype)).astype(x.dtype)
