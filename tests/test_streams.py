"""Terminals and logs that are not UTF-8: other characters, and no UnicodeEncodeError; files are UTF-8 all the same."""

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table
from test_commands import DIGITS, assert_mistake, run

from nin_jax import streams

POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


encodings = pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "cp437", "utf-16"])


def encode(monkeypatch, encoding):
  """Gives stdout and stderr an encoding, strict as a pipe's, and has them take any character."""
  for name in ("stdout", "stderr"):
    monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
  streams.replace_unencodable()


def written(stream):
  stream.flush()
  return stream.buffer.getvalue()


@encodings
def test_what_an_encoding_lacks_is_written_like_it(monkeypatch, encoding):
  encode(monkeypatch, encoding)
  for stream in (sys.stdout, sys.stderr):
    print("32×32×3 → √2 ≤ 3…, 漢", file=stream)
    text = written(stream).decode(encoding)
    assert text.startswith(("32×32×3", "32x32x3"))
    assert text.endswith(("漢\n", "?\n"))
    if encoding == "ascii":
      assert text == "32x32x3 -> sqrt2 <= 3..., ?\n"
    if encoding == "cp1252":
      assert text == "32×32×3 -> sqrt2 <= 3…, ?\n"
    if encoding.startswith("utf"):
      assert text == "32×32×3 → √2 ≤ 3…, 漢\n"


@encodings
def test_the_bytes_of_file_names_go_out_as_they_are(monkeypatch, encoding):
  encode(monkeypatch, encoding)
  if encoding == "utf-16":
    pytest.skip("which is not made of single bytes")
  print(b"runs/\xff\xfe".decode("utf-8", "surrogateescape"))
  assert written(sys.stdout) == b"runs/\xff\xfe\n"


@encodings
def test_rich_s_tables_and_displays_are_drawn(monkeypatch, encoding):
  encode(monkeypatch, encoding)
  table = Table("kernel", title="bottleneck → 1×1")
  table.add_row("3×3 …")
  Console(file=sys.stderr, width=40).print(table)
  assert "kernel" in written(sys.stderr).decode(encoding)


def test_there_may_be_no_streams(monkeypatch):
  monkeypatch.setattr(sys, "stdout", None)
  monkeypatch.setattr(sys, "stderr", io.BytesIO())
  streams.replace_unencodable()


@pytest.mark.parametrize(
  ("name", "flags", "more"),
  [
    ("cost", ["--train"], {"PYTHONIOENCODING": "ascii"}),
    ("sweep", ["--sweep=bottleneck", "--plan"], POSIX),
  ],
)
def test_commands_print_to_any_terminal(name, flags, more):
  done = run(name, DIGITS, *flags, **more)
  assert (done.returncode, done.stderr) == (0, "")
  assert {"cost": "inception on 8x8x1", "sweep": "\n-----"}[name] in done.stdout


def test_errors_are_one_line_on_any_terminal():
  done = run("cost", "--config=configs/nin_imagenet.py", "--config.data.crop=40", PYTHONIOENCODING="ascii")
  assert_mistake(done, "data.image_size='40x40'")
