"""The learning rate against the formulas, at every step."""

import math

import jax
import numpy as np
import pytest

from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.train.schedule import schedule


def rates(total_steps=40, steps_per_epoch=4, jit=True, **fields):
  c = default().optimizer
  c.update(learning_rate=0.1, **fields)
  function = schedule(c, total_steps, steps_per_epoch)
  steps = np.arange(total_steps + 1)
  return np.asarray(jax.jit(function)(steps)) if jit else np.array([function(int(s)) for s in steps])


def test_constant():
  np.testing.assert_allclose(rates(), 0.1)


@pytest.mark.parametrize("name", ["constant", "staircase", "polynomial", "cosine"])
def test_warmup_is_a_line_that_starts_above_zero_and_meets_the_schedule(name):
  got = rates(schedule=name, unit="steps", warmup=9, every=10, end_learning_rate=0.01)
  np.testing.assert_allclose(got[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-5)
  assert (got[10:] <= 0.1 + 1e-9).all()


def test_boundaries_in_epochs_count_from_the_start_and_hold_from_their_own_step():
  got = rates(schedule="staircase", boundaries=(2.0, 7.0), factor=0.1, warmup=1.0)
  assert got[4:8] == pytest.approx(0.1)
  assert got[8:28] == pytest.approx(0.01)
  assert got[28:] == pytest.approx(0.001)


def test_boundaries_that_round_to_one_step_both_count():
  got = rates(schedule="staircase", boundaries=(2.0, 2.01), factor=0.5)
  assert got[8] == pytest.approx(0.025)


@pytest.mark.parametrize("every", [1, 41, 47, 55, 61, 97])
def test_every_drops_at_each_multiple_and_not_a_step_late(every):
  total = every * 20
  got = rates(total, schedule="staircase", unit="steps", every=float(every), factor=0.96, warmup=1.0)
  steps = np.arange(1, total + 1)
  np.testing.assert_allclose(got[1:], 0.1 * 0.96 ** (steps // every), rtol=1e-5)


def test_googlenet_four_percent_every_eight_epochs_where_an_epoch_is_not_whole_steps():
  got = rates(1000, 390.625 / 8, schedule="staircase", every=8.0, factor=0.96)  # 8 epochs are 390.625 steps
  assert got[390] == pytest.approx(0.1)
  assert got[391] == pytest.approx(0.096)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("warmup", [0, 10])
def test_polynomial_is_caffes_poly_over_what_the_warmup_leaves(power, warmup):
  got = rates(schedule="polynomial", unit="steps", power=power, warmup=float(warmup), end_learning_rate=0.02)
  s = np.arange(warmup, 41) - warmup
  np.testing.assert_allclose(got[warmup:], 0.02 + 0.08 * (1 - s / (40 - warmup)) ** power, rtol=1e-5)


@pytest.mark.parametrize("name", ["polynomial", "cosine"])
@pytest.mark.parametrize("power", [0.5, 2.0])
def test_after_the_last_step_the_rate_stays_at_its_end(name, power):
  c = default().optimizer
  c.update(schedule=name, power=power, end_learning_rate=0.02)
  np.testing.assert_allclose(jax.jit(schedule(c, 40, 4))(np.array([40, 41, 60])), 0.02, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 10])
def test_cosine_runs_over_what_the_warmup_leaves(warmup):
  got = rates(schedule="cosine", unit="steps", warmup=float(warmup), end_learning_rate=0.02)
  s = np.arange(warmup, 41) - warmup
  np.testing.assert_allclose(got[warmup:], 0.02 + 0.04 * (1 + np.cos(np.pi * s / (40 - warmup))), rtol=1e-5)


@pytest.mark.parametrize("name", ["constant", "staircase", "polynomial", "cosine"])
def test_units_agree_and_so_do_jit_and_plain_python(name):
  epochs = rates(schedule=name, unit="epochs", warmup=2.0, boundaries=(5.0,))
  np.testing.assert_array_equal(epochs, rates(schedule=name, unit="steps", warmup=8.0, boundaries=(20.0,)))
  np.testing.assert_allclose(epochs, rates(schedule=name, warmup=2.0, boundaries=(5.0,), jit=False), rtol=1e-5)
  assert epochs.dtype == np.float32


@pytest.mark.parametrize("warmup", [40, 1000])
def test_warmup_may_last_the_whole_training_and_longer(warmup):
  got = rates(schedule="cosine", unit="steps", warmup=float(warmup))
  np.testing.assert_allclose(got, 0.1 * np.arange(1, 42) / (warmup + 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
  ("fields", "named"),
  [
    ({"schedule": "linear"}, "optimizer.schedule"),
    ({"unit": "examples"}, "optimizer.unit"),
    ({"learning_rate": 0.0}, "optimizer.learning_rate"),
    ({"learning_rate": math.nan}, "optimizer.learning_rate"),
    ({"learning_rate": math.inf}, "optimizer.learning_rate"),
    ({"warmup": -1.0}, "optimizer.warmup"),
    ({"schedule": "polynomial", "power": 0.0}, "optimizer.power"),
    ({"schedule": "cosine", "end_learning_rate": 0.2}, "optimizer.end_learning_rate"),
    ({"end_learning_rate": -0.1}, "optimizer.end_learning_rate"),
    ({"schedule": "staircase"}, "optimizer.boundaries"),
    ({"schedule": "staircase", "boundaries": (3.0, 3.0)}, "optimizer.boundaries"),
    ({"schedule": "staircase", "boundaries": (3.0, 2.0)}, "optimizer.boundaries"),
    ({"schedule": "staircase", "boundaries": (-3.0, 2.0)}, "optimizer.boundaries"),
    ({"schedule": "staircase", "boundaries": (1.0, 5.0), "warmup": 2.0}, "optimizer.boundaries"),
    ({"schedule": "staircase", "every": -1.0}, "optimizer.every"),
    ({"schedule": "staircase", "every": 1.0, "warmup": 2.0}, "optimizer.every"),
    ({"schedule": "staircase", "every": 1.0, "factor": 0.0}, "optimizer.factor"),
  ],
)
def test_mistakes_name_the_field(fields, named):
  c = default().optimizer
  c.update(fields)
  with pytest.raises(ConfigError) as caught:
    schedule(c, 40, 4)
  assert caught.value.field == named
