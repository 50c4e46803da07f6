"""From uint8 images to the float32 values that a network sees."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from nin_jax.data import whitening

KINDS = ("scale", "standardize", "gcn", "gcn_zca")
FITTED = ("standardize", "gcn_zca")  # those that need statistics of the training images


def statistics(kind: str, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns what `normalize` needs to know of the training images.

  Args:
    kind: one of KINDS.
    images: uint8 [n, h, w, c], or what gives such arrays for slices, and has their shape and length.

  Returns:
    standardize: mean and std, float32 [c], in units of 0 to 1, from exact integer sums over all pixels; a channel
    without variation gets std 1. gcn_zca: `whitening.fit`'s mean and matrix. Otherwise nothing.
  """
  if kind == "standardize":
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 1000):
      block = images[start : start + 1000]
      for channel in range(images.shape[-1]):
        counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255.0
    pixels = counts.sum(axis=1)
    mean = counts @ values / pixels
    std = np.sqrt(np.maximum(counts @ values**2 / pixels - mean**2, 0.0))
    constant = (counts > 0).sum(axis=1) == 1
    return {"mean": mean.astype(np.float32), "std": np.where(constant, 1.0, std).astype(np.float32)}
  if kind == "gcn_zca":
    return whitening.fit(images)
  return {}


def normalize(kind: str, images: Num[Array, "n h w c"], stats: dict[str, Array]) -> Float[Array, "n h w c"]:
  """Returns float32 images: x / 255 (scale), (x / 255 − mean) / std (standardize), or as in `whitening`.

  Args:
    kind: one of KINDS.
    images: [n, h, w, c], 0 to 255.
    stats: from `statistics`.
  """
  x = images.astype(jnp.float32)
  if kind == "scale":
    return x / 255.0
  if kind == "standardize":
    return (x / 255.0 - stats["mean"]) / stats["std"]
  x = whitening.contrast_normalize(x)
  return whitening.whiten(x, stats["mean"], stats["matrix"]) if kind == "gcn_zca" else x
