import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax import config, data
from nin_jax.data import fitted, normalize


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def opened(cache_dir):
  def open_digits(seed=0, **changes):
    section = config.default().data
    section.update({"cache_dir": cache_dir, "batch_size": 100, **changes})
    return data.open(section, seed)

  return open_digits


def test_counts(opened):
  digits = opened(batch_size=100)
  assert (digits.num_train, digits.num_test, digits.steps_per_epoch) == (1437, 360, 14.37)
  assert jax.tree.map(lambda array: array.dtype.name, digits.arrays) == {
    "train": {"images": "uint8", "labels": "int32"},
    "test": {"images": "uint8", "labels": "int32"},
    "statistics": {"mean": "float32", "std": "float32"},
  }


def test_train_batches_follow_the_seed(opened):
  first, other = opened(seed=0), opened(seed=1)
  epoch = np.concatenate([first.train_batch(step) for step in range(15)])[:1437]
  assert sorted(epoch) == list(range(1437))
  assert not np.array_equal(first.train_batch(3), other.train_batch(3))
  np.testing.assert_array_equal(first.train_batch(3), opened(seed=0).train_batch(3))


@pytest.mark.parametrize("kind", normalize.KINDS)
def test_a_batch_is_the_same_however_it_is_spread_over_devices(opened, kind):
  digits = opened(normalize=kind, translate=1, crop=6, flip=True)
  arrays, key = jax.device_put(digits.arrays), jax.random.key(0)
  indices, positions = digits.train_batch(7), np.arange(100, dtype=np.int32)
  load = jax.jit(digits.load_train)
  images, labels = load(arrays, indices, positions, key)
  assert images.shape == (100, 6, 6, 1)
  assert (images.dtype, labels.dtype) == (jnp.float32, jnp.int32)
  assert digits.spec.image_shape == (6, 6, 1)
  parts = [load(arrays, indices[s : s + 25], positions[s : s + 25], key) for s in range(0, 100, 25)]
  np.testing.assert_allclose(jnp.concatenate([part[0] for part in parts]), images, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(labels, digits.arrays["train"]["labels"][indices])


def test_whitened_once_or_batch_by_batch_is_the_same(opened, monkeypatch):
  once = opened(normalize="gcn_zca", translate=1, flip=True)
  assert once.arrays["train"]["images"].dtype == np.float32
  assert once.arrays["statistics"] == {}
  monkeypatch.setattr(fitted, "MAX_WHITENED_BYTES", 4 * 1797 * 64 - 1)
  by_batch = opened(normalize="gcn_zca", translate=1, flip=True)
  assert by_batch.arrays["train"]["images"].dtype == np.uint8
  load = lambda pipeline: jax.jit(pipeline.load_train)(
    pipeline.arrays, pipeline.train_batch(3), np.arange(100), jax.random.key(0)
  )
  for split in ("train", "test"):
    indices = np.array([0, 359, 7, -1])
    evaluated = [pipeline.load_eval(pipeline.arrays, split, indices) for pipeline in (once, by_batch)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *evaluated)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), load(once), load(by_batch))


def test_where_colours_change_images_are_whitened_after_it(opened):
  assert opened(normalize="gcn_zca", brightness=0.1).arrays["train"]["images"].dtype == np.uint8


def test_whitened_images_follow_the_images_that_the_statistics_are_of(opened):
  """The cache holds each split whitened by the training images of the run."""
  other, all_of_them = (opened(normalize="gcn_zca", train_split=split) for split in ("train[:700]", "train"))
  assert not np.array_equal(other.arrays["test"]["images"], all_of_them.arrays["test"]["images"])
  again = opened(normalize="gcn_zca", train_split="train[:700]")
  np.testing.assert_array_equal(other.arrays["test"]["images"], again.arrays["test"]["images"])


def test_without_augmentation_an_image_is_its_normalised_self(opened):
  digits = opened()
  indices = digits.train_batch(0)
  images, _ = digits.load_train(digits.arrays, indices, np.arange(100), jax.random.key(0))
  stats = digits.arrays["statistics"]
  expected = (digits.arrays["train"]["images"][indices] / 255.0 - stats["mean"]) / stats["std"]
  np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)


def test_zeros_are_shifted_in_after_normalisation(opened):
  digits = opened(translate=7)
  images, _ = jax.jit(digits.load_train)(digits.arrays, np.zeros(64, np.int32), np.arange(64), jax.random.key(0))
  corners = np.asarray(images)[:, [0, 0, 7, 7], [0, 7, 0, 7], 0]
  black = (0 - digits.arrays["statistics"]["mean"]) / digits.arrays["statistics"]["std"]
  assert (corners == 0).any(axis=1).mean() > 0.9
  assert abs(black) > 0.5  # what a shift before normalisation would have given


@pytest.mark.parametrize(("split", "batch_size"), [*itertools.product(("train", "test"), (1, 7, 360, 1000))])
def test_evaluation_covers_each_image_once(opened, split, batch_size):
  digits = opened(crop=6, translate=2, flip=True, normalize="scale")
  indices = np.concatenate(list(digits.eval_batches(split, batch_size)))
  images, labels, mask = digits.load_eval(digits.arrays, split, indices)
  kept = np.asarray(mask, bool)
  assert kept.sum() == mask.sum() == {"train": 1437, "test": 360}[split]
  np.testing.assert_array_equal(labels[kept], digits.arrays[split]["labels"])
  np.testing.assert_allclose(images[kept], digits.arrays[split]["images"][:, 1:7, 1:7] / 255.0, rtol=1e-6)
  np.testing.assert_array_equal(images[~kept], np.broadcast_to(images[0], images[~kept].shape))
