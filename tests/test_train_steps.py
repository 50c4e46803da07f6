"""The parallel train step against `jax.grad` of the objective over the whole batch, on one device."""

import functools
import math
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nin_jax import data, models
from nin_jax.config import default
from nin_jax.models.inception import width_config
from nin_jax.ops import conv
from nin_jax.train import steps
from nin_jax.train.objective import objective

STEPS, RATE = 3, 0.5


pytestmark = pytest.mark.usefixtures("quick_compilation")


def small(**train):
  """A small Inception net with all that is random: dropout, shifts."""
  config = default()
  config.seed = 3
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 2, 4, 0, 0, 2)
  model.dropout = 0.3
  model.norm = train.pop("norm", "batch")
  config.lowering = train.pop("lowering", "auto")
  config.data.batch_size = 32
  config.data.translate = 2
  config.train.label_smoothing = 0.1
  for name, value in train.items():
    config.train[name] = value
  return config


class Run(NamedTuple):
  """Host copies: the state before the first step and after each, and the metrics of each step."""

  states: list
  metrics: list


def host(tree):
  return jax.tree.map(lambda x: np.array(x, copy=True), tree)


@functools.cache
def pipeline():
  config = small()
  return data.open(config.data, config.seed)


def prepare(config, device_count):
  """The step, its first state and its arrays."""
  devices, optimizer = jax.local_devices()[:device_count], optax.sgd(RATE)
  axis = steps.AXIS if config.train.sync_batch_norm else None
  shape = pipeline().spec.image_shape
  network = models.build(config.model, shape, axis_name=axis)
  step = steps.train_step(network, optimizer, pipeline(), config, STEPS, devices)
  state = steps.init_state(network, optimizer, config.train, shape)(config.seed)
  batches = [steps.shard(pipeline().train_batch(number), devices) for number in range(STEPS)]
  go_on = steps.stop_flags(0, devices)
  running = lambda state, arrays, batch, stop=go_on: step(state, arrays, batch, stop)
  return running, steps.replicate(state, devices), steps.replicate(pipeline().arrays, devices), batches


@functools.cache
def trained(device_count, **train) -> Run:
  step, state, arrays, batches = prepare(small(**train), device_count)
  run = Run([host(state)], [])
  for batch in batches:
    state, metrics = step(state, arrays, batch)
    assert metrics.pop("stop") == 0
    run.states.append(host(state))
    run.metrics.append(host(metrics))
  return run


@functools.cache
def plain_gradient():
  """`jax.grad` of the objective for images of the training set, with no parallel map around it."""
  config = small()
  network = models.build(config.model, pipeline().spec.image_shape)
  seed_key = jax.random.fold_in(jax.random.key(config.seed), 1)

  arrays = jax.tree.map(jnp.asarray, pipeline().arrays)

  @jax.jit
  def gradient(state, indices, positions):
    data_key, dropout_key = jax.random.split(jax.random.fold_in(seed_key, state.step))
    images, labels = pipeline().load_train(arrays, indices, positions, data_key)
    grad = jax.grad(objective, has_aux=True)
    return grad(state.params, state.batch_stats, network, config.train, images, labels, positions, dropout_key)

  return gradient


def expected(state, number, groups=1):
  """Gradients, batch statistics and metrics of a step from `state`: means over `groups` of the batch, each alone."""
  indices, positions = pipeline().train_batch(number), np.arange(32)
  rows = np.split(positions, groups)
  results = [host(plain_gradient()(state, indices[part], part)) for part in rows]
  grads, (batch_stats, metrics) = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *results)
  metrics["spread"] = max(result[1][1]["spread"] for result in results)
  return grads, batch_stats, metrics, [result[1][1] for result in results]


def assert_close(actual, wanted, tolerance=1e-5):
  assert jax.tree.structure(actual) == jax.tree.structure(wanted)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, wanted)


def gradients(run, number):
  before, after = run.states[number], run.states[number + 1]
  return jax.tree.map(lambda a, b: (a - b) / RATE, before.params, after.params)


@pytest.mark.parametrize("device_count", [1, 8])
def test_each_step_is_the_gradient_over_the_whole_batch(device_count):
  run = trained(device_count)
  for number in range(STEPS):
    grads, batch_stats, metrics, _ = expected(run.states[number], number)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 0.05  # there is something to compare
    assert_close(gradients(run, number), grads)
    assert_close(run.states[number + 1].batch_stats, batch_stats)
    assert_close(run.metrics[number], metrics)
    assert run.states[number + 1].step == number + 1


def test_eight_devices_give_what_one_gives():
  one, eight = trained(1), trained(8)
  for number in range(STEPS):
    assert_close(eight.states[number + 1].params, one.states[number + 1].params)
    assert_close(eight.states[number + 1].batch_stats, one.states[number + 1].batch_stats)
    assert_close(eight.metrics[number], one.metrics[number])


@pytest.mark.parametrize(("lowering", "device_count"), [("patches", 1), ("winograd", 8)])
def test_a_lowering_changes_how_and_not_what(lowering, device_count):
  run, plain = trained(device_count, lowering=lowering), trained(1, lowering="xla")
  for state, wanted in zip(run.states, plain.states, strict=True):
    assert_close(state.params, wanted.params, 1e-4)
  for metrics, wanted in zip(run.metrics, plain.metrics, strict=True):
    assert_close(metrics["loss"], wanted["loss"], 1e-4)


def test_batch_norm_of_each_device_alone():
  run = trained(8, sync_batch_norm=False)
  for number in range(STEPS):
    grads, batch_stats, metrics, parts = expected(run.states[number], number, groups=8)
    assert_close(gradients(run, number), grads)
    assert_close(run.states[number + 1].batch_stats, batch_stats)
    assert_close(run.metrics[number], metrics)
  # What is returned is the whole batch's, not one device's.
  assert all(part["loss"] != metrics["loss"] for part in (parts[0], parts[-1]))
  assert all(part["spread"] != metrics["spread"] for part in (parts[0], parts[-1]))
  synchronised = gradients(trained(8), 0)
  differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), gradients(run, 0), synchronised)
  assert max(jax.tree.leaves(differences)) > 1e-2


def test_accumulating_parts_changes_nothing():
  whole, parts = (trained(2, norm="none", accumulate_steps=number) for number in (1, 4))
  for number in range(STEPS):
    assert_close(gradients(parts, number), gradients(whole, number))
    assert_close(parts.metrics[number], whole.metrics[number])


def test_batch_norm_sees_the_parts():
  """With 2 devices, 4 parts and no synchronisation it sees 8 groups: the same as on 8 devices, but for their order."""
  parts, run = trained(2, sync_batch_norm=False, accumulate_steps=4), trained(8, sync_batch_norm=False)
  assert_close(gradients(parts, 0), gradients(run, 0))
  assert_close(parts.metrics[0], run.metrics[0])


def test_the_state_is_the_same_on_each_device_and_the_old_one_is_gone():
  step, state, arrays, batches = prepare(small(sync_batch_norm=False, averaging="ema"), 8)
  for batch in batches[:2]:
    old, (state, metrics) = state, step(state, arrays, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(arrays))
  for leaf in jax.tree.leaves((state, metrics)):
    shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert len(shards) == 8
    assert all(shard.shape == leaf.shape for shard in shards)
    assert all(np.array_equal(shard, shards[0]) for shard in shards)
  averaged = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.average, state.params)
  assert max(jax.tree.leaves(averaged)) > 0


def test_a_batch_is_split_in_order():
  devices = jax.local_devices()[:4]
  assert steps.shard(np.arange(8), devices).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_first_state_follows_the_seed():
  config, shape = small(), pipeline().spec.image_shape
  network = models.build(config.model, shape)
  states = []
  for seed in (0, 0, 1):
    config.seed = seed
    states.append(host(steps.init_state(network, optax.sgd(RATE), config.train, shape)(config.seed)))
  same, other = (
    jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), states[0].params, states[number].params))
    for number in (1, 2)
  )
  assert all(same)
  assert not all(other)


def test_a_signal_on_one_device_reaches_all():
  step, state, arrays, batches = prepare(small(), 8)
  flags = np.zeros(8, np.int32)
  flags[5] = 15
  _, metrics = step(state, arrays, batches[0], flags)
  assert [int(shard.data) for shard in metrics["stop"].addressable_shards] == [15] * 8


def test_compiler_options_follow_the_programs_flops(monkeypatch):
  given = []
  monkeypatch.setattr(steps, "fast", lambda platform, precision, flops: given.append((precision, flops)) or {})
  mapped = jax.pmap(lambda x: conv(x, jnp.ones((3, 3, 4, 5)), padding="VALID"), steps.AXIS)
  steps._program(mapped, default(), jax.local_devices()[:1])(np.ones((1, 2, 8, 8, 4), np.float32))
  ((precision, flops),) = given
  assert precision == "float32"
  assert flops in (math.inf, pytest.approx(2 * 2 * 6 * 6 * 9 * 4 * 5, rel=0.05))  # unknown in jax 0.7


def test_a_call_trains_one_seed_of_a_cpu_and_all_of_an_accelerator():
  devices = [types.SimpleNamespace(platform="gpu")]
  assert (steps.seeds_of_call(5, devices), steps.seeds_of_call(5, jax.local_devices()[:1])) == (5, 1)
