"""Standard output and error that take any character, whatever the encoding of the terminal or the log."""

import codecs
import contextlib
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


def replace_unencodable() -> None:
  """Has stdout and stderr write what their encoding lacks in other characters, in place of a UnicodeEncodeError.

  It may be lacking in ASCII or Latin-1 (LC_ALL=C, an old terminal, a log), and surrogates, which stand for the bytes of
  file names that are no UTF-8, in any encoding: these go out as the bytes.
  """
  codecs.register_error(_ERRORS, _look_alike)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(AttributeError):  # there is none, or a notebook's
      stream.reconfigure(errors=_ERRORS)


def _look_alike(error: UnicodeError) -> tuple[str | bytes, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  character = error.object[error.start]
  if 0xDC80 <= ord(character) <= 0xDCFF:
    return bytes([ord(character) - 0xDC00]), error.start + 1
  return _LOOK_ALIKES.get(character, "?"), error.start + 1
