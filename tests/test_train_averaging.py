"""Averages of the parameters against the sums that define them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.train import averaging

STEPS = 20


def config(name, **fields):
  c = default().train
  c.update(averaging=name, **fields)
  return c


def averages(c):
  """Returns the iterates (t = 0 … STEPS) and the average at each of them."""
  rng = np.random.default_rng(0)
  iterates = [{"w": rng.normal(size=(3, 2)).astype(np.float32), "b": np.float32(t)} for t in range(STEPS + 1)]
  step = jax.jit(functools.partial(averaging.update, c), static_argnums=3)
  average = averaging.init(c, iterates[0])
  history = [average]
  for t in range(1, STEPS + 1):
    average = step(average, iterates[t], t, STEPS)
    history.append(average)
  return iterates, history


def assert_weighted(iterates, average, weights):
  weights = np.asarray(weights, np.float64) / np.sum(weights)
  for leaf in ("w", "b"):
    want = sum(weight * np.float64(params[leaf]) for weight, params in zip(weights, iterates, strict=True))
    np.testing.assert_allclose(average[leaf], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999, 0.99999])
def test_ema_is_the_corrected_sum_and_forgets_the_initial_parameters(decay):
  iterates, history = averages(config("ema", ema_decay=decay))
  for t in range(1, STEPS + 1):
    weights = [0.0] + [decay ** (t - i) for i in range(1, t + 1)]
    assert_weighted(iterates[: t + 1], history[t], weights)


@pytest.mark.parametrize(("average_from", "first"), [(0.0, 1), (0.05, 1), (0.5, 10), (1.0, 20)])
def test_polyak_is_the_mean_from_its_first_step_on_and_the_latest_before(average_from, first):
  iterates, history = averages(config("polyak", average_from=average_from))
  for t in range(1, STEPS + 1):
    weights = [float(first <= i <= t) for i in range(t + 1)] if t >= first else [0.0] * t + [1.0]
    assert_weighted(iterates[: t + 1], history[t], weights)


def test_none_keeps_nothing():
  c = config("none")
  params = {"w": jnp.ones(3)}
  assert averaging.init(c, params) is None
  assert averaging.update(c, None, params, 1, STEPS) is None
  assert averaging.evaluated(None, params) is params
  text = jax.jit(lambda average, params: averaging.update(c, average, params, 1, STEPS)).lower(None, params).as_text()
  assert "multiply" not in text


@pytest.mark.parametrize("name", ["ema", "polyak"])
def test_average_and_parameters_can_be_donated_together(name):
  c = config(name)
  params = {"w": jnp.ones(3)}
  average = averaging.init(c, params)
  assert average["w"].unsafe_buffer_pointer() != params["w"].unsafe_buffer_pointer()
  assert averaging.evaluated(average, params) is average


@pytest.mark.parametrize("name", ["ema", "polyak"])
def test_constant_parameters_stay_what_they_are_and_keep_their_type(name):
  c = config(name, ema_decay=0.9999)
  params = {"w": jnp.full(3, 1e3, jnp.float32)}
  average = averaging.init(c, params)
  step = jax.jit(lambda average, t: averaging.update(c, average, params, t, 2000))
  for t in range(1, 2001):
    average = step(average, jnp.int32(t))
  assert average["w"].dtype == jnp.float32
  np.testing.assert_allclose(average["w"], 1e3, rtol=1e-5)


@pytest.mark.parametrize(
  ("name", "fields", "named"),
  [
    ("swa", {}, "train.averaging"),
    ("ema", {"ema_decay": 1.0}, "train.ema_decay"),
    ("polyak", {"average_from": 1.1}, "train.average_from"),
    ("polyak", {"average_from": float("nan")}, "train.average_from"),
  ],
)
def test_mistakes_name_the_field(name, fields, named):
  with pytest.raises(ConfigError) as caught:
    averaging.init(config(name, **fields), {})
  assert caught.value.field == named
