"""Encoded images → uint8 arrays of one size: what Pillow reads, turned upright, in 1, 3 or 4 channels."""

import io
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from nin_jax.data import containers
from nin_jax.data.faults import BrokenImage, NoneReadable
from nin_jax.data.geometry import Box, central_square

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")  # as Pillow calls them; PPM is PGM and PBM too
MAX_PIXELS = 89_478_485  # of a stored image, as Pillow advises: 256 MiB in RGB
VERSION = 3  # of the pixels that come out: part of the cache's keys
_BLOCK = 128  # records a task
_GAP = 2  # a JPEG is decoded to no less than this many times the size it's resized to
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}  # by orientation, as EXIF counts
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # it's an error here, see MAX_PIXELS


def decode(encoded: bytes, shape: tuple[int, int, int], choose: Callable[[int, int], Box | None]) -> np.ndarray:
  """Returns one image as uint8 [h, w, c].

  The content decides the format, one of FORMATS: Pillow knows more, and runs Ghostscript for one of them. The image is
  turned as its EXIF orientation says; other metadata never reaches Pillow (see `containers`). The first frame of an
  animation or page of a file is taken, transparency is left out, palettes and CMYK become colours, 16 bits per pixel
  become 8 by division (not by clipping). Resizing is Pillow's bilinear filter, which widens when it shrinks
  (antialiased). A JPEG that is at least four times too large is decoded at a half, a quarter or an eighth of its size,
  by libjpeg's scaled inverse DCT, never to less than twice the size that is asked for: 1 to 2 grey levels of
  difference, and much faster.

  Args:
    encoded: the bytes of a file.
    shape: (h, w, c) to return; c is one of MODES.
    choose: from an upright image's (width, height) to the part that is resized to (h, w); None: all of it.

  Raises:
    Exception: the image cannot be read, or has more than MAX_PIXELS, which is found before it is decoded. Pillow's
      readers raise OSError, SyntaxError, ValueError, struct.error and more.
  """
  height, width, channels = shape
  pixels, exif, xmp = containers.split(encoded)
  with _opened(pixels) as image:
    exif, xmp = exif or image.info.get("exif", b""), xmp or image.info.get("xmp", b"")  # of WebP and GIF
    orientation = containers.orientation(exif, xmp)
    full = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size
    box = choose(*full) or (0, 0, *full)
    shrink = min((box[2] - box[0]) / width, (box[3] - box[1]) / height) / _GAP
    if shrink >= 2:
      image.draft(None, (math.ceil(image.size[0] / shrink), math.ceil(image.size[1] / shrink)))  # of JPEGs alone
    image.load()
    upright = image if orientation == 1 else image.transpose(_UPRIGHT[orientation])
    x, y = (drafted / whole for drafted, whole in zip(upright.size, full, strict=True))
    box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    pixels = _in_mode(upright, MODES[channels])
    if box != (0, 0, width, height) or pixels.size != (width, height):
      pixels = pixels.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(pixels).reshape(shape)


def _opened(encoded: bytes) -> Image.Image:
  """An image whose size is known, and nothing more decoded."""
  file = io.BytesIO(encoded)
  try:
    # `Image.open` has the end of a JPEG that holds several pictures read by the plugin for MPO.
    is_jpeg = encoded.startswith(b"\xff\xd8\xff")
    image = JpegImageFile(file) if is_jpeg else Image.open(file, formats=FORMATS)
  except (UnidentifiedImageError, SyntaxError):
    raise ValueError(f"not readable as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
  for width, height in (image.size, _tile(image)):
    if width * height > MAX_PIXELS:
      raise ValueError(f"{width}×{height} pixels, more than the limit of {MAX_PIXELS:,}")
  return image


def _tile(image: Image.Image) -> tuple[int, int]:
  """The (width, height) of a TIFF's tiles, each decoded as a whole, which may be larger than the image; else (0, 0)."""
  if image.format != "TIFF":
    return 0, 0
  size = image.tag_v2.get(TILEWIDTH, 0), image.tag_v2.get(TILELENGTH, 0)
  if not all(isinstance(length, int) for length in size):
    raise ValueError(f"tiles of {size[0]!r}×{size[1]!r} pixels")
  return size


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
  if image.mode == mode:
    return image
  if image.mode.startswith("I"):  # 16 bits, the widest that image formats have, 65,535 being white
    grey = np.clip(np.asarray(image).astype(np.int64), 0, 65_535)
    image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
  elif image.mode == "F":
    raise ValueError("its pixels are floating-point numbers, of no known range")
  return image if image.mode == mode else image.convert(mode)


def framing(resize: str) -> Callable[[int, int], Box | None]:
  """Returns `decode`'s choose for data.resize: the central square (crop), or all of the image (warp)."""
  return central_square if resize == "crop" else _whole


def _whole(width: int, height: int) -> None:
  del width, height


def read(
  records: Sequence[dict],
  index: int,
  shape: tuple[int, int, int],
  choose: Callable[[int, int], Box | None],
  record: dict | None = None,
) -> tuple[np.ndarray, int]:
  """Returns one image as uint8 [h, w, c], and its label.

  Args:
    records: random access to {"image": bytes, "label": int}.
    index: its place there.
    shape, choose: see `decode`.
    record: what is there, where it has been read already.

  Raises:
    BrokenImage: it cannot be read.
    DamagedRecords: the file that holds it cannot be.
  """
  try:
    record = record or records[index]
  except OSError as error:
    raise BrokenImage(index, _reason(error)) from error
  try:
    return decode(record["image"], shape, choose), record["label"]
  except Exception as error:
    raise BrokenImage(index, _reason(error)) from error


def _reason(error: Exception) -> str:
  text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
  text = re.sub(r" ?<_io\.BytesIO object at \w+>", "", text)
  return " ".join(text.split())[:200] or type(error).__name__


def decode_all(records: Sequence[dict], shape: tuple[int, int, int], resize: str, skip: bool) -> dict[str, np.ndarray]:
  """Returns every image and label of a split, in order.

  Threads share the work: Pillow lets go of the interpreter while it decodes and resizes, which pays for photographs
  and neither pays nor costs at 32×32.

  Args:
    records: random access to {"image": bytes, "label": int}.
    shape: (h, w, c) to decode to; images of another size are resized as `resize` says.
    resize: crop or warp, as data.resize.
    skip: whether the place of a broken image is taken by the next readable one; else it is an error.

  Returns:
    images: uint8 [n, h, w, c]. labels: int32 [n]. broken: int32, the places of the broken ones, in order.

  Raises:
    BrokenImage: an image cannot be read, the first of them; with skip, NoneReadable where none can.
    DamagedRecords: a record file cannot be read.
  """
  images = np.empty((len(records), *shape), np.uint8)
  labels = np.empty(len(records), np.int32)
  choose = framing(resize)

  def block(start: int) -> list[BrokenImage]:
    broken, indices = [], range(start, min(start + _BLOCK, len(records)))
    try:
      found = records.__getitems__(list(indices))  # at once, which is five times as fast for small records
    except OSError:  # one of them: it's found below
      found = [None] * len(indices)
    for i, record in zip(indices, found, strict=True):
      try:
        images[i], labels[i] = read(records, i, shape, choose, record)
      except BrokenImage as error:
        broken.append(error)
        if not skip:
          break
    return broken

  with ThreadPoolExecutor(os.cpu_count()) as pool:
    broken = []
    for found in pool.map(block, range(0, len(records), _BLOCK)):
      broken += found
      if broken and not skip:
        pool.shutdown(cancel_futures=True)
        raise broken[0]
  indices = np.array([error.index for error in broken], np.int32)
  if len(indices) == len(records):
    raise NoneReadable(broken[-1].index, broken[-1].reason)
  readable = np.setdiff1d(np.arange(len(records)), indices)
  for i in indices:
    instead = readable[np.searchsorted(readable, i) % len(readable)]
    images[i], labels[i] = images[instead], labels[instead]
  return {"images": images, "labels": labels, "broken": indices}
