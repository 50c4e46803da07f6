"""Ways in which disks and people damage the files of a cache."""

import os

JSON = {
  "an empty list": "[]",
  "an empty object": "{}",
  "null": "null",
  "a number": "7",
  "not a number": "NaN",
  "a huge number": "1" + "0" * 5000,
  "an infinite number": "1e999",
  "a string": '"checksums"',
  "a lone surrogate": '{"\\ud800": "\\udfff"}',
  "deep nesting": "[" * 100_000,
  "an empty key": '{"": {"": [[], null]}, "key": 1, "files": [], "checksum": {}}',
  "half an object": '{"key": ',
}


def flip(place):
  """Damage to one bit, at a part of the file's length."""

  def damage(path):
    content = bytearray(path.read_bytes())
    content[int((len(content) - 1) * place)] ^= 2
    path.write_bytes(content)

  return damage


def instead(make):
  """Something else in place of a file."""

  def damage(path):
    path.unlink()
    make(path)

  return damage


def directory(path):
  path.mkdir()
  (path / "file").write_text("content")


TO_FILES = {
  "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
  "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  "empty": lambda path: path.write_bytes(b""),
  "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
  "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
  "garbled": lambda path: path.write_bytes(b"\x80\xff\n{'garbled" * 20),
  "first bit": flip(0),
  "early bit": flip(0.1),
  "middle bit": flip(0.5),
  "last bit": flip(1),
  "missing": os.unlink,
  "a directory": instead(directory),
  "an empty directory": instead(os.mkdir),
  "a loop of links": instead(lambda path: path.symlink_to(path)),
  "a link to nothing": instead(lambda path: path.symlink_to("nothing")),
  "a link to zeros": instead(lambda path: path.symlink_to("/dev/zero")),
  "a pipe": instead(os.mkfifo),
  **{name: (lambda path, text=text: path.write_text(text)) for name, text in JSON.items()},
}
