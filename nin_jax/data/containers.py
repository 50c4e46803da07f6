"""Encoded images taken apart: the bytes that the pixels are made of, and how the picture is turned.

Cameras, editors and web sites write metadata that readers of the pixels stumble over: a resolution of an unexpected
type, a text chunk with a wrong checksum, an orientation that is applied twice. So none of it reaches the decoder. Of
JPEG, PNG and TIFF the orientation is read here; what else is metadata is dropped, and never interpreted.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_ORIENTATION, _XMP = 0x112, 700  # tags of TIFF, which EXIF is written in
_WHOLE_NUMBERS = {3: "H", 4: "I", 8: "h", 9: "i"}  # types of a tag's value → their struct format
# What the pixels of a TIFF are made of: its size, samples, strips, tiles, palette and compression.
_PIXELS = frozenset((
  *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 334),
  *(338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
))  # fmt: skip
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF, _JPEG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_RAW_PROFILE, _PNG_XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_MAX_TEXT = 2**20  # bytes of an inflated PNG text


class Parts(NamedTuple):
  """An encoded image, taken apart.

  Attributes:
    pixels: the file without metadata, or as it was where the container isn't one that is taken apart.
    exif: a TIFF structure that may have the orientation; b"" for none.
    xmp: XML that may have it; b"" for none.
  """

  pixels: bytes
  exif: bytes = b""
  xmp: bytes = b""


def split(encoded: bytes) -> Parts:
  """Takes JPEG, PNG and TIFF apart; another container, and what follows damage, stays as it is."""
  if encoded.startswith(b"\xff\xd8\xff"):
    return _split_jpeg(encoded)
  if encoded.startswith(_PNG):
    return _split_png(encoded)
  if encoded[:2] in (b"II", b"MM"):
    return _split_tiff(encoded)
  return Parts(encoded)


def orientation(exif: bytes, xmp: bytes = b"") -> int:
  """Returns how a picture is turned, 1 to 8 as EXIF counts: 1 is upright, as is what says nothing or nonsense.

  Args:
    exif: a TIFF structure, or b"".
    xmp: XML that is asked where `exif` says nothing.
  """
  if not exif and not xmp:
    return 1
  with contextlib.suppress(struct.error):
    exif = exif.removeprefix(_EXIF)
    for entry in _Directory(exif).entries:
      if entry.tag == _ORIENTATION and entry.type in _WHOLE_NUMBERS and entry.count == 1:
        (value,) = struct.unpack_from(entry.order + _WHOLE_NUMBERS[entry.type], exif, entry.value)
        return value if 1 <= value <= 8 else 1
  found = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])[\"'<]", xmp)
  return int(found[1]) if found else 1


class _Entry(NamedTuple):
  order: str  # of bytes, as struct writes it
  tag: int
  type: int
  count: int
  value: int  # where it begins, or where the place of a longer one stands
  raw: bytes  # the whole entry


class _Directory:
  """The first directory of a TIFF structure, the classic kind or BigTIFF.

  Args:
    data: the structure.

  Raises:
    struct.error: it is none, or ends early.
  """

  def __init__(self, data: bytes):
    self.order = order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or not {42, 43} & set(data[2:4]):
      raise struct.error("no TIFF structure")
    self.big = 43 in data[2:4]
    offset_format, count_format, self._entry = ("Q", "Q", "HHQQ") if self.big else ("I", "H", "HHII")
    (self.place,) = struct.unpack_from(order + offset_format, data, 8 if self.big else 4)
    if self.place > len(data):
      raise struct.error("its directory lies beyond the end")
    (count,) = struct.unpack_from(order + count_format, data, self.place)
    self.count_format, self.next_format = order + count_format, order + offset_format
    self.first = self.place + struct.calcsize(self.count_format)
    self.size = struct.calcsize(order + self._entry)
    if self.first + count * self.size > len(data):
      count = (len(data) - self.first) // self.size  # the end is missing
    self._data, self._count = data, count

  @property
  def entries(self) -> Iterator[_Entry]:
    """In the order of the file."""
    for start in range(self.first, self.first + self._count * self.size, self.size):
      tag, kind, count, _ = struct.unpack_from(self.order + self._entry, self._data, start)
      value = start + self.size - (8 if self.big else 4)
      yield _Entry(self.order, tag, kind, count, value, self._data[start : start + self.size])


def _split_tiff(encoded: bytes) -> Parts:
  """The directory of the first picture is written anew, in its place, with the tags that pixels need."""
  try:
    directory = _Directory(encoded)
    entries = list(directory.entries)
  except struct.error:
    return Parts(encoded)
  # Each tag once, the first, as libtiff takes it, so that nobody who reads it has another size.
  kept = list({entry.tag: entry for entry in reversed(entries) if entry.tag in _PIXELS}.values())[::-1]
  no_next_picture = struct.pack(directory.next_format, 0)
  written = struct.pack(directory.count_format, len(kept)) + b"".join(entry.raw for entry in kept) + no_next_picture
  around = memoryview(encoded)  # pages of large copies cost more than all else here
  pixels = b"".join([around[: directory.place], written, around[directory.place + len(written) :]])
  return Parts(pixels, encoded, _tiff_xmp(encoded, directory, entries))


def _tiff_xmp(encoded: bytes, directory: _Directory, entries: list[_Entry]) -> bytes:
  for entry in entries:
    if entry.tag == _XMP and entry.count > directory.size:
      (place,) = struct.unpack_from(directory.next_format, encoded, entry.value)
      return encoded[place : place + entry.count]
  return b""


def _split_jpeg(encoded: bytes) -> Parts:
  """Of the application segments those stay that libjpeg reads colours by: JFIF and Adobe."""
  kept, exif, xmp, place = [encoded[:2]], b"", b"", 2
  while encoded[place : place + 1] == b"\xff":
    kind = encoded[place + 1 : place + 2]
    if kind == b"\xff":  # a fill byte
      place += 1
      continue
    end = place + 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    if kind in b"\x00\xd8\xd9\xda" or end < place + 4 or end > len(encoded):  # the scan begins; or there is damage
      break
    body = encoded[place + 4 : end]
    metadata = b"\xe0" <= kind <= b"\xef" or kind == b"\xfe"
    if not metadata or (kind == b"\xe0" and len(body) >= 14) or (kind == b"\xee" and len(body) >= 12):
      kept.append(encoded[place:end])
    elif kind == b"\xe1" and body.startswith(_EXIF):
      exif = exif or body
    elif kind == b"\xe1" and body.startswith(_JPEG_XMP):
      xmp = xmp or body
    place = end
  return Parts(b"".join([*kept, memoryview(encoded)[place:]]), exif, xmp)


def _split_png(encoded: bytes) -> Parts:
  """Critical chunks stay, and the transparency of a palette."""
  kept, texts, place = [_PNG], {}, len(_PNG)
  while place + 12 <= len(encoded):
    kind, end = encoded[place + 4 : place + 8], place + 12 + int.from_bytes(encoded[place : place + 4], "big")
    if not kind.isalpha() or end > len(encoded):  # damage
      break
    if kind[:1].isupper() or kind == b"tRNS":
      kept.append(encoded[place:end])
    elif kind in (b"eXIf", b"zTXt", b"tEXt", b"iTXt"):
      data = encoded[place + 8 : end - 4]
      texts.setdefault((kind, data.partition(b"\0")[0] if kind != b"eXIf" else b""), data)  # the first of each
    place = end
    if kind == b"IEND":
      return Parts(b"".join(kept), _png_exif(texts), _png_xmp(texts))
  return Parts(b"".join([*kept, memoryview(encoded)[place:]]), _png_exif(texts), _png_xmp(texts))


def _png_exif(texts: dict[tuple[bytes, bytes], bytes]) -> bytes:
  """The EXIF in the text chunks, by (kind, keyword); b"" for none: PNG has had several places for it."""
  if found := texts.get((b"eXIf", b"")):
    return found
  for kind in (b"zTXt", b"tEXt"):  # as ImageMagick writes it: three lines, and then hexadecimal ones
    text = texts.get((kind, _RAW_PROFILE), b"")[len(_RAW_PROFILE) + 1 :]
    with contextlib.suppress(ValueError, zlib.error):
      text = _inflated(text[1:]) if kind == b"zTXt" and text else text
      if text:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
  return b""


def _png_xmp(texts: dict[tuple[bytes, bytes], bytes]) -> bytes:
  """The XMP in them; b"" for none."""
  text = texts.get((b"iTXt", _PNG_XMP), b"")[len(_PNG_XMP) + 1 :]
  xmp = text[2:].split(b"\0", 2)[-1]  # compressed?, method, language \0 translated keyword \0 text
  with contextlib.suppress(zlib.error):
    return _inflated(xmp) if text[:1] == b"\1" else xmp
  return b""


def _inflated(data: bytes) -> bytes:
  return zlib.decompressobj().decompress(data, _MAX_TEXT)
