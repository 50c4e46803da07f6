"""Cross-entropy, label smoothing and auxiliary losses against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import models
from nin_jax.config import default
from nin_jax.ops.lowering import lowered_as
from nin_jax.train import budget
from nin_jax.train.objective import cross_entropy, objective

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 10)).astype(np.float32) * 3
LABELS = RNG.integers(0, 10, 6)


def in_numpy(logits, labels, smoothing):
  """-Σ q log p with q = (1 - s) one-hot + s / classes, in double precision."""
  logits = logits.astype(np.float64)
  log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  q = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
  return -(q * log_p).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing(smoothing):
  np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, smoothing), in_numpy(LOGITS, LABELS, smoothing), rtol=1e-5)


def test_an_undecided_network_loses_ln_10_whatever_the_smoothing():
  for smoothing in (0.0, 0.3):
    np.testing.assert_allclose(cross_entropy(jnp.zeros((2, 10)), LABELS[:2], smoothing), np.log(10), rtol=1e-6)


def test_large_logits_stay_finite():
  np.testing.assert_allclose(cross_entropy(jnp.array([[1e4, 0.0]]), jnp.array([1]), 0.1), [0.95e4], rtol=1e-5)


class Network:
  """Logits and those of two auxiliary heads, scaled by a parameter."""

  def apply(self, variables, images, train, example_ids, rngs, mutable):
    assert train
    assert mutable == ["batch_stats"]
    scale = variables["params"]["scale"]
    heads = (images[:, 0] * scale, images[:, 1] * scale)
    stats = {"batch_stats": {"seen": variables["batch_stats"]["seen"] + example_ids.sum()}}
    return (images[:, 2] * scale, heads), stats


def test_the_loss_adds_the_auxiliary_heads():
  config = default().train
  config.label_smoothing, config.auxiliary_weight = 0.1, 0.3
  images = RNG.normal(size=(6, 3, 10)).astype(np.float32)
  loss, (batch_stats, metrics) = objective(
    {"scale": 2.0}, {"seen": 1.0}, Network(), config, images, LABELS, np.arange(6), jax.random.key(0)
  )
  main, first, second = (in_numpy(2 * images[:, head], LABELS, 0.1).mean() for head in (2, 0, 1))
  np.testing.assert_allclose(loss, main + 0.3 * (first + second), rtol=1e-5)
  assert metrics["objective"] == loss
  np.testing.assert_allclose(metrics["loss"], in_numpy(2 * images[:, 2], LABELS, 0.0).mean(), rtol=1e-5)
  assert batch_stats == {"seen": 1 + 15}
  np.testing.assert_allclose(metrics["accuracy"], np.mean(images[:, 2].argmax(axis=1) == LABELS))
  np.testing.assert_allclose(metrics["spread"], np.max(2 * np.ptp(images[:, 2], axis=1)), rtol=1e-6)

  config.auxiliary_weight = 0.0
  loss, _ = objective({"scale": 2.0}, {"seen": 1.0}, Network(), config, images, LABELS, np.arange(6), jax.random.key(0))
  np.testing.assert_allclose(loss, main, rtol=1e-5)


def test_equal_logits_have_no_spread():
  args = {"seen": 0.0}, Network(), default().train
  images = np.broadcast_to(RNG.normal(size=(6, 3, 1)), (6, 3, 10)).astype(np.float32)
  for images_, spread in (
    (images, 0),
    (images + np.eye(10, dtype=np.float32)[0] * (np.arange(6) == 4)[:, None, None], 1),
  ):
    _, (_, metrics) = objective({"scale": 1.0}, *args, images_, LABELS, np.arange(6), jax.random.key(0))
    np.testing.assert_allclose(metrics["spread"], spread, rtol=1e-5)


@pytest.mark.parametrize("model", ["nin", "inception"])
def test_rematerialised_blocks_are_worked_out_again_for_the_same_gradients(model):
  """What memory it saves is the compiler's to tell: XLA's for CPUs takes the second time out again."""
  config = default()
  config.model = models.defaults(model)
  config.model.norm = "batch"
  for block in ("block3", "inception_1b", "inception_2a", "inception_2b"):
    if block in config.model:
      del config.model[block]
  network = models.build(config.model, (16, 16, 3))
  variables, _ = models.init(network, (16, 16, 3), {"params": jax.random.key(0), "dropout": jax.random.key(1)})
  images, labels = jax.random.normal(jax.random.key(2), (4, 16, 16, 3)), jnp.arange(4)

  def run(remat):
    config.train.remat = remat
    grad = jax.grad(objective, has_aux=True)
    gradient = lambda params, stats: grad(
      params, stats, network, config.train, images, labels, labels, jax.random.key(3)
    )
    with lowered_as("xla"):
      traced = str(jax.make_jaxpr(gradient)(variables["params"], variables["batch_stats"]))
    cost = budget.training_cost(network, config.train, (16, 16, 3)).total["train_flops"]
    return jax.jit(gradient)(variables["params"], variables["batch_stats"]), traced.count("dot_general"), cost

  (plain, products, flops), (again, more, same) = run(False), run(True)
  assert more > products
  assert flops == same  # of MFU: what is worked out twice counts once
  assert jax.tree.structure(plain) == jax.tree.structure(again)
  for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
