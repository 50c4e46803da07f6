"""Each image counts once, for any batch size and number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import data, models
from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.models.inception import width_config
from nin_jax.train import evaluation, steps

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def setup():
  """A pipeline, a network, its variables, and what plain NumPy says of them on the test images."""
  config = default()
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del model[name]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 0, 4, 0, 0, 2)
  pipeline = data.open(config.data, 0)
  network = models.build(model, pipeline.spec.image_shape)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
  pixels, train = (pipeline.arrays[split]["images"].astype(np.float64) / 255 for split in ("test", "train"))
  images = ((pixels - train.mean()) / train.std()).astype(np.float32)
  logits = np.asarray(network.apply(variables, images)[0], np.float64)
  labels = pipeline.arrays["test"]["labels"]
  losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
  return pipeline, network, variables, losses.mean(), int((logits.argmax(axis=1) == labels).sum())


def loaded(pipeline, arrays, batches, devices):
  load = steps.load_step(pipeline, "test", devices)
  return (load(arrays, steps.shard(batch, devices)) for batch in batches)


@pytest.mark.parametrize(
  ("device_count", "asked"), [(1, 1), (1, 32), (1, 360), (3, 1), (3, 32), (3, 1000), (8, 32), (8, 360), (8, 1000)]
)
def test_each_image_counts_once(device_count, asked):
  pipeline, network, variables, loss, correct = setup()
  devices = jax.local_devices()[:device_count]
  size = evaluation.batch_size(asked, devices)
  step = steps.eval_step(network, default(), devices)
  variables, arrays = steps.replicate((variables, pipeline.arrays), devices)
  examples = loaded(pipeline, arrays, pipeline.eval_batches("test", size), devices)
  measured = evaluation.evaluate(step, variables, examples, devices)
  assert 20 < correct < 340  # neither all nor none
  assert (measured["correct"], measured["count"], measured["accuracy"]) == (correct, 360, correct / 360)
  np.testing.assert_allclose(measured["loss"], loss, rtol=1e-5)


@pytest.mark.parametrize(
  ("asked", "device_count", "size"), [(1, 1, 1), (1, 8, 8), (8, 8, 8), (9, 8, 16), (100, 3, 102)]
)
def test_batches_are_rounded_up_to_the_devices(asked, device_count, size):
  assert evaluation.batch_size(asked, jax.local_devices()[:device_count]) == size


class PoisonedPadding:
  """Images whose loss is ln 2, and padding whose loss is infinite or not a number."""

  def __init__(self, poison):
    self.poison = poison

  def load_eval(self, arrays, split, indices):
    padding = (indices < 0)[:, None]
    images = jnp.where(padding, jnp.array([self.poison, 0.0]), 0.0)
    # The mask as data: XLA makes a selection of a product with one that it has seen being computed.
    return images, (indices < 0).astype(jnp.int32), arrays["mask"][indices]


class Identity:
  def apply(self, variables, images):
    return images, ()


@pytest.mark.parametrize("poison", [np.inf, np.nan, 3e38])
def test_padding_does_not_poison_the_mean(poison):
  devices = jax.local_devices()[:2]
  step, arrays = steps.eval_step(Identity(), default(), devices), {"mask": np.array([1, 1, 1, 1, 0], np.float32)}
  batches = [np.array([0, 1, 2, -1], np.int32), np.array([3, -1, -1, -1], np.int32)]
  measured = evaluation.evaluate(step, {}, loaded(PoisonedPadding(poison), arrays, batches, devices), devices)
  assert (measured["count"], measured["correct"]) == (4, 4)
  np.testing.assert_allclose(measured["loss"], np.log(2), rtol=1e-6)


@pytest.mark.parametrize(("device_count", "polled"), [(1, 5), (2, 4)])
def test_a_signal_breaks_an_evaluation_off(device_count, polled):
  devices = jax.local_devices()[:device_count]
  step, arrays = steps.eval_step(Identity(), default(), devices), {"mask": np.ones(5, np.float32)}
  batches, asked = [np.array([0, 1], np.int32)] * 9, []

  def poll():
    asked.append(0)
    return 15 if len(asked) == 4 else 0

  with pytest.raises(evaluation.BrokenOff) as broken_off:
    evaluation.evaluate(step, {}, loaded(PoisonedPadding(0.0), arrays, batches, devices), devices, poll)
  assert broken_off.value.signal == 15
  assert len(asked) == polled  # on one device the next batch was under way


def test_nothing_that_could_be_evaluated_is_told_of():
  """Broken images are masked out, and here all are."""
  devices = jax.local_devices()[:2]
  step, arrays = steps.eval_step(Identity(), default(), devices), {"mask": np.zeros(5, np.float32)}
  examples = loaded(PoisonedPadding(0.0), arrays, [np.array([0, 1], np.int32)], devices)
  with pytest.raises(ConfigError, match=r"data\.broken_images='skip': .* none can"):
    evaluation.evaluate(step, {}, examples, devices)
