"""One update on one device of a parallel map, or several one after the other: what `steps` maps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import lax
from jaxtyping import Array, Int, UInt32
from ml_collections import ConfigDict

from nin_jax.data import Pipeline
from nin_jax.ops.lowering import in_loop
from nin_jax.train import averaging
from nin_jax.train.objective import objective


@struct.dataclass
class TrainState:
  """All that a step changes; the same on each device.

  Attributes:
    step: number of updates made, int32.
    params, batch_stats: the network's variables.
    opt_state: the optimizer's.
    average: of the parameters, see `averaging`; None where nothing is averaged.
  """

  step: Int[Array, ""]
  params: Any
  batch_stats: Any
  opt_state: Any
  average: Any


def update(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  pipeline: Pipeline,
  config_train: ConfigDict,
  total_steps: int,
  axis: str | None,
  rate: optax.Schedule | None,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """Makes step(state, arrays, batch, stop, seed), on one device of a map over `axis`, or None for a whole batch."""
  parts = config_train.accumulate_steps

  def step(state: TrainState, arrays: Any, batch: Any, stop: Array, seed: UInt32[Array, ""]):
    n = jax.tree.leaves(batch)[0].shape[0]
    positions = (lax.axis_index(axis) * n if axis else 0) + jnp.arange(n)
    seed_key = jax.random.fold_in(jax.random.key(seed), 1)
    data_key, dropout_key = jax.random.split(jax.random.fold_in(seed_key, state.step))

    def gradient(batch_stats: Any, part: Any) -> tuple[Any, tuple[Any, dict[str, Array]]]:
      batch, positions = part
      images, labels = pipeline.load_train(arrays, batch, positions, data_key)
      grad = jax.grad(objective, has_aux=True)
      grads, (batch_stats, metrics) = grad(
        state.params, batch_stats, network, config_train, images, labels, positions, dropout_key
      )
      return batch_stats, (grads, metrics)

    if parts == 1:
      batch_stats, (grads, metrics) = gradient(state.batch_stats, (batch, positions))
    else:
      in_parts = jax.tree.map(lambda x: x.reshape(parts, n // parts, *x.shape[1:]), (batch, positions))
      with in_loop():
        batch_stats, (grads, metrics) = _accumulate(gradient, state.batch_stats, in_parts)
    if rate:
      metrics["learning_rate"] = rate(state.step)
    largest = {"spread": metrics.pop("spread"), "stop": stop}
    if axis:
      largest = lax.pmax(largest, axis)
      grads, batch_stats, metrics = lax.pmean((grads, batch_stats, metrics), axis)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = averaging.update(config_train, state.average, params, state.step + 1, total_steps)
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), metrics | largest

  return step


def repeated(step: Callable, count: int) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
  """A step that makes `count` of them: batches and metrics have them as their first axis.

  A loop: unrolled, eight steps of `inception_digits` took four times as long to compile, and were no faster.
  """
  if count == 1:
    return step

  def steps(state: TrainState, arrays: Any, batches: Any, stop: Array, seed: UInt32[Array, ""]):
    with in_loop():
      return lax.scan(lambda state, batch: step(state, arrays, batch, stop, seed), state, batches)

  return steps


def _accumulate(gradient: Callable, batch_stats: Any, in_parts: Any) -> tuple[Any, tuple[Any, dict[str, Array]]]:
  """Runs `gradient` on one part after the other, in the memory of one; means of gradients and metrics."""

  def body(carry, part):
    batch_stats, total = carry
    batch_stats, (grads, metrics) = gradient(batch_stats, part)
    return (batch_stats, jax.tree.map(jnp.add, total, grads)), metrics

  first = jax.tree.map(lambda x: x[0], in_parts)
  _, (shapes, _) = jax.eval_shape(gradient, batch_stats, first)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  (batch_stats, total), metrics = lax.scan(body, (batch_stats, zeros), in_parts)
  parts = jax.tree.leaves(in_parts)[0].shape[0]
  means = {name: values.max() if name == "spread" else values.mean() for name, values in metrics.items()}
  return batch_stats, (jax.tree.map(lambda x: x / parts, total), means)
