import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nin_jax.data import augment

HEIGHT, WIDTH = 5, 4
IMAGE = np.arange(1, HEIGHT * WIDTH * 2 + 1, dtype=np.float32).reshape(HEIGHT, WIDTH, 2)


def shifted(image, down, right):
  """Returns the image moved by whole pixels, zeros moved in."""
  moved = np.zeros_like(image)
  for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
    if 0 <= y - down < HEIGHT and 0 <= x - right < WIDTH:
      moved[y, x] = image[y - down, x - right]
  return moved


def outcomes(translate, crop, flip):
  """Every image that may come of IMAGE, in as many copies as it has draws."""
  shifts = range(-translate, translate + 1)
  tops, lefts = range(HEIGHT - (crop or HEIGHT) + 1), range(WIDTH - (crop or WIDTH) + 1)
  for down, right, top, left in itertools.product(shifts, shifts, tops, lefts):
    part = shifted(IMAGE, down, right)[top : top + (crop or HEIGHT), left : left + (crop or WIDTH)]
    yield part.tobytes()
    if flip:
      yield part[:, ::-1].tobytes()


@pytest.mark.parametrize(
  ("translate", "crop", "flip"), [(1, 0, False), (0, 3, False), (0, 0, True), (2, 0, True), (1, 4, False), (1, 3, True)]
)
def test_each_outcome_comes_as_often_as_it_should(translate, crop, flip):
  n = 20_000
  images = jnp.broadcast_to(IMAGE, (n, *IMAGE.shape))
  positions = jnp.arange(n)
  made = jax.jit(lambda key: augment.augment(images, key, positions, translate=translate, crop=crop, flip=flip))
  made = np.asarray(made(jax.random.key(0)))
  assert made.shape == (n, crop or HEIGHT, crop or WIDTH, 2)
  draws = list(outcomes(translate, crop, flip))
  counts = {image: 0 for image in draws}
  for image in made:
    counts[image.tobytes()] += 1  # a KeyError: an image that cannot come of it
  for image, count in counts.items():
    p = draws.count(image) / len(draws)
    assert abs(count - n * p) < 5 * np.sqrt(n * p * (1 - p))


def test_an_image_does_not_depend_on_the_rest_of_its_batch():
  images = jax.random.normal(jax.random.key(1), (8, HEIGHT, WIDTH, 3))
  key, positions = jax.random.key(2), jnp.arange(8)
  run = jax.jit(lambda images, positions: augment.augment(images, key, positions, translate=2, crop=3, flip=True))
  whole, halves = run(images, positions), [run(images[half], positions[half]) for half in (slice(0, 4), slice(4, 8))]
  np.testing.assert_array_equal(whole, jnp.concatenate(halves))


def test_keys_and_positions_decide_the_draw():
  images = jnp.broadcast_to(IMAGE, (64, *IMAGE.shape))
  run = jax.jit(lambda seed: augment.augment(images, jax.random.key(seed), jnp.arange(64), translate=2))
  np.testing.assert_array_equal(run(0), run(0))
  assert not np.array_equal(run(0), run(1))
  assert len(np.unique(run(0), axis=0)) > 10


def test_nothing_asked_nothing_changed():
  images = jnp.asarray(IMAGE)[None]
  assert augment.augment(images, jax.random.key(0), jnp.arange(1)) is images


def test_central_crop():
  np.testing.assert_array_equal(augment.central_crop(IMAGE[None], 3)[0], IMAGE[1:4, 0:3])
  np.testing.assert_array_equal(augment.central_crop(IMAGE[None], 2)[0], IMAGE[1:3, 1:3])  # of 5 rows: 1 above, 2 below
  np.testing.assert_array_equal(augment.central_crop(IMAGE[None], 0)[0], IMAGE)


COLOURS = np.random.default_rng(0).uniform(0, 1, (16, 5, 4, 3)).astype(np.float32)


def jittered(images, positions=None, seed=0, **spreads):
  positions = jnp.arange(len(images)) if positions is None else positions
  return np.asarray(jax.jit(lambda key: augment.jitter(images, key, positions, **spreads))(jax.random.key(seed)))


def reference(images, factors, spreads):
  """The formulas, image by image, in NumPy; grey images have no saturation."""
  made = []
  for x, (b, c, s) in zip(images.astype(np.float64), factors, strict=True):
    luma = lambda x: x @ [0.299, 0.587, 0.114] if x.shape[-1] == 3 else x[..., 0]
    if spreads.get("brightness"):
      x = np.clip(b * x, 0, 1)
    if spreads.get("contrast"):
      x = np.clip(c * x + (1 - c) * luma(x).mean(), 0, 1)
    if spreads.get("saturation") and x.shape[-1] == 3:
      x = np.clip(s * x + (1 - s) * luma(x)[..., None], 0, 1)
    made.append(x)
  return np.array(made)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  "spreads",
  [
    {"brightness": 0.4},
    {"contrast": 0.4},
    {"saturation": 0.4},
    {"brightness": 0.6, "contrast": 1.0, "saturation": 0.8},
  ],
)
def test_colours_are_those_of_the_formulas(spreads, channels):
  images = COLOURS[..., :channels]
  key = jax.random.key(0)
  draw = lambda i: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, i), 1), (3,))
  ranges = np.array([spreads.get(name, 0.0) for name in ("brightness", "contrast", "saturation")])
  factors = 1 + ranges * (2 * np.stack([draw(i) for i in range(16)]) - 1)
  np.testing.assert_allclose(jittered(images, **spreads), reference(images, factors, spreads), atol=2e-6)


def test_factors_are_uniform_and_each_image_has_its_own():
  images = np.full((4000, 1, 1, 1), 0.5, np.float32)
  factors = jittered(images, brightness=0.4).ravel() / 0.5
  counts, _ = np.histogram(factors, np.linspace(0.6, 1.4, 5))
  assert counts.sum() == 4000
  assert np.abs(counts - 1000).max() < 140  # five standard deviations


def test_colours_do_not_depend_on_the_rest_of_the_batch_and_leave_other_draws_alone():
  spreads = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
  whole = jittered(COLOURS, **spreads)
  np.testing.assert_allclose(jittered(COLOURS[8:], jnp.arange(8, 16), **spreads), whole[8:], atol=1e-6)
  assert not np.allclose(jittered(COLOURS, seed=1, **spreads), whole)
  factors = jittered(np.full((512, 1, 1, 1), 0.25, np.float32), brightness=1.0).ravel()
  flips = augment.augment(jnp.arange(1024.0).reshape(512, 1, 2, 1), jax.random.key(0), jnp.arange(512), flip=True)
  mirrored = np.asarray(flips[:, 0, 0, 0] > flips[:, 0, 1, 0])
  assert abs(np.corrcoef(factors, mirrored)[0, 1]) < 0.2


def test_transparency_keeps_its_values_and_no_spread_changes_nothing():
  images = np.concatenate([COLOURS, COLOURS[..., :1]], -1)
  made = jittered(images, brightness=0.5, contrast=0.5, saturation=0.5)
  np.testing.assert_array_equal(made[..., 3], images[..., 3])
  np.testing.assert_allclose(made[..., :3], jittered(COLOURS, brightness=0.5, contrast=0.5, saturation=0.5), atol=1e-6)
  assert augment.jitter(COLOURS, jax.random.key(0), jnp.arange(16)) is COLOURS
