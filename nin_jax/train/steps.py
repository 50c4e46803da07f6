"""The parallel steps of training and evaluation: the only file that knows pmap.

The state is replicated and donated, a batch is split over the devices in order (device d of D holds the positions
[d · n / D, (d + 1) · n / D)), and all that a step returns is reduced over the devices.
"""

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, UInt32
from ml_collections import ConfigDict

from nin_jax import models
from nin_jax.data import Pipeline
from nin_jax.ops.lowering import lowered_as
from nin_jax.train import averaging
from nin_jax.train.compilation import Program, fast, quick
from nin_jax.train.objective import cross_entropy
from nin_jax.train.update import TrainState, repeated, update

AXIS = "batch"
Devices = Sequence[jax.Device]


def replicate(tree: Any, devices: Devices) -> Any:
  """Puts arrays on each device, whole; in a run of several processes, each puts its own, which are to be equal."""
  sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
  if _local(devices) == len(devices):
    return jax.device_put(tree, sharding)
  # device_put would send the arrays to all processes, to compare them
  place = lambda host: jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
  return jax.tree.map(lambda array: place(np.asarray(array)), tree)


def shard(batch: Any, devices: Devices) -> Any:
  """[n, ...] → [devices of this process, n / devices, ...] for each array of a tree."""
  return jax.tree.map(lambda x: x.reshape(_local(devices), -1, *x.shape[1:]), batch)


def spread(tree: Any, devices: Devices) -> Any:
  """[devices, ...] → the same array with its first axis spread over the devices, as a parallel map takes it."""
  return jax.device_put(tree, NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS)))


def on_device(array: Array, device: int) -> Array:
  """A device's part of what `spread` or a parallel map gave, without anything sent between devices."""
  part = next(shard for shard in array.addressable_shards if shard.index[0].start in (device, None))
  return part.data[0]


def stop_flags(signal: int, devices: Devices) -> np.ndarray:
  """A signal's number, or 0, as the steps take it: int32 [devices of this process]."""
  return np.full(_local(devices), signal, np.int32)


def ahead(devices: Devices) -> int:
  """How many steps that don't depend on each other may be under way when the next one is dispatched.

  Several CPU devices: none. Those of several processes know their collectives by the order in which they come, and two
  programs at once may come in another order on each side, which hangs. Those of one process share its threads: two
  programs that each wait, in some of them, for the other devices may leave none to these, which ends after 40 s in an
  abort of XLA's (1 run in 30 of four devices on two busy cores). Elsewhere they run in the order of dispatch.
  """
  return 0 if devices[0].platform == "cpu" and len(devices) > 1 else 1


_mapped: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of each function, a reference to what `_map` made


def _map(function: Callable, devices: Devices, **axes: Any) -> Callable:
  """`jax.pmap` of a function over the devices; see `released`."""
  mapped = jax.pmap(function, AXIS, devices=list(devices), **axes)
  _mapped[function] = weakref.ref(mapped)
  return mapped


@contextlib.contextmanager
def released() -> Iterator[None]:
  """Decorates a function that trains or evaluates: when it has returned, JAX's caches hold none of its steps.

  From jax 0.8 on, the cache of `jax.pmap` keeps its functions alive, with all that they close over (the data set's open
  files), their traces and their programs. JAX has no public way to remove one of them, so all caches are cleared, and
  other jitted functions of this process are traced and compiled again at their next call. If nothing is left to remove,
  as in jax 0.7, nothing is cleared.
  """
  try:
    yield
  finally:
    if any(mapped() is None for mapped in _mapped.values()):
      jax.clear_caches()


def _local(devices: Devices) -> int:
  """How many of the devices are this process's."""
  return sum(device.process_index == jax.process_index() for device in devices)


def init_state(
  network: nn.Module, optimizer: optax.GradientTransformation, config_train: ConfigDict, image_shape: tuple[int, ...]
) -> Callable[[int], TrainState]:
  """Makes init(seed) → the state before the first step, compiled once for all seeds."""

  def init(seed: UInt32[Array, ""]) -> TrainState:
    params_key, dropout_key = jax.random.split(jax.random.key(seed))
    keys = {"params": params_key, "dropout": dropout_key}
    variables, _ = models.init(network, image_shape, keys)
    params = variables["params"]
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables.get("batch_stats", {}),
      opt_state=optimizer.init(params),
      average=averaging.init(config_train, params),
    )

  # It runs once: to compile it well would take four times as long, for the same bits.
  compiled = jax.jit(init, compiler_options=quick(jax.default_backend()))
  return lambda seed: compiled(np.uint32(seed))


def train_step(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  pipeline: Pipeline,
  config: ConfigDict,
  total_steps: int,
  devices: Devices,
  rate: optax.Schedule | None = None,
  count: int = 1,
) -> Callable[[TrainState, Any, Any, np.ndarray], tuple[TrainState, dict[str, Array]]]:
  """Makes step(state, arrays, batch, stop) → (state, metrics); the state given is donated.

  Data augmentation and dropout are functions of (seed, step, position in the batch), so that neither the number of
  devices nor `train.accumulate_steps` changes them. With D devices, per-device batch normalisation sees the batch in
  D · accumulate_steps parts, synchronised in accumulate_steps.

  Args:
    network: see `models.build`, with `axis_name=AXIS` for synchronised batch normalisation.
    optimizer: see `optimizer`.
    pipeline: whose `load_train` gives the images, traced inside the step.
    config: the whole config.
    total_steps: for averages.
    devices: to run on.
    rate: the optimizer's learning rate, to be among the metrics.
    count: of steps that a call makes, one after the other in one program.

  Returns:
    The step. `batch` is [devices, n / devices, ...]; the metrics are those of `objective`, over the whole batch,
    "learning_rate" where there is a `rate`, and "stop", the largest of `stop_flags` over all devices: so all processes
    read the same, and stop at the same step. With a `count` above 1, `batch` is [devices, count, n / devices, ...], and
    each metric [count].
  """
  step = repeated(update(network, optimizer, pipeline, config.train, total_steps, AXIS, rate), count)
  mapped = _map(step, devices, in_axes=(None, None, 0, 0, None), out_axes=(None, None), donate_argnums=(0,))
  program = _program(mapped, config, devices)
  return lambda state, arrays, batch, stop: program(state, arrays, batch, stop, np.uint32(config.seed))


def seeds_of_call(count: int, devices: Devices) -> int:
  """How many of a device's seeds a call of `train_step_of_seeds` trains.

  All of them, vmapped; on CPUs one, whose program is 1.2 to 1.4 times as fast as a vmapped one, and 1.1 to 1.25 times
  as one with a loop over them, in which XLA's convolutions fall to a slow path.
  """
  return 1 if devices[0].platform == "cpu" else count


def train_step_of_seeds(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  pipeline: Pipeline,
  config: ConfigDict,
  total_steps: int,
  devices: Devices,
  rate: optax.Schedule | None = None,
  count: int = 1,
) -> Callable[[TrainState, Any, Any, np.ndarray], tuple[TrainState, dict[str, Array]]]:
  """Makes step(state, arrays, batch, seeds) → (state, metrics) of several trainings that differ in their seed alone.

  Each device trains the seeds it is given, several vmapped, with their whole batches, so that nothing is sent between
  devices, and calls need not wait for each other. Each seed's numbers are those of `train_step` to float tolerance: on
  one device always, on several with synchronised batch normalisation (and `train.accumulate_steps=1`, whose parts are
  cut otherwise there). All leaves of state, batch, seeds and metrics are [devices, seeds of a device in this call,
  ...]; the state given is donated.

  Args:
    network: see `models.build`, with `axis_name=None`.
    optimizer, pipeline, total_steps: as in `train_step`; the pipeline of any of the seeds.
    config: the config of any of them.
    devices: to run on.
    rate, count: as in `train_step`; with a `count` above 1, batch and metrics are [devices, seeds of one, count, ...].
  """
  step = repeated(update(network, optimizer, pipeline, config.train, total_steps, None, rate), count)

  def steps(states: TrainState, arrays: Any, batches: Any, seeds: UInt32[Array, " s"]):
    one = lambda state, batch, seed: step(state, arrays, batch, np.int32(0), seed)
    if len(seeds) > 1:
      return jax.vmap(one)(states, batches, seeds)
    state, batch, seed = jax.tree.map(lambda leaf: leaf[0], (states, batches, seeds))
    return jax.tree.map(lambda leaf: leaf[None], one(state, batch, seed))

  mapped = _map(steps, devices, in_axes=(0, None, 0, 0), donate_argnums=(0,))
  return _program(mapped, config, devices)


def _program(mapped: Any, config: ConfigDict, devices: Devices) -> Callable:
  """The mapped step, compiled for these devices, with convolutions lowered as the config says."""
  if _local(devices) < len(devices):
    return _shared_program(mapped, config)
  options = lambda flops: fast(devices[0].platform, config.precision, flops)
  return Program(mapped, options, lambda: lowered_as(config.lowering))


def _shared_program(mapped: Any, config: ConfigDict) -> Callable:
  """In a run of several processes, whose arrays only the mapped function itself takes: with no compiler options."""

  def call(*args: Any) -> Any:
    with lowered_as(config.lowering):
      return mapped(*args)

  return call


def statistics_step(
  network: nn.Module, pipeline: Pipeline, config: ConfigDict, devices: Devices
) -> Callable[[Any, Any, Any, Any, np.ndarray, int], Any]:
  """Makes step(params, batch_stats, arrays, batch, seed, number) → the batch statistics of that batch alone.

  Args:
    network: as in training.
    pipeline: whose `load_train` gives the images, traced inside the step.
    config: the whole config.
    devices: to run on; their statistics are averaged.

  Returns:
    The step. `seed`, uint32, decides augmentation and dropout, with the batch's number.
  """
  network = network.clone(options=dataclasses.replace(network.options, batch_norm_momentum=0.0))

  def step(params: Any, batch_stats: Any, arrays: Any, batch: Any, seed: UInt32[Array, ""], number: Int[Array, ""]):
    n = jax.tree.leaves(batch)[0].shape[0]
    positions = lax.axis_index(AXIS) * n + jnp.arange(n)
    data_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
    images, _ = pipeline.load_train(arrays, batch, positions, data_key)
    variables, rngs = {"params": params, "batch_stats": batch_stats}, {"dropout": dropout_key}
    _, updates = network.apply(variables, images, True, positions, rngs=rngs, mutable=["batch_stats"])
    return lax.pmean(updates["batch_stats"], AXIS)

  mapped = _map(step, devices, in_axes=(None, None, None, 0, None, None), out_axes=None)
  return _program(mapped, config, devices)


def eval_step(
  network: nn.Module, config: ConfigDict, devices: Devices
) -> Callable[[dict, Any, np.ndarray], dict[str, Array]]:
  """Makes step(variables, examples, stop) → {"loss": sum over images, "correct", "count", "stop"}.

  Padding is left out; "stop" is as in `train_step`. `examples` are what `load_step` gives, of any split.

  Args:
    network: see `models.build`.
    config: the whole config.
    devices: to run on.
  """

  def step(variables: dict, examples: tuple[Array, Array, Array], stop: Array) -> dict[str, Array]:
    images, labels, mask = examples
    logits, _ = network.apply(variables, images)
    correct = (jnp.argmax(logits, axis=-1) == labels) & (mask > 0)
    # where, not a product: a padded image's loss may be infinite
    losses = jnp.where(mask > 0, cross_entropy(logits, labels), 0.0)
    sums = {"loss": losses.sum(), "correct": correct.sum(), "count": (mask > 0).sum()}
    return lax.psum(sums, AXIS) | {"stop": lax.pmax(stop, AXIS)}

  mapped = _map(step, devices, in_axes=(None, 0, 0), out_axes=None)
  return _program(mapped, config, devices)


def load_step(pipeline: Pipeline, split: str, devices: Devices) -> Callable[[Any, Any], tuple[Array, Array, Array]]:
  """Makes load(arrays, batch) → the images, labels and mask of a split ("train" or "test"), as `eval_step` takes them.

  Apart from `eval_step`, so that the network is compiled once for both splits.
  """
  load = lambda arrays, batch: pipeline.load_eval(arrays, split, batch)
  return _map(load, devices, in_axes=(None, 0))
