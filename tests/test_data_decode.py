"""Whatever people's pictures are made of, one upright picture comes out."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from nin_jax.data import containers, decode
from nin_jax.data.faults import BrokenImage, NoneReadable

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def encoded(image, kind="png", **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def decoded(data, shape=(6, 8, 3), resize="warp"):
  return decode.decode(data, shape, decode.framing(resize))


def test_colours_and_greys_are_kept():
  np.testing.assert_array_equal(decoded(encoded(Image.fromarray(COLOURS))), COLOURS)
  np.testing.assert_array_equal(decoded(encoded(Image.fromarray(GREY)), (6, 8, 1))[..., 0], GREY)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
  wide = (GREY.astype(int) * 257 + RNG.integers(-128, 129, GREY.shape)).clip(0, 65_535).astype(np.uint16)
  data = encoded(Image.fromarray(wide), kind)
  assert Image.open(io.BytesIO(data)).mode.startswith("I")
  np.testing.assert_array_equal(decoded(data, (6, 8, 1))[..., 0], GREY)
  np.testing.assert_array_equal(decoded(data), np.repeat(GREY[..., None], 3, -1))


def test_a_sixteen_bit_pgm_is_scaled():
  data = b"P5 2 1 65535\n" + np.array([0, 65535], ">u2").tobytes()
  np.testing.assert_array_equal(decoded(data, (1, 2, 1)).ravel(), [0, 255])


def test_a_transparent_palette_is_its_colours():
  palette = Image.fromarray(COLOURS).quantize(48)
  expected = np.asarray(palette.convert("RGB"))
  np.testing.assert_array_equal(decoded(encoded(palette, transparency=0)), expected)
  np.testing.assert_array_equal(decoded(encoded(palette, "gif")), expected)


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_grey_or_colours(mode):
  image = Image.fromarray(COLOURS).convert(mode)
  if mode in ("LA", "RGBA"):
    image.putalpha(Image.fromarray(GREY))
  data = encoded(image, "tiff", compression="tiff_lzw")  # Pillow 11.3 can't read its own uncompressed YCbCr
  for channels, target in ((1, "L"), (3, "RGB")):
    made = decoded(data, (6, 8, channels))
    opaque = image.convert({"LA": "L", "RGBA": "RGB"}.get(mode, mode)).convert(target)
    np.testing.assert_allclose(made, np.asarray(opaque).reshape(made.shape), atol=2)


def test_four_channels_stay_four():
  image = Image.fromarray(np.dstack([COLOURS, GREY]))
  np.testing.assert_array_equal(decoded(encoded(image), (6, 8, 4)), np.asarray(image))


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(kind):
  frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
  data = encoded(
    frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "webp" else {})
  )
  np.testing.assert_array_equal(decoded(data), np.broadcast_to(np.uint8([255, 0, 0]), (6, 8, 3)))


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (41, 60), (40, 40), (9, 7)])
def test_crop_is_the_resized_image_s_centre_and_warp_all_of_it(width, height):
  y, x = np.mgrid[:height, :width] + 0.5
  smooth = np.stack([255 * x / width, 255 * y / height, 0 * x], -1).astype(np.uint8)
  data = encoded(Image.fromarray(smooth))
  size = 20
  scale = size / min(width, height)
  whole = Image.fromarray(smooth).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
  left, top = (whole.width - size) // 2, (whole.height - size) // 2
  expected = np.asarray(whole)[top : top + size, left : left + size].astype(int)
  slope = 255 / size
  np.testing.assert_allclose(decoded(data, (size, size, 3), "crop"), expected, atol=slope * 0.75)
  warped = decoded(data, (size, size, 3), "warp").astype(int)
  assert warped[0, 0].max() <= 255 / min(size, height)
  assert warped[-1, -1, :2].min() >= 255 - 1.5 * 255 / min(size, height)


def test_a_jpeg_that_is_much_too_large_is_decoded_smaller_to_the_same_picture(monkeypatch):
  noise = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).resize((1000, 800))
  data = encoded(noise, "jpeg", quality=95)
  choose = lambda width, height: (100, 50, 900, 690)
  drafted = decode.decode(data, (64, 80, 3), choose).astype(int)
  full = np.asarray(Image.open(io.BytesIO(data)).resize((80, 64), Image.Resampling.BILINEAR, (100, 50, 900, 690)))
  assert np.abs(drafted - full).mean() < 1.5
  sizes = []
  resize = Image.Image.resize
  monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: sizes.append(self.size) or resize(self, *a, **k))
  decode.decode(data, (64, 80, 3), choose)
  assert sizes == [(250, 200)]  # a quarter; 2 × 80 pixels of the part would be a fifth


BROKEN = {
  "empty": b"",
  "text": b"no picture at all",
  "truncated jpeg": encoded(Image.fromarray(COLOURS).resize((200, 200)), "jpeg")[:-900],
  "truncated png": encoded(Image.fromarray(COLOURS).resize((200, 200)))[:-900],
  "floats": encoded(Image.fromarray(GREY.astype(np.float32)), "tiff"),
}


class Listed(list):
  def __getitems__(self, indices):
    return [self[i] for i in indices]

  def name(self, index):
    return f"image {index}"


def records(*images):
  return Listed({"image": image, "label": i} for i, image in enumerate(images))


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_images_are_named(broken):
  whole = encoded(Image.fromarray(COLOURS))
  with pytest.raises(BrokenImage) as caught:
    decode.decode_all(records(whole, BROKEN[broken], whole, b""), (6, 8, 3), "crop", False)
  assert caught.value.index == 1
  assert caught.value.reason


def test_a_decompression_bomb_is_a_broken_image(monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
  with pytest.raises(BrokenImage, match="exceeds limit"):
    decode.read(records(encoded(Image.fromarray(COLOURS))), 0, (6, 8, 3), decode.framing("crop"))


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "bmp", "webp", "ppm"])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(kind, monkeypatch, recwarn):
  data = encoded(Image.fromarray(COLOURS), kind)
  monkeypatch.setattr(decode, "MAX_PIXELS", 48)
  decoded(data)
  monkeypatch.setattr(decode, "MAX_PIXELS", 47)
  monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("it is decoded"))
  with pytest.raises(BrokenImage, match="8×6 pixels, more than the limit of 47"):
    decode.read(records(data), 0, (6, 8, 3), decode.framing("crop"))
  assert decode.MAX_PIXELS <= Image.MAX_IMAGE_PIXELS
  assert not recwarn.list


def png_of_size(width, height):
  chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's, which pytest lets through again
def test_what_pillow_only_warns_of_is_an_error():
  with pytest.raises(BrokenImage, match="10000×9000 pixels, more than the limit of 89,478,485"):
    decode.read(records(png_of_size(10_000, 9_000)), 0, (6, 8, 3), decode.framing("crop"))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
  """A stand-in for the program that Pillow runs for PostScript; it notes that it was."""
  calls, program = tmp_path / "calls", tmp_path / "gs"
  program.write_text(f"#!/bin/sh\necho called >> {calls}\n")
  program.chmod(0o755)
  monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
  monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
  return calls


def test_postscript_is_not_executed_whatever_it_is_called(ghostscript):
  with contextlib.suppress(OSError), Image.open(io.BytesIO(POSTSCRIPT)) as image:  # as Pillow does by itself
    image.load()
  assert ghostscript.exists()
  ghostscript.unlink()
  with pytest.raises(BrokenImage, match="not readable as JPEG, PNG, "):
    decode.read(records(POSTSCRIPT), 0, (6, 8, 3), decode.framing("crop"))
  assert not ghostscript.exists()


@pytest.mark.parametrize("kind", ["ico", "pcx", "tga", "sgi", "eps", "pdf", "dds", "icns", "jpeg2000", "msp"])
def test_other_formats_of_pillow_are_broken_images(kind):
  image = Image.fromarray(COLOURS).convert("1" if kind == "msp" else "RGB")
  with pytest.raises(BrokenImage, match="not readable as "):
    decode.read(records(encoded(image, kind)), 0, (6, 8, 3), decode.framing("crop"))


@pytest.fixture
def plugins(monkeypatch):
  """The names of Pillow's plugins, noted whenever one of them reads a file."""
  read: set[str] = set()

  def watch(kind, of):
    def noted(self, *arguments, **options):
      read.add(kind.format or kind.__name__)
      return of(self, *arguments, **options)

    return noted

  def kinds(kind):
    for found in kind.__subclasses__():
      yield from (found, *kinds(found))

  Image.init()
  for kind in set(kinds(ImageFile.ImageFile)):
    for name in {"_open", "_after_jpeg_open"} & vars(kind).keys():
      monkeypatch.setattr(kind, name, watch(kind, vars(kind)[name]))
  return read


@pytest.mark.parametrize("junk", [b"", b"\0", b"\xff\0", b"\xff\xe5\0\0", b"\xff\xf0\0\x06"])
def test_of_several_pictures_in_a_jpeg_the_first_is_read_by_the_plugin_for_jpeg(junk, plugins):
  image = Image.fromarray(COLOURS)
  data = encoded(image, "mpo", save_all=True, append_images=[image])
  place = data.index(b"\xff\xe2")
  data = data[:place] + junk + data[place:]
  plugins.clear()
  with Image.open(io.BytesIO(data)):
    assert "MPO" in plugins
  plugins.clear()
  with contextlib.suppress(BrokenImage):
    decode.read(records(data), 0, (6, 8, 3), decode.framing("crop"))
  assert plugins == {"JPEG"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_other_plugin_reads_a_byte(plugins):
  for kind in sorted(Image.SAVE):
    for mode in ("RGB", "L", "1"):
      with contextlib.suppress(Exception):  # some plugins only read, or write one of the modes
        decode.read(
          records(encoded(Image.fromarray(COLOURS).convert(mode), kind)), 0, (6, 8, 3), decode.framing("crop")
        )
  assert plugins == set(decode.FORMATS)


def tiff(tags, content):
  """A TIFF of whole numbers, each its own tag's; DATA is replaced by where the content lies."""
  end = 8 + 2 + 12 * len(tags) + 4
  entries = [struct.pack("<HHII", tag, 4, 1, end if value == "DATA" else value) for tag, value in tags]
  return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + content


def test_a_tile_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
  content = zlib.compress(bytes(320 * 304))
  image = [(256, 8), (257, 6), (258, 8), (259, 8), (262, 1), (277, 1)]
  tiles = [(322, 320), (323, 304), (324, "DATA"), (325, len(content))]
  np.testing.assert_array_equal(decoded(tiff(image + tiles, content), (6, 8, 1)), 0)
  monkeypatch.setattr(decode, "MAX_PIXELS", 320 * 304 - 1)
  for twice in ([], [(322, 16)]):  # libtiff takes the first of two, and Pillow the last
    data = tiff(image + tiles[:1] + twice + tiles[1:], content)
    with pytest.raises(BrokenImage, match="320×304 pixels, more than the limit of 97,279"):
      decode.read(records(data), 0, (6, 8, 1), decode.framing("crop"))


def test_the_text_of_a_png_is_inflated_once(monkeypatch):
  inflated = []
  decompress = containers._inflated
  monkeypatch.setattr(containers, "_inflated", lambda data: inflated.append(data) or decompress(data))
  text = b"Raw profile type exif\0\0" + zlib.compress(bytes(1000))
  chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
  data = encoded(Image.fromarray(COLOURS))
  np.testing.assert_array_equal(decoded(data[:33] + 100 * chunk + data[33:]), COLOURS)
  assert len(inflated) == 1


def test_skipped_images_give_their_place_to_the_next():
  whole = [encoded(Image.new("RGB", (8, 6), (i, 0, 0))) for i in range(6)]
  whole[1] = whole[2] = whole[5] = b""
  made = decode.decode_all(records(*whole), (6, 8, 3), "crop", True)
  assert made["images"][:, 0, 0, 0].tolist() == made["labels"].tolist() == [0, 3, 3, 3, 4, 0]
  assert made["broken"].tolist() == [1, 2, 5]
  with pytest.raises(NoneReadable):
    decode.decode_all(records(b"", b""), (6, 8, 3), "crop", True)
