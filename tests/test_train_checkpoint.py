"""Checkpoints: which stay, and that what comes back is what was saved."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.errors import ConfigError
from nin_jax.train import steps
from nin_jax.train.checkpoint import Checkpoints


def state_at(step, device_count=2):
  weights = np.random.default_rng(step).normal(size=(3, 4)).astype(np.float32)
  state = steps.TrainState(
    step=jnp.int32(step),
    params={"conv": {"kernel": weights, "bias": weights[0].astype(jnp.bfloat16)}},
    batch_stats={},
    opt_state=({"trace": -weights}, (), jnp.int32(step)),
    average=None,
  )
  return steps.replicate(state, jax.local_devices()[:device_count])


def assert_same(actual, wanted):
  assert jax.tree.structure(actual) == jax.tree.structure(wanted)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_last_few_and_the_best_stay(tmp_path):
  accuracies = {2: 0.5, 4: 0.9, 5: None, 6: 0.7, 8: 0.9, 9: None, 10: 0.8, 11: None, 12: 0.1}
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert (checkpoints.latest, checkpoints.steps) == (None, [])
    for step, accuracy in accuracies.items():
      checkpoints.save(state_at(step), {"step": step}, accuracy)
    checkpoints.wait()
    assert checkpoints.latest == 12
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps == [8, 11, 12]  # of equally good ones the last
    for step in checkpoints.steps:
      state, progress = checkpoints.restore(state_at(0), step)
      assert_same(state, state_at(step))
      assert progress == {"step": step}
    state, _ = checkpoints.restore(state_at(0))
    assert state.step == 12
  on_disk = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert on_disk == {"8", "11", "12"}


def test_a_state_may_be_donated_at_once_and_restored_elsewhere(tmp_path):
  state, progress = state_at(3), {"meter": {"loss": 0.1}, "test": None, "best": {"step": 3, "accuracy": 0.25}}
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(state, progress, None)
    written = json.loads(json.dumps(progress))
    progress["meter"]["loss"] = 99.0
    jax.tree.map(lambda leaf: leaf.delete(), state)
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    state, read = checkpoints.restore(state_at(0, device_count=8))
  assert read == written
  assert_same(state, state_at(3))
  assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {8}


def test_steps_that_are_not_there_are_named(tmp_path):
  with Checkpoints(tmp_path, keep=3) as checkpoints:
    with pytest.raises(ConfigError, match=r"--step=None: .*: none yet"):
      checkpoints.restore(state_at(0))
    for step in (2, 10):
      checkpoints.save(state_at(step), {}, None)
    checkpoints.wait()
    with pytest.raises(ConfigError, match=r"--step=3: .*: 2, 10"):
      checkpoints.restore(state_at(0), 3)


def test_a_reader_leaves_alone_what_a_running_training_is_writing(tmp_path):
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(state_at(1), {}, None)
  unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  with Checkpoints(tmp_path, keep=1, read_only=True) as checkpoints:
    assert checkpoints.steps == [1]
    checkpoints.restore(state_at(0))
    checkpoints.wait()
  assert unfinished.exists()
  with Checkpoints(tmp_path, keep=1) as checkpoints:  # the next training sweeps up what a broken one left
    checkpoints.save(state_at(3), {}, None)
  assert not unfinished.exists()


def test_a_reader_makes_nothing(tmp_path):
  with Checkpoints(tmp_path, keep=1, read_only=True) as checkpoints:
    assert (checkpoints.latest, checkpoints.steps) == (None, [])
    with pytest.raises(ConfigError, match="none yet"):
      checkpoints.restore(state_at(0))
  assert list(tmp_path.iterdir()) == []
