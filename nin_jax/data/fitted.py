"""The statistics of the training images that normalisation needs, and what is whitened by them, kept in the cache."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nin_jax.data import cache, decode, normalize, whitening

MAX_WHITENED_BYTES = 2**30  # of images that are whitened once: CIFAR's take 0.7 GB


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


def whitens_once(config_data, sizes: dict[str, int], shape: tuple[int, int, int]) -> bool:
  """Returns whether a resident set is whitened at the start, and not batch by batch.

  Whitening a CIFAR image takes 9.4 million multiplications, as much as a few layers of a network; whitened, it takes
  four times the memory. Not where its colours change from step to step.

  Args:
    config_data: the config's section data.
    sizes: images of each split.
    shape: of each.
  """
  coloured = config_data.brightness or config_data.contrast or config_data.saturation
  fits = 4 * sum(sizes.values()) * math.prod(shape) <= MAX_WHITENED_BYTES
  return config_data.normalize == "gcn_zca" and not coloured and fits


def whitened(
  config_data,
  found,
  split_field: str,
  shape: tuple[int, int, int],
  root: Path,
  images: np.ndarray,
  statistics: dict[str, np.ndarray],
) -> np.ndarray:
  """Returns `whitening.whiten_all` of a split, float32 [n, h, w, c], computed once.

  Args:
    config_data: the config's section data.
    found: the set, from `examples.find`.
    split_field: train_split or test_split.
    shape: that images are decoded to.
    root: the cache.
    images: uint8 [n, h, w, c], of that split.
    statistics: of the training images.
  """
  whole = {field: key(config_data, found, field, shape) for field in (split_field, "train_split")}
  make = lambda: {"images": whitening.whiten_all(images, statistics)}
  name = f"{found.name}-{split_field.removesuffix('_split')}-whitened"
  return cache.load_or_make(root, name, {"whitened": split_field, **whole}, make)["images"]
