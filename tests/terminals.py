"""Pseudo-terminals, and what is read on them."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading

import pytest

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
END = b"\0"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


def ordinary(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
  """The environment of a terminal with colours, whatever that of the tests is."""
  monkeypatch.setenv("TERM", "xterm-256color")
  for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch


class Terminal:
  """A pseudo-terminal; what is written to it is in `text` after `close`."""

  def __init__(self, columns, rows=24):
    self._columns = columns
    self._master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    self.stream = os.fdopen(slave, "w")
    self._content = b""
    self._drained = threading.Event()
    self._reader = threading.Thread(target=self._read)
    self._reader.start()

  def _read(self):
    try:
      while content := os.read(self._master, 4096):
        self._content += content
        if self._content.endswith(END):
          self._drained.set()
    except OSError:  # how Linux ends a pseudo-terminal
      pass

  def close(self):
    """Closes it once all is read: some kernels drop what still waits in a pseudo-terminal that is closed."""
    self.stream.write(END.decode())
    self.stream.flush()
    assert self._drained.wait(60), "the terminal's reader is stuck"
    self.stream.close()
    self._reader.join()
    os.close(self._master)
    self.text = self._content.removesuffix(END).decode()

  def frames(self):
    """Each state of the line that stays in place, and each line printed above it."""
    return [ESCAPE.sub("", part) for part in re.split(r"\r\n|\r", self.text) if ESCAPE.sub("", part).strip()]

  def screens(self):
    """Each state of the whole screen, as lists of lines; what is too long goes on in the next line."""
    rows, row, column, screens = [""], 0, 0, []
    for part in re.findall(r"\r\x1b\[2K|\x1b\[[0-9;?]*[a-zA-Z]|[^\x1b]", self.text):
      if part == "\r\x1b[2K":  # rich begins to draw anew
        screens.append([line.rstrip() for line in rows])
        rows[row], column = "", 0
      elif part == "\r":
        column = 0
      elif part == "\n":
        row += 1
        rows += [""] * (row == len(rows))
      elif part == "\x1b[2K":
        rows[row] = ""
      elif re.fullmatch(r"\x1b\[\d+A", part):
        row -= int(part[2:-1])
        rows[row + 1 :] = []
      elif len(part) == 1:
        if column == self._columns:
          row, column = row + 1, 0
          rows += [""] * (row == len(rows))
        rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + 1 :]
        column += 1
    return [*screens, [line.rstrip() for line in rows]]
