"""What training makes small."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict


def cross_entropy(
  logits: Float[Array, "n classes"], labels: Int[Array, " n"], smoothing: float = 0.0
) -> Float[Array, " n"]:
  """Cross-entropy in nats of softmax(logits) against (1 - smoothing) · one-hot + smoothing / classes.

  Label smoothing: Szegedy et al. 2015 (Inception v3), section 7.
  """
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  if smoothing:
    loss = (1 - smoothing) * loss - smoothing * jnp.mean(jax.nn.log_softmax(logits), axis=-1)
  return loss


def objective(
  params: dict,
  batch_stats: dict,
  network: nn.Module,
  config_train: ConfigDict,
  images: Float[Array, "n h w c"],
  labels: Int[Array, " n"],
  example_ids: Int[Array, " n"],
  dropout_key: Array,
) -> tuple[Float[Array, ""], tuple[dict, dict[str, Float[Array, ""]]]]:
  """The mean loss over a batch: cross-entropy plus `auxiliary_weight` times each auxiliary head's.

  Args:
    params, batch_stats: the network's variables.
    network: see `models.build`.
    config_train: `label_smoothing`, `auxiliary_weight`, and `remat` where it is there.
    images, labels: a batch.
    example_ids: each example's number within the whole batch.
    dropout_key: of this step.

  Returns:
    What is made small; and the new batch statistics with {"loss": the classifier's own cross-entropy, as evaluation
    has it, "accuracy" (0 to 1), "objective": what is made small, "spread": the largest difference of two logits of one
    image, 0 where the network is dead}.
  """
  if config_train.get("remat", False):
    network = network.clone(options=dataclasses.replace(network.options, remat=True))
  (logits, auxiliary), updates = network.apply(
    {"params": params, "batch_stats": batch_stats},
    images,
    train=True,
    example_ids=example_ids,
    rngs={"dropout": dropout_key},
    mutable=["batch_stats"],
  )
  with jax.named_scope("loss"):
    total = cross_entropy(logits, labels, config_train.label_smoothing).mean()
    for more in auxiliary:
      total += config_train.auxiliary_weight * cross_entropy(more, labels, config_train.label_smoothing).mean()
  metrics = {
    "loss": cross_entropy(logits, labels).mean(),
    "objective": total,
    "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=jnp.float32),
    "spread": jnp.max(jnp.max(logits, axis=-1) - jnp.min(logits, axis=-1)),
  }
  return total, (updates.get("batch_stats", {}), metrics)
