"""The user's mistakes: one clear line that names the field, the value given and what is accepted."""

from collections.abc import Iterable

from nin_jax.printable import printable

SHOWN = 200  # characters of a value


class ConfigError(ValueError):
  """A value that the user can mend. Commands print it as one line and exit with status 2.

  Args:
    field: the config field or flag, as it would be typed (`data.batch_size`, `--workdir`).
    value: what was given; a long one is shortened in the line.
    accepted: what would be accepted, in words (`a multiple of the 8 devices`).

  Attributes:
    mistakes: all that are told of: this one.
  """

  def __init__(self, field: str, value: object, accepted: str):
    self.field, self.value, self.accepted = field, value, accepted
    self.mistakes: list[ConfigError] = [self]
    super().__init__(f"{line(field)}={shown(value)}: accepted is {line(accepted, 10 * SHOWN)}")


class ConfigErrors(ConfigError):
  """Several mistakes at once, a line each; `field`, `value` and `accepted` are those of the first.

  Attributes:
    mistakes: a ConfigError each.
  """

  def __init__(self, mistakes: Iterable[ConfigError]):
    found = list(mistakes)
    super().__init__(found[0].field, found[0].value, found[0].accepted)
    self.mistakes = found
    self.args = ("\n".join(map(str, found)),)


def refuse(mistakes: Iterable[ConfigError]) -> None:
  """Raises the mistakes, if there are any.

  Raises:
    ConfigError: there is one.
    ConfigErrors: there are several.
  """
  found = list(mistakes)
  if found:
    raise found[0] if len(found) == 1 else ConfigErrors(found)


def shown(value: object) -> str:
  """A value as it stands in an error's line: its repr, on one line and not longer than `SHOWN` characters."""
  try:
    return line(repr(value))
  except Exception:  # a repr may be the user's own, and that of an int of thousands of digits raises
    return f"({type(value).__name__} that can't be printed)"


def line(text: str, most: int = SHOWN) -> str:
  """A text on one line, of what is printable, the middle left out where it is longer than `most` characters."""
  text = printable(" ".join(str(text).split()))
  return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 4 :]}"


class ImageTooSmall(ValueError):
  """A window does not fit into the map that it slides over: the image is too small for the network."""
