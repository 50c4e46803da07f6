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
