"""Standard output and error that take any character and outlive their readers: pipes, terminals, logs on full disks."""

import codecs
import contextlib
import errno
import io
import os
import select
import sys

_ERRORS = "nin_jax.look_alike"
# The signs that commands print → what is like them; a "?" stands for any other.
_LOOK_ALIKES = {
  "×": "x",
  "─": "-",
  "−": "-",
  "–": "-",
  "…": "...",
  "≤": "<=",
  "≥": ">=",
  "→": "->",
  "·": "*",
  "±": "+-",
  "√": "sqrt",
}
_streams: dict[str, "_Lasting"] = {}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def set_up() -> None:
  """Prepares the standard streams of a process of this project; to be called before it opens any file."""
  outlive_readers()
  replace_unencodable()


def outlive_readers() -> None:
  """Replaces stdout and stderr by streams whose writes never raise: a training must not end because its log does.

  A stream that was closed from the start (`2>&-`) becomes /dev/null: otherwise the next file that is opened would get
  its number, and what libraries print. Streams that are not the process's own, such as a notebook's, stay as they are.
  """
  for number, name in enumerate(("stdin", "stdout", "stderr")):
    stream, closed = getattr(sys, name), _fill(number)
    if name == "stdin" or not (_is_own(stream, number) if stream else closed):
      continue
    lasting, settings = _Lasting(number, closed), {"encoding": "utf-8"}
    if stream:
      with contextlib.suppress(OSError):
        stream.flush()
      settings = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
    buffered = lasting if settings.get("write_through") else io.BufferedWriter(lasting)
    made = io.TextIOWrapper(buffered, **settings)
    setattr(sys, name, made)
    setattr(sys, f"__{name}__", made)
    _streams[name] = lasting


def failure(name: str) -> OSError | None:
  """The first write error on "stdout" or "stderr" since `outlive_readers`, or None."""
  return _streams[name].error if name in _streams else None


def note(text: str) -> None:
  """Prints a line on standard error, and ignores that it can't: for code that runs in a user's own process."""
  if sys.stderr:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
      print(text, file=sys.stderr, flush=True)


def replace_unencodable() -> None:
  """Has stdout and stderr write what their encoding lacks in other characters, in place of a UnicodeEncodeError.

  It may be lacking in ASCII or Latin-1 (LC_ALL=C, an old terminal, a log), and surrogates, which stand for the bytes of
  file names that are no UTF-8, in any encoding: these go out as the bytes.
  """
  codecs.register_error(_ERRORS, _look_alike)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(AttributeError):  # there is none, or a notebook's
      stream.reconfigure(errors=_ERRORS)


class _Lasting(io.FileIO):
  """A standard stream's descriptor, whose `write` drops what can't be written.

  If its reader is gone, the descriptor itself becomes /dev/null, for libraries and for child processes too. On a full
  disk, later writes are tried again.

  Attributes:
    error: the first one, or None.
  """

  def __init__(self, number: int, error: OSError | None):
    super().__init__(number, "w", closefd=False)
    self.error = error

  def write(self, data: bytes | memoryview) -> int:
    left = memoryview(data).cast("B")
    count = len(left)
    try:
      while left:
        if written := super().write(left):
          left = left[written:]
        else:  # it does not block, and is full
          select.select([], [self], [])
    except OSError as error:
      self.error = self.error or error
      if error.errno not in _NO_ROOM:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
    return count


def _fill(number: int) -> OSError | None:
  """Opens /dev/null as a descriptor if that is closed, and returns the error that a write would have met."""
  try:
    os.fstat(number)
  except OSError as error:
    os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: those below are open by now
    return error
  return None


def _is_own(stream: object, number: int) -> bool:
  """Whether a stream is one of Python's own making over a standard descriptor."""
  if type(stream) is not io.TextIOWrapper:
    return False
  try:
    return stream.fileno() == number and not isinstance(getattr(stream.buffer, "raw", stream.buffer), _Lasting)
  except (OSError, ValueError):  # of a buffer in memory; closed
    return False


def _look_alike(error: UnicodeError) -> tuple[str | bytes, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  character = error.object[error.start]
  if 0xDC80 <= ord(character) <= 0xDCFF:
    return bytes([ord(character) - 0xDC00]), error.start + 1
  return _LOOK_ALIKES.get(character, "?"), error.start + 1
