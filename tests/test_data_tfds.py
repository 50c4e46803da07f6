"""Real sets, where they have been prepared beside the repository."""

from pathlib import Path

import jax
import numpy as np
import pytest

from nin_jax import config, data

SETS = Path(__file__).parents[2] / "shared" / "tfds"


def opened(tmp_path, name, **changes):
  if not (SETS / name.split(":")[0]).is_dir():
    pytest.skip(f"{name} has not been prepared in {SETS}")
  section = config.default().data
  section.update({"name": name, "dir": str(SETS), "cache_dir": str(tmp_path), **changes})
  return data.open(section, seed=0)


def test_cifar10(tmp_path):
  cifar = opened(tmp_path, "cifar10", test_split="test[:1000]")
  assert (cifar.num_train, cifar.spec.image_shape, cifar.spec.num_classes) == (50_000, (32, 32, 3), 10)
  np.testing.assert_array_equal(np.bincount(cifar.arrays["train"]["labels"]), 5000)
  np.testing.assert_allclose(cifar.arrays["statistics"]["mean"], (0.4914, 0.4822, 0.4465), atol=1e-4)
  np.testing.assert_allclose(cifar.arrays["statistics"]["std"], (0.2470, 0.2435, 0.2616), atol=1e-4)


def test_images_are_those_that_tfds_decodes(tmp_path):
  from nin_jax.data.tfds import tfds

  cifar = opened(tmp_path, "cifar10", train_split="train[:64]", test_split="test[-32:]")
  for split, slice_ in (("train", "train[:64]"), ("test", "test[-32:]")):
    examples = list(tfds.builder("cifar10", data_dir=SETS).as_data_source(slice_))
    np.testing.assert_array_equal(cifar.arrays[split]["images"], [example["image"] for example in examples])
    np.testing.assert_array_equal(cifar.arrays[split]["labels"], [example["label"] for example in examples])


def test_fashion_mnist_stays_grey(tmp_path):
  fashion = opened(tmp_path, "fashion_mnist:3.0.1", train_split="train[:512]", test_split="test")
  assert fashion.arrays["train"]["images"].shape == (512, 28, 28, 1)
  np.testing.assert_array_equal(np.bincount(fashion.arrays["test"]["labels"]), 1000)


def test_whitening_is_computed_once(tmp_path, monkeypatch):
  changes = {"normalize": "gcn_zca", "image_size": 8, "train_split": "train[:512]", "test_split": "test[:64]"}
  first = opened(tmp_path, "cifar10", **changes)
  monkeypatch.setattr("nin_jax.data.whitening.fit", lambda *args: pytest.fail("computed again"))
  again = opened(tmp_path, "cifar10", **changes)
  jax.tree.map(np.testing.assert_array_equal, first.arrays, again.arrays)
