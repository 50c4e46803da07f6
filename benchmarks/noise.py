"""A data set of noise, resident as a real one would be."""

from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from benchmarks.cases import BATCHES_OF_NOISE
from nin_jax import data
from nin_jax.data import faults, normalize
from nin_jax.data.resident import Resident
from nin_jax.train.setup import Setup, set_up


def set_up_on_noise(config: ConfigDict) -> Setup:
  """The `set_up` of a config, with noise in place of its data set, which need not be on this machine."""

  def opened(config_data: ConfigDict, seed: int, index: int = 0, count: int = 1, training: bool = False) -> Resident:
    del training
    spec, count_images = data.spec(config_data), BATCHES_OF_NOISE * config_data.batch_size
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count_images, *spec.image_shape), np.uint8)
    labels = random.integers(0, spec.num_classes, count_images, np.int32)
    split = {"images": images, "labels": labels}
    arrays = {"train": split, "test": split, "statistics": normalize.statistics(config_data.normalize, images)}
    broken = {"train": np.zeros(0, np.int64), "test": np.zeros(0, np.int64)}
    return Resident(config_data, seed, spec, arrays, broken, faults.Register(config_data), (index, count))

  with mock.patch.object(data, "open", opened):
    return set_up(config)
