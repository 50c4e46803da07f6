"""Encoded records → uint8 arrays."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
_BLOCK = 512  # records a task


def decode(
  records: Sequence[dict], image_key: str, label_key: str, image_shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
  """Returns every image and label of a split, in order.

  Images of another size are resized to image_shape with Pillow's bilinear filter, which widens when it shrinks
  (antialiased); their aspect ratio is not kept. Threads share the work: Pillow lets go of the interpreter while it
  decodes and resizes, which pays for photographs and neither pays nor costs at 32×32.

  Args:
    records: examples as `source.records` gives them.
    image_key: the feature with an image's bytes (PNG, JPEG or whatever else Pillow reads).
    label_key: the feature with its class.
    image_shape: (h, w, c) to decode to.

  Returns:
    images: uint8 [n, h, w, c]. labels: int32 [n].

  Raises:
    ValueError: a record's image cannot be read.
  """
  height, width, channels = image_shape
  mode = MODES[channels]
  images = np.empty((len(records), *image_shape), np.uint8)
  labels = np.empty(len(records), np.int32)

  def decode_block(start: int) -> None:
    block = range(start, min(start + _BLOCK, len(records)))
    for i, record in zip(block, records.__getitems__(list(block)), strict=True):
      try:
        image = Image.open(io.BytesIO(record[image_key]))
        if image.mode != mode:
          image = image.convert(mode)
      except (OSError, SyntaxError) as error:
        raise ValueError(f"the image of record {i} cannot be read: {error}") from error
      if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
      images[i] = np.asarray(image).reshape(image_shape)
      labels[i] = record[label_key]

  with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(decode_block, range(0, len(records), _BLOCK)))
  return {"images": images, "labels": labels}
