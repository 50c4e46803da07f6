"""Global contrast normalisation and ZCA whitening, as maxout and Network in Network prepared CIFAR images.

Formulas and constants are those of pylearn2 (`expr/preprocessing.py`, `datasets/preprocessing.py` and
`scripts/datasets/make_cifar10_gcn_whitened.py`), which Goodfellow et al. (2013) and Lin et al. (2014) used.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SCALE = 55.0
MIN_DIVISOR = 1e-8
FILTER_BIAS = 0.1
MAX_DIMENSIONS = 12_288  # 64×64×3: a matrix of 604 MB


def contrast_normalize(images: Float[Array, "n h w c"], xp=jnp) -> Float[Array, "n h w c"]:
  """Returns y = (x − mean(x)) / max-guarded(‖x − mean(x)‖₂ / 55), over all pixels and channels of each image.

  A divisor below 1e-8 (an image of one colour) is replaced by 1.

  Args:
    images: float [n, h, w, c], in units of 0 to 255.
    xp: the array module, jax.numpy or numpy.
  """
  centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
  divisor = xp.sqrt(xp.sum(centred * centred, axis=(1, 2, 3), keepdims=True)) / SCALE
  return centred / xp.where(divisor < MIN_DIVISOR, 1.0, divisor)


def fit(images: np.ndarray, block: int = 1000) -> dict[str, np.ndarray]:
  """Returns the ZCA transform of contrast-normalised images: y = (x − mean) W with W = (C + 0.1 I)^(−1/2).

  C is the covariance (divided by n) of the d = h·w·c values over the set. Whitened, an eigenvalue λ of C becomes
  λ / (λ + 0.1). Products are float32 over blocks of images, sums and the eigenvectors float64.

  Args:
    images: uint8 [n, h, w, c].
    block: images a product.

  Returns:
    mean: float32 [d]. matrix: float32 [d, d], symmetric.
  """
  d = int(np.prod(images.shape[1:]))
  total, products = np.zeros(d), np.zeros((d, d))
  for start in range(0, len(images), block):
    x = contrast_normalize(images[start : start + block].astype(np.float32), np).reshape(-1, d)
    total += x.sum(axis=0, dtype=np.float64)
    products += x.T @ x
  mean = total / len(images)
  covariance = products / len(images) - np.outer(mean, mean)
  values, vectors = np.linalg.eigh(covariance + FILTER_BIAS * np.eye(d))
  matrix = (vectors / np.sqrt(values)) @ vectors.T
  return {"mean": mean.astype(np.float32), "matrix": matrix.astype(np.float32)}


def whiten_all(images: np.ndarray, statistics: dict[str, np.ndarray], block: int = 1000) -> np.ndarray:
  """Returns contrast-normalised and whitened images, float32 [n, h, w, c], computed on JAX's default device.

  Args:
    images: uint8 [n, h, w, c].
    statistics: from `fit`.
    block: images a product.
  """
  made, statistics = np.empty(images.shape, np.float32), jax.device_put(statistics)
  apply = jax.jit(lambda x, stats: whiten(contrast_normalize(x.astype(jnp.float32)), stats["mean"], stats["matrix"]))
  for start in range(0, len(images), block):
    made[start : start + block] = apply(images[start : start + block], statistics)
  return made


def whiten(
  images: Float[Array, "n h w c"], mean: Float[Array, " d"], matrix: Float[Array, "d d"]
) -> Float[Array, "n h w c"]:
  """Returns (x − mean) W of contrast-normalised images, in full float32 on every backend."""
  flat = images.reshape(images.shape[0], -1) - mean
  return jnp.einsum("nd,de->ne", flat, matrix, precision=jax.lax.Precision.HIGHEST).reshape(images.shape)
