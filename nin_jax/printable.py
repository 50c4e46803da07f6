"""Text from files and configs, made fit for a terminal, a page and a picture."""

import re
from typing import Any

# Control characters (C0, DEL, C1), surrogates, what turns the direction of text, separators of lines and paragraphs,
# and what is no character: a terminal obeys them, they show a text as another one, or XML has no place for them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^@]*@(\S*@)?")  # as typed: what should be quoted in a URL may be in it
_OPTIONS = re.compile(r"(://[^\s?]*\?)[^\s'\"]+")


def printable(text: str, keep: str = "") -> str:
  """A text in which what a terminal would obey, or not show as it is, is written as Python writes it: \\x1b, \\u202e.

  Args:
    text: of any characters.
    keep: characters that stay: a newline, in a text of several lines.
  """
  return _UNFIT.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def all_printable(value: Any) -> Any:
  """A JSON value with all its texts so, keys too."""
  if isinstance(value, str):
    return printable(value)
  if isinstance(value, dict):
    return {printable(str(key)): all_printable(item) for key, item in value.items()}
  return [all_printable(item) for item in value] if isinstance(value, list | tuple) else value


def without_passwords(text: str) -> str:
  """A text whose URLs have user:***@host for user:password@host, and ?*** for options, among which may be another."""
  return _OPTIONS.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
