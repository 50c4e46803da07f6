"""Whatever people's pictures are made of, one upright picture comes out."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from nin_jax.data import decode
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
  data = encoded(image, "tiff", compression="tiff_lzw")  # Pillow 11 cannot read YCbCr without compression
  for channels, target in ((1, "L"), (3, "RGB")):
    made = decoded(data, (6, 8, channels))
    opaque = image.convert({"LA": "L", "RGBA": "RGB"}.get(mode, mode)).convert(target)
    np.testing.assert_allclose(made, np.asarray(opaque).reshape(made.shape), atol=2)


def test_four_channels_stay_four():
  image = Image.fromarray(np.dstack([COLOURS, GREY]))
  np.testing.assert_array_equal(decoded(encoded(image), (6, 8, 4)), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["crop", "warp"])
def test_pictures_stand_upright(orientation, resize):
  upright = np.zeros((32, 48, 3), np.uint8)
  upright[:16, :24] = (255, 0, 0)
  upright[:16, 24:] = (0, 255, 0)
  stored = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
  }[orientation](upright)
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  made = decoded(encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif), (8, 8, 3), resize)
  np.testing.assert_array_equal(made[0, 0], (255, 0, 0))
  np.testing.assert_array_equal(made[0, -1], (0, 255, 0))
  np.testing.assert_array_equal(made[-1], 0)
  np.testing.assert_array_equal(made, decoded(encoded(Image.fromarray(upright)), (8, 8, 3), resize))


def test_a_damaged_exif_block_does_no_harm():
  data = encoded(Image.fromarray(COLOURS), exif=b"Exif\0\0nonsense")
  np.testing.assert_array_equal(decoded(data), COLOURS)


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


def test_skipped_images_give_their_place_to_the_next():
  whole = [encoded(Image.new("RGB", (8, 6), (i, 0, 0))) for i in range(6)]
  whole[1] = whole[2] = whole[5] = b""
  made = decode.decode_all(records(*whole), (6, 8, 3), "crop", True)
  assert made["images"][:, 0, 0, 0].tolist() == made["labels"].tolist() == [0, 3, 3, 3, 4, 0]
  assert made["broken"].tolist() == [1, 2, 5]
  with pytest.raises(NoneReadable):
    decode.decode_all(records(b"", b""), (6, 8, 3), "crop", True)
