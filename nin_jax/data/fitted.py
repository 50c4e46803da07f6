"""The statistics of the training images that normalisation needs, kept in the cache."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nin_jax.data import cache, decode, normalize


def key(config_data, found, split_field: str, shape: tuple[int, int, int]) -> dict[str, object]:
  """Returns what the decoded images of a split are a function of, as `cache` wants it.

  Args:
    config_data: the config's section data.
    found: the set, from `examples.find`.
    split_field: train_split or test_split.
    shape: that they are decoded to.
  """
  pixels = {"shape": shape, "resize": config_data.resize, "decoder": decode.VERSION}
  return {"source": found.fingerprint(split_field), "split": config_data[split_field], **pixels}


def statistics(
  config_data, found, shape: tuple[int, int, int], root: Path, images: Callable[[], np.ndarray], sample: int = 0
) -> dict[str, np.ndarray]:
  """Returns `normalize.statistics` of the training images, computed once.

  Args:
    config_data: the config's section data.
    found: the set, from `examples.find`.
    shape: that images are decoded to.
    root: the cache.
    images: gives them.
    sample: how many of the split they are; 0: all.
  """
  kind = config_data.normalize
  if kind not in normalize.FITTED:
    return {}
  whole = {**key(config_data, found, "train_split", shape), "normalize": kind}
  parts = {"sample": sample} if sample else {}
  make = lambda: normalize.statistics(kind, images())
  return cache.load_or_make(root, f"{found.name}-{kind}", {**whole, **parts}, make)
