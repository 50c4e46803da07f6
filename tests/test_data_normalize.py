import numpy as np
import pytest

from nin_jax.data import normalize, whitening

RNG = np.random.default_rng(0)
IMAGES = (RNG.normal(120, 40, (300, 4, 4, 3)) + RNG.normal(0, 30, (300, 1, 1, 3))).clip(0, 255).astype(np.uint8)


def normalized(kind, images=IMAGES):
  return np.asarray(normalize.normalize(kind, images, normalize.statistics(kind, IMAGES)))


@pytest.mark.parametrize("kind", normalize.KINDS)
def test_normalized_images_are_float32_of_the_same_shape(kind):
  images = normalized(kind)
  assert images.dtype == np.float32
  assert images.shape == IMAGES.shape


def test_scale():
  np.testing.assert_allclose(normalized("scale"), IMAGES / 255.0, rtol=1e-6)


def test_standardized_channels_have_mean_0_and_deviation_1():
  images = normalized("standardize").astype(np.float64)
  np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=1e-6)
  np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1, atol=1e-6)


def test_statistics_are_those_of_all_pixels():
  images = RNG.integers(0, 256, (2345, 3, 2, 2), dtype=np.uint8)  # more than two blocks
  stats = normalize.statistics("standardize", images)
  np.testing.assert_allclose(stats["mean"], (images / 255.0).mean(axis=(0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(stats["std"], (images / 255.0).std(axis=(0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_is_not_divided_by_0():
  images = np.full((5, 2, 2, 1), 77, np.uint8)
  assert normalize.statistics("standardize", images)["std"] == 1


def test_contrast_normalized_images_have_mean_0_and_norm_55():
  images = normalized("gcn").astype(np.float64)
  np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(np.sqrt((images**2).sum(axis=(1, 2, 3))), 55, rtol=1e-5)


def test_an_image_of_one_colour_becomes_0():
  flat = np.full((1, 4, 4, 3), 200, np.uint8)
  np.testing.assert_array_equal(normalized("gcn", flat), 0)


def test_whitening_shrinks_each_eigenvalue_by_the_formula():
  """An eigenvalue λ of the contrast-normalised covariance becomes λ / (λ + 0.1), in the same directions."""
  d = IMAGES[0].size
  before = normalized("gcn").reshape(-1, d).astype(np.float64)
  after = normalized("gcn_zca").reshape(-1, d).astype(np.float64)
  values, vectors = np.linalg.eigh(np.cov(before.T, bias=True))
  covariance = np.cov(after.T, bias=True)
  expected = (vectors * (values / (values + 0.1))) @ vectors.T
  np.testing.assert_allclose(covariance, expected, atol=2e-4)
  np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
  assert values[1:].min() > 1  # so that nearly all of it is the identity
  np.testing.assert_allclose(np.linalg.eigvalsh(covariance)[1:], 1, atol=0.1)


def test_the_whitening_matrix_is_symmetric_and_no_matter_the_blocks():
  stats, blocks = whitening.fit(IMAGES), whitening.fit(IMAGES, block=77)
  np.testing.assert_allclose(stats["matrix"], stats["matrix"].T, atol=1e-6)
  np.testing.assert_allclose(stats["matrix"], blocks["matrix"], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(stats["mean"], blocks["mean"], atol=1e-5)
