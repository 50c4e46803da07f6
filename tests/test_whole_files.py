"""Files are read whole or not: no pipe is waited for, nothing is read without end; JSON can be counted with."""

import os
import re
import stat
import types

import pytest

from nin_jax import whole_files


@pytest.mark.parametrize(
  "text",
  [
    *(
      "",
      "{",
      "nothing",
      "NaN",
      '{"a": Infinity}',
      "[-Infinity]",
      "1e400",
      "1" + "0" * 300,
      "1" * 5000,
      "-" + "1" * 400,
    ),
    *("[" * 51 + "]" * 51, '{"a":' * 51 + "1" + "}" * 51, "[" * 100_000, b'"\xff"'),
  ],
)
def test_what_is_no_json_or_cannot_be_counted_with_is_refused(text):
  with pytest.raises(ValueError, match=r"\S"):
    whole_files.parse(text)


def test_what_is_json_is_its_value():
  assert whole_files.parse('{"a": [1, 2.5, null, true, "\\ud800"], "b": {}}') == {
    "a": [1, 2.5, None, True, "\ud800"],
    "b": {},
  }
  assert whole_files.parse("[" * 50 + "]" * 50)
  assert float(whole_files.parse("9" * 300)) == 1e300


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_not_read(make, tmp_path):
  make(tmp_path / "x")
  with pytest.raises(OSError, match="not a regular file"):
    whole_files.read(tmp_path / "x")


def test_nor_what_takes_a_file_s_place_once_it_was_looked_at(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / "x")
  looked_at = types.SimpleNamespace(st_mode=stat.S_IFREG, st_size=1)
  monkeypatch.setattr(whole_files.os, "stat", lambda path: looked_at)
  with pytest.raises(OSError, match="not a regular file"):
    whole_files.read(tmp_path / "x")


def test_a_file_is_read_up_to_its_size(tmp_path):
  (tmp_path / "x").write_bytes(b"abc")
  assert whole_files.read(tmp_path / "x", most=3) == b"abc"
  with pytest.raises(OSError, match=re.escape("3 bytes, more than the limit of 2")):
    whole_files.read(tmp_path / "x", most=2)


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="the system has no /proc")
def test_a_file_of_proc_is_not_read_without_end():
  assert whole_files.read("/proc/self/pagemap") == b""


def test_a_terminal_does_not_become_that_of_this_process(tmp_path, monkeypatch):
  flags = []
  opened = os.open
  monkeypatch.setattr(whole_files.os, "open", lambda path, given: flags.append(given) or opened(path, given))
  (tmp_path / "x").write_bytes(b"")
  whole_files.read(tmp_path / "x")
  assert flags[0] & os.O_NOCTTY
  assert flags[0] & os.O_NONBLOCK
