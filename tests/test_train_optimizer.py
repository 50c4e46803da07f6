"""The update rules against references written out in NumPy, step by step."""

import jax
import numpy as np
import optax
import pytest

from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.train.optimizer import optimizer

SHAPES = {
  "block3": {"conv": {"kernel": (3, 2), "bias": (2,)}, "cccp2": {"kernel": (2, 4), "bias": (4,)}},
  "norm": {"scale": (2,), "bias": (2,)},
}
PATHS = [
  ("block3", "conv", "kernel"),
  ("block3", "conv", "bias"),
  ("block3", "cccp2", "kernel"),
  ("block3", "cccp2", "bias"),
  ("norm", "scale"),
  ("norm", "bias"),
]
STEPS = 6


def tree(rng):
  return jax.tree.map(
    lambda shape: rng.normal(size=shape).astype(np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
  )


def at(params, path):
  for key in path:
    params = params[key]
  return np.asarray(params, np.float64)


def config(**fields):
  c = default().optimizer
  c.update(fields)
  return c


def train(c, steps=STEPS):
  """Returns the parameters before each step and after the last, the gradients of each step, and the rates."""
  rng = np.random.default_rng(0)
  params, gradients = tree(rng), [tree(rng) for _ in range(steps)]
  rule, rate = optimizer(c, params, STEPS, 1)
  state, history = rule.init(params), [params]

  @jax.jit
  def step(params, state, gradient):
    updates, state = rule.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(params, state, gradient)
    history.append(params)
  return history, gradients, [float(rate(s)) for s in range(steps)]


def caffe_sgd(w, gradients, rates, momentum, decay, nesterov=False):
  """Caffe's SGDSolver and NesterovSolver: the iterates of one parameter, float64."""
  history, v = [], np.zeros_like(w)
  for g, rate in zip(gradients, rates, strict=True):
    old, v = v, momentum * v + rate * (g + decay * w)
    w = w - ((1 + momentum) * v - momentum * old if nesterov else v)
    history.append(w)
  return history


def adamw(w, gradients, rates, b1, b2, eps, decay):
  """Algorithm 2 of Loshchilov and Hutter 2019: the iterates of one parameter, float64."""
  history, m, v = [], np.zeros_like(w), np.zeros_like(w)
  for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
    w = w - rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
    history.append(w)
  return history


FALLING = {"schedule": "staircase", "unit": "steps", "boundaries": (2.0, 4.0), "factor": 0.1}


def assert_follows(reference, c, factors):
  """Each parameter's iterates are the reference's, with decay on kernels alone and the factor of its path."""
  history, gradients, rates = train(c)
  for path in PATHS:
    decay = c.weight_decay if path[-1] == "kernel" else 0.0
    factor = factors.get("/".join(path), 1.0)
    want = reference(at(history[0], path), [at(g, path) for g in gradients], [factor * r for r in rates], decay=decay)
    for step, value in enumerate(want, 1):
      np.testing.assert_allclose(at(history[step], path), value, rtol=2e-5, atol=2e-6, err_msg=f"{path} step {step}")


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_caffes_also_when_the_rate_falls(momentum, nesterov):
  c = config(momentum=momentum, nesterov=nesterov, weight_decay=0.1, bias_learning_rate_factor=2.0, **FALLING)

  def reference(w, gradients, rates, decay):
    return caffe_sgd(w, gradients, rates, momentum, decay, nesterov)

  assert_follows(reference, c, {"block3/conv/bias": 2.0, "block3/cccp2/bias": 2.0, "norm/bias": 2.0})


def test_adamw_decays_kernels_beside_the_gradient():
  c = config(name="adamw", learning_rate=0.01, b1=0.8, b2=0.95, eps=0.1, weight_decay=0.5, **FALLING)

  def reference(w, gradients, rates, decay):
    return adamw(w, gradients, rates, 0.8, 0.95, 0.1, decay)

  assert_follows(reference, c, {})


def test_first_matching_factor_wins_and_multiplies_the_bias_factor():
  rules = (("(block3/cccp2/.*|norm)", 0.1), (".*/kernel", 0.5), ("norm/scale", 0.0))
  c = config(learning_rate_factors=rules, bias_learning_rate_factor=2.0, weight_decay=0.1)

  def reference(w, gradients, rates, decay):
    return caffe_sgd(w, gradients, rates, 0.9, decay)

  factors = {
    "block3/cccp2/kernel": 0.1,
    "block3/cccp2/bias": 0.2,
    "block3/conv/kernel": 0.5,
    "block3/conv/bias": 2.0,
    "norm/bias": 2.0,
    "norm/scale": 0.0,
  }
  assert_follows(reference, c, factors)


def test_the_whole_path_must_match():
  params = tree(np.random.default_rng(0))
  with pytest.raises(ConfigError, match=r"learning_rate_factors='cccp2/kernel'.*block3/cccp2/bias"):
    optimizer(config(learning_rate_factors=(("cccp2/kernel", 0.1),)), params, 10, 1)


@pytest.mark.parametrize("clip_norm", [0.5, 1e6])
def test_the_gradient_is_clipped_before_the_decay_is_added(clip_norm):
  c = config(clip_norm=clip_norm, momentum=0.0, weight_decay=0.1, bias_learning_rate_factor=2.0)
  history, gradients, rates = train(c, steps=1)
  norm = np.sqrt(sum((at(gradients[0], path) ** 2).sum() for path in PATHS))
  scale = min(1.0, clip_norm / norm)
  for path in PATHS:
    kernel, bias = path[-1] == "kernel", path[-1] == "bias"
    w = at(history[0], path)
    want = w - rates[0] * (2.0 if bias else 1.0) * (scale * at(gradients[0], path) + 0.1 * kernel * w)
    np.testing.assert_allclose(at(history[1], path), want, rtol=1e-5, atol=1e-6)


def test_the_returned_schedule_is_the_rate_that_is_used():
  c = config(momentum=0.0, weight_decay=0.0, schedule="cosine", unit="steps", warmup=2.0)
  history, gradients, rates = train(c)
  path = PATHS[0]
  for step, rate in enumerate(rates):
    moved = at(history[step], path) - at(history[step + 1], path)
    np.testing.assert_allclose(moved, rate * at(gradients[step], path), rtol=1e-3, atol=1e-6)
  assert len(set(rates)) == STEPS


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_shapes_alone_are_enough_to_build_it(name):
  params = tree(np.random.default_rng(0))
  shapes = jax.eval_shape(lambda: params)
  rules = ((".*/kernel", 0.5),)
  rule, _ = optimizer(config(name=name, learning_rate_factors=rules), shapes, 10, 1)
  other, _ = optimizer(config(name=name, learning_rate_factors=rules), params, 10, 1)
  assert jax.tree.structure(jax.eval_shape(rule.init, shapes)) == jax.tree.structure(other.init(params))


@pytest.mark.parametrize(
  ("fields", "named"),
  [
    ({"name": "adam"}, "optimizer.name"),
    ({"momentum": 1.0}, "optimizer.momentum"),
    ({"b2": -0.1}, "optimizer.b2"),
    ({"eps": 0.0}, "optimizer.eps"),
    ({"weight_decay": -1e-4}, "optimizer.weight_decay"),
    ({"clip_norm": float("nan")}, "optimizer.clip_norm"),
    ({"bias_learning_rate_factor": -1.0}, "optimizer.bias_learning_rate_factor"),
    ({"learning_rate_factors": (("(", 1.0),)}, "optimizer.learning_rate_factors"),
    ({"learning_rate_factors": ((".*", -1.0),)}, "optimizer.learning_rate_factors"),
    ({"learning_rate_factors": (".*", 1.0)}, "optimizer.learning_rate_factors"),
    ({"schedule": "none"}, "optimizer.schedule"),
  ],
)
def test_mistakes_name_the_field(fields, named):
  with pytest.raises(ConfigError) as caught:
    optimizer(config(**fields), tree(np.random.default_rng(0)), 10, 1)
  assert caught.value.field == named
