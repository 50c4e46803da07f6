"""Data sets made on the fly, of the shapes and sizes of the real ones: what it costs to read them is the same."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from nin_jax import data
from nin_jax.data import faults, fitted, normalize, whitening

TRAINING_IMAGES = {"cifar10": 50_000, "fashion_mnist": 60_000}
_FITTED = 1000  # images that are whitened and that statistics are taken of: more would cost the same to use


def resident(config: ConfigDict) -> data.Resident:
  """Returns random images in place of those of `config.data.name`, as many and as large, but for those of its test."""
  spec, rng = data.spec(config.data), np.random.default_rng(0)
  n = TRAINING_IMAGES[config.data.name]
  images = rng.integers(0, 256, (n, *spec.source_shape), np.uint8)
  labels = rng.integers(0, spec.num_classes, n, np.int32)
  statistics = normalize.statistics(config.data.normalize, images[:_FITTED])
  if fitted.whitens_once(config.data, {"train": n}, spec.source_shape):
    images, statistics = np.resize(whitening.whiten_all(images[:_FITTED], statistics), images.shape), {}
  arrays = {
    "train": {"images": images, "labels": labels},
    "test": {"images": images[:1], "labels": labels[:1]},
    "statistics": statistics,
  }
  return _resident(config, spec, arrays)


def augmented(pipeline: data.Resident, config: ConfigDict) -> data.Resident:
  """Returns the same images under a config that differs in its augmentation."""
  return _resident(config, pipeline.spec, pipeline.arrays)


def _resident(config: ConfigDict, spec: data.Spec, arrays: dict) -> data.Resident:
  broken = {split: np.array([], np.int32) for split in ("train", "test")}
  return data.Resident(config.data, config.seed, spec, arrays, broken, faults.Register(config.data), (0, 1))


def folder(path: Path, count: int, size: tuple[int, int] = (500, 375)) -> float:
  """Writes JPEGs of two classes for `folder:PATH`, and returns their mean size in bytes.

  They are sums of smooth patterns of all sizes, and noise, at quality 90: about the 100 kB that a photograph of
  ImageNet takes, as does decoding them.

  Args:
    path: the directory.
    count: of the pictures, a fifth of which `folder` holds out as its test images.
    size: (width, height).
  """
  rng, total = np.random.default_rng(0), 0
  for number in range(count):
    file = path / "ab"[number % 2] / f"{number}.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(rng, size).save(file, quality=90)
    total += file.stat().st_size
  return total / count


def picture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
  """Returns one random picture of those."""
  width, height = size
  pixels = np.zeros((height, width, 3))
  for cells in (3, 6, 12, 24, 48):  # the larger, the stronger, as in photographs
    coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
    channels = [Image.fromarray(coarse[..., c]).resize(size, Image.Resampling.BICUBIC) for c in range(3)]
    pixels += 120 / cells**0.5 * np.stack([np.asarray(channel) for channel in channels], -1)
  pixels += rng.normal(size=(height, width, 1)) * 30
  return Image.fromarray((128 + pixels / 2).clip(0, 255).astype(np.uint8))
