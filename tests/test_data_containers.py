"""Pictures stand upright whatever their container, and damaged metadata does their pixels no harm."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from nin_jax.data import containers, decode, geometry

Y, X = np.mgrid[:40, :60]
UPRIGHT = np.stack([X * 4, Y * 6, 0 * X], -1).astype(np.uint8)
STORED = {
  1: lambda a: a,
  2: lambda a: a[:, ::-1],
  3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1],
  5: lambda a: a.transpose(1, 0, 2),
  6: np.rot90,
  7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
  8: lambda a: np.rot90(a, -1),
}
ON_ITS_SIDE = STORED[6](UPRIGHT)
KINDS = {
  "jpeg": {"quality": 98, "subsampling": 0},
  "png": {},
  "webp": {"lossless": True},
  "tiff": {},
  "tiff ": {"compression": "tiff_lzw"},
  "tiff  ": {"compression": "tiff_adobe_deflate", "big_tiff": True},
}
FRAMINGS = {
  "crop": decode.framing("crop"),
  "warp": decode.framing("warp"),
  "random part": lambda width, height: geometry.random_part(0, 0, 0, width, height, (0.3, 0.5), (3 / 4, 4 / 3)),
}


def encoded(array, kind, **options):
  file = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(array)).save(file, kind.strip(), **KINDS.get(kind, {}), **options)
  return file.getvalue()


def decoded(data, framing="crop"):
  return decode.decode(data, (40, 40, 3), FRAMINGS[framing]).astype(int)


def oriented(orientation):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  return exif


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_stand_upright(kind, framing):
  expected = decoded(encoded(UPRIGHT, "png"), framing)
  for orientation, store in STORED.items():
    made = decoded(encoded(store(UPRIGHT), kind, exif=oriented(orientation)), framing)
    np.testing.assert_allclose(made, expected, atol=4 if kind == "jpeg" else 0, err_msg=f"orientation {orientation}")


def test_a_large_turned_jpeg_is_cut_from_its_upright_size():
  large = np.kron(UPRIGHT, np.ones((10, 10, 1), np.uint8))
  expected = decoded(encoded(large, "jpeg"), "random part")
  made = decoded(encoded(STORED[6](large), "jpeg", exif=oriented(6)), "random part")
  np.testing.assert_allclose(made, expected, atol=4)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def info(kind, key, text):
  chunks = PngImagePlugin.PngInfo()
  getattr(chunks, f"add_{kind}")(key, text.decode(), zip=True)
  return {"pnginfo": chunks}


RAW = b"\nexif\n      26\n" + oriented(6).tobytes().hex().encode() + b"\n"
ELSEWHERE = {
  "XMP in JPEG": ("jpeg", {"xmp": XMP}),
  "XMP in WebP": ("webp", {"xmp": XMP}),
  "XMP in TIFF": ("tiff", {"tiffinfo": {700: XMP}}),
  "XMP as an element": ("jpeg", {"xmp": b"<tiff:Orientation>6</tiff:Orientation>"}),
  "XMP in PNG": ("png", info("itxt", "XML:com.adobe.xmp", XMP)),
  "ImageMagick's text in PNG": ("png", info("text", "Raw profile type exif", RAW)),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_orientations_elsewhere_than_in_exif(where):
  kind, options = ELSEWHERE[where]
  expected = decoded(encoded(UPRIGHT, "png"))
  np.testing.assert_allclose(decoded(encoded(STORED[6](UPRIGHT), kind, **options)), expected, atol=4)


def exif(*entries):
  """A TIFF structure of tags (tag, type, count, raw value)."""
  place, data, directory = 8 + 2 + 12 * len(entries) + 4, b"", struct.pack("<H", len(entries))
  for tag, kind, count, raw in sorted(entries):
    value = raw.ljust(4, b"\0")
    if len(raw) > 4:
      value, data = struct.pack("<I", place + len(data)), data + raw
    directory += struct.pack("<HHI", tag, kind, count) + value
  return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + data


SIX = (0x112, 3, 1, struct.pack("<HH", 6, 0))
ODD_TAGS = {
  "ResolutionUnit as BYTE": [SIX, (0x128, 1, 1, b"\2")],
  "XResolution as SRATIONAL": [SIX, (0x11A, 10, 1, struct.pack("<ii", -1, 0))],
  "XResolution with two values": [SIX, (0x11A, 5, 2, struct.pack("<IIII", 72, 1, 72, 1)), (0x128, 3, 1, b"\3\0")],
  "ImageDescription as RATIONAL": [SIX, (0x10E, 5, 1, struct.pack("<II", 1, 2))],
  "Make as DOUBLE": [SIX, (0x10F, 12, 1, struct.pack("<d", 1.0))],
  "a place beyond the end": [SIX, (0x10F, 2, 9, struct.pack("<I", 2**31))],
  "a length beyond the end": [SIX, (0x10F, 2, 2**32 - 1, b"\0\0\0\0")],
  "a directory beyond the end": [SIX, (0x8769, 4, 1, struct.pack("<I", 2**31))],
  "an unknown type": [SIX, (0x10F, 99, 1, b"\0\0\0\0")],
  "XMP of numbers": [SIX, (700, 3, 3, struct.pack("<HHH", 1, 2, 3))],
}


def segment(body, kind=b"\xe1"):
  return b"\xff" + kind + struct.pack(">H", len(body) + 2) + body


def chunk(kind, data, check=0):
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ check)


def in_jpeg(*segments, array=ON_ITS_SIDE):
  plain = encoded(array, "jpeg")
  return plain[:2] + b"".join(segments) + plain[2:]


def in_png(*chunks, array=ON_ITS_SIDE):
  plain = encoded(array, "png")
  return plain[:33] + b"".join(chunks) + plain[33:]


def in_tiff(entries, array=ON_ITS_SIDE):
  """The tags beside those of a TIFF's own, which are put after the pixels."""
  plain = encoded(array, "tiff")
  (place,) = struct.unpack_from("<I", plain, 4)
  (count,) = struct.unpack_from("<H", plain, place)
  rest = {tag for tag, *_ in entries}
  own = [plain[start : start + 12] for start in range(place + 2, place + 2 + 12 * count, 12)]
  own = [entry for entry in own if struct.unpack_from("<H", entry)[0] not in rest]
  end, data = len(plain) + 2 + 12 * (len(own) + len(entries)) + 4, b""
  for tag, kind, number, raw in entries:
    value = raw.ljust(4, b"\0")
    if len(raw) > 4:
      value, data = struct.pack("<I", end + len(data)), data + raw
    own.append(struct.pack("<HHI", tag, kind, number) + value)
  own.sort(key=lambda entry: struct.unpack_from("<H", entry))
  directory = struct.pack("<H", len(own)) + b"".join(own) + struct.pack("<I", 0)
  return plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + directory + data


def tagged(kind, array, entries):
  """An array as a file with these tags."""
  block = exif(*entries)
  if kind == "tiff":
    return in_tiff(entries, array)
  if kind == "jpeg":
    return in_jpeg(segment(b"Exif\0\0" + block), array=array)
  return in_png(chunk(b"eXIf", block), array=array) if kind == "png" else encoded(array, "webp", exif=block)


@pytest.mark.parametrize("odd", ODD_TAGS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_odd_tags_do_no_harm(kind, odd, recwarn):
  data = tagged(kind, STORED[6](UPRIGHT), ODD_TAGS[odd])
  recwarn.clear()
  np.testing.assert_allclose(decoded(data), decoded(encoded(UPRIGHT, "png")), atol=4)
  assert not recwarn.list


NO_ORIENTATION = {
  "0": (3, 1, b"\0\0"),
  "9": (3, 1, b"\x09\0"),
  "65535": (3, 1, b"\xff\xff"),
  "a string": (2, 2, b"6\0"),
  "a long string": (2, 8, b"rotated\0"),
  "two values": (3, 2, b"\6\0\6\0"),
  "no value": (3, 0, b""),
  "a byte": (7, 1, b"\6"),
  "a fraction": (5, 1, struct.pack("<II", 13, 2)),
  "negative": (8, 1, struct.pack("<h", -6)),
}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("value", NO_ORIENTATION)
def test_an_orientation_that_is_none_turns_nothing(kind, value):
  data = tagged(kind, UPRIGHT, [(0x112, *NO_ORIENTATION[value])])
  np.testing.assert_allclose(decoded(data), decoded(encoded(UPRIGHT, "png")), atol=4)


def test_an_orientation_of_another_whole_type_counts():
  data = tagged("tiff", STORED[6](UPRIGHT), [(0x112, 4, 1, struct.pack("<I", 6))])
  np.testing.assert_array_equal(decoded(data), decoded(encoded(UPRIGHT, "png")))


TURNED = segment(b"Exif\0\0" + exif(SIX))
TURNED_BY_XMP = segment(b"http://ns.adobe.com/xap/1.0/\0" + XMP)
DAMAGED = {
  "a directory of EXIF that is far away": in_jpeg(segment(b"Exif\0\0II+\0\x08\0\0\0" + b"\xff" * 8), TURNED_BY_XMP),
  "nonsense in EXIF": in_jpeg(TURNED, segment(b"Exif\0\0nonsense")),
  "an ICC profile of missing parts": in_jpeg(TURNED, segment(b"ICC_PROFILE\0\2\7junk", b"\xe2")),
  "an ICC profile cut short": in_jpeg(TURNED, segment(b"ICC_PROFILE\0", b"\xe2")),
  "a short JFIF": in_jpeg(segment(b"JFIF\0", b"\xe0"), TURNED),
  "a short Adobe": in_jpeg(segment(b"Adobe", b"\xee"), TURNED),
  "Photoshop's resources": in_jpeg(TURNED, segment(b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\0\0\0\2\0\0", b"\xed")),
  "several pictures, but not": in_jpeg(TURNED, segment(b"MPF\0II*\0\x08\0\0\0\0\0\0\0", b"\xe2")),
  "XMP that is no text": in_jpeg(TURNED, segment(b"http://ns.adobe.com/xap/1.0/\0\xff\xfe")),
  "a wrong checksum of a text": in_png(chunk(b"tEXt", b"Comment\0x", 1), chunk(b"eXIf", exif(SIX))),
  "a wrong checksum of EXIF": in_png(chunk(b"eXIf", exif(SIX), 1)),
  "a text that is not compressed": in_png(chunk(b"zTXt", b"Comment\0\0junk"), chunk(b"eXIf", exif(SIX))),
  "a text that is a bomb": in_png(
    chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))), chunk(b"eXIf", exif(SIX))
  ),
  "a text of no known charset": in_png(chunk(b"iTXt", b"\xff\0\0\0\xff\0\xff\0\xff"), chunk(b"eXIf", exif(SIX))),
  "an empty text": in_png(chunk(b"iTXt", b""), chunk(b"tEXt", b""), chunk(b"zTXt", b""), chunk(b"eXIf", exif(SIX))),
  "an ICC profile that is junk": in_png(chunk(b"iCCP", b"x\0\0junk"), chunk(b"eXIf", exif(SIX))),
  "gamma, resolution and animation cut short": in_png(
    *(chunk(kind, b"") for kind in (b"gAMA", b"pHYs", b"cHRM", b"sRGB", b"acTL", b"fcTL")), chunk(b"eXIf", exif(SIX))
  ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_metadata_does_no_harm(damage):
  np.testing.assert_allclose(decoded(DAMAGED[damage]), decoded(encoded(UPRIGHT, "png")), atol=4)


def test_a_decoder_sees_no_metadata():
  for data in (in_jpeg(TURNED, segment(b"comment", b"\xfe")), in_png(chunk(b"tEXt", b"Comment\0x"))):
    pixels = containers.split(data).pixels
    with Image.open(io.BytesIO(pixels)) as image:
      assert not {"exif", "comment", "Comment", "xmp", "icc_profile"} & set(image.info)
  data = encoded(UPRIGHT, "tiff", exif=oriented(6), save_all=True, append_images=[Image.fromarray(UPRIGHT)])
  with Image.open(io.BytesIO(containers.split(data).pixels)) as image:
    assert (image.size, image.n_frames) == ((60, 40), 1)
    assert ExifTags.Base.Orientation not in image.tag_v2


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("tiled", [False, True])
def test_the_pixels_of_a_tiff_are_what_they_were(mode, tiled):
  wide = Image.fromarray((X * 1000).astype(np.uint16))
  image = wide if mode == "I;16" else Image.fromarray(UPRIGHT).convert(mode)
  jpeg, raw = mode in ("L", "RGB", "CMYK", "YCbCr"), mode != "YCbCr"  # which Pillow 11.3 can't read as it writes it
  for compression in ("tiff_lzw", *["jpeg"] * jpeg, *["raw"] * raw):
    file = io.BytesIO()
    image.save(file, "tiff", compression=compression, **({"tiffinfo": {322: 16, 323: 16}} if tiled else {}))
    with (
      Image.open(file) as expected,
      Image.open(io.BytesIO(containers.split(file.getvalue()).pixels)) as made,
    ):
      np.testing.assert_array_equal(np.asarray(made), np.asarray(expected), err_msg=compression)
      assert made.mode == expected.mode


def test_whatever_is_damaged_is_taken_apart_without_an_error():
  rng = np.random.default_rng(0)
  whole = [*DAMAGED.values(), in_tiff([SIX]), encoded(UPRIGHT, "tiff  ", exif=oriented(6))]
  for data in whole:
    for _ in range(40):
      torn = bytearray(data[: rng.integers(len(data) + 1)])
      for place in rng.integers(0, max(1, min(len(torn), 200)), 4):
        torn[place : place + 1] = rng.bytes(1)
      parts = containers.split(bytes(torn))
      assert containers.orientation(parts.exif, parts.xmp) in range(1, 9)
