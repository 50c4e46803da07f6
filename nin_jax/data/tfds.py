"""TensorFlow Datasets, imported here alone, so that it leaves nothing behind in the temporary directory."""

import functools

import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_info
from tensorflow_datasets.core.utils import gcs_utils

__all__ = ["tfds"]


def _initialize_from_bucket(info: tfds.core.DatasetInfo, original) -> None:
  """TFDS makes a directory for each builder of a set that isn't there, before it looks whether it needs one (4.9)."""
  if gcs_utils.gcs_dataset_info_files(info.full_name):
    original(info)


dataset_info.DatasetInfo.initialize_from_bucket = functools.partialmethod(
  _initialize_from_bucket, dataset_info.DatasetInfo.initialize_from_bucket
)
