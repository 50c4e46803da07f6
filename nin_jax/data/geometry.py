"""Which part of an image is taken before it is resized."""

import math

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

TRIES = 10


def central_square(width: int, height: int) -> Box:
  """Returns the largest central square, the smaller margins above and left.

  Resized to s, it is the image whose shorter side was brought to s, cut to its central square, to half a pixel.
  """
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return left, top, left + side, top + side


def random_part(
  seed: int, step: int, position: int, width: int, height: int, area: tuple[float, float], aspect: tuple[float, float]
) -> Box:
  """Returns the part that GoogLeNet's training crops are resized from (Szegedy et al. 2014, section 6).

  Its area is uniform in `area` times the image's, the logarithm of its width / height uniform in that of `aspect`, its
  place uniform; sides are rounded to whole pixels. Where ten draws in a row do not fit into the image, it's the largest
  central part whose aspect lies in the range, as in torchvision's RandomResizedCrop.

  The draws are words of the counter-based generator Philox under the key (seed mod 2^64, 0) and the counter
  (try, position, step, 1): they depend on nothing else. `order` counts with (n, 0, 0, 0).

  Args:
    seed: of the run.
    step: of training, from 0.
    position: the image's place in the global batch.
    width, height: of the image.
    area: smallest and largest part of the image's area, at most 1.
    aspect: smallest and largest width / height.
  """
  key, counter = np.array([seed % 2**64, 0], np.uint64), np.array([0, position, step, 1], np.uint64)
  words = np.random.Philox(key=key, counter=counter).random_raw(4 * TRIES).reshape(TRIES, 4)
  for u_area, u_aspect, u_left, u_top in (words >> np.uint64(11)).tolist():
    target = width * height * _between(*area, u_area)
    ratio = math.exp(_between(math.log(aspect[0]), math.log(aspect[1]), u_aspect))
    w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, top = (width - w + 1) * u_left >> 53, (height - h + 1) * u_top >> 53
      return left, top, left + w, top + h
  ratio = min(max(width / height, aspect[0]), aspect[1])
  w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
  left, top = (width - w) // 2, (height - h) // 2
  return left, top, left + w, top + h


def _between(low: float, high: float, word: int) -> float:
  return low + (high - low) * (word / 2**53)
