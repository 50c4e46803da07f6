"""What checks of a config's fields are made of, each of which stands alone so that all mistakes are found.

A check is a function from `Fields` to the mistakes that it finds. One that reads a field which has a mistake already
finds nothing: a learning rate that is no number does not make its bound wrong too.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError

MAX_INT = 2**31 - 1  # of steps, images and pixels: they are int32 on the devices
MAX_FLOAT = 3e38  # larger ones are infinite in float32


class Unsound(Exception):
  """A check reads a field that has a mistake already."""


class Fields:
  """The fields of a section; `fields.momentum` raises `Unsound` where a mistake was found before, or it is missing.

  Args:
    section: of a config.
    prefix: what stands before a field's name when it is typed: "optimizer.".
    unsound: the full names of the fields that have a mistake; `gather` adds to it.
  """

  def __init__(self, section: ConfigDict, prefix: str = "", unsound: set[str] | None = None):
    self.section, self.prefix = section, prefix
    self.unsound = set() if unsound is None else unsound

  def __getitem__(self, name: str) -> Any:
    full = self.prefix + name
    if full in self.unsound or name not in self.section:  # what is missing is a mistake of its own
      raise Unsound(full)
    value = self.section[name]
    return Fields(value, f"{full}.", self.unsound) if isinstance(value, ConfigDict) else value

  def __getattr__(self, name: str) -> Any:
    return self[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self.section)

  def sound(self, section: str, but: str = "") -> bool:
    """Whether a section has no mistake in any field, other than one that may have."""
    return not any(name == section or name.startswith(f"{section}.") for name in self.unsound - {but})

  def error(self, name: str, accepted: str) -> ConfigError:
    """The mistake of one of the fields."""
    return ConfigError(self.prefix + name, self.section[name], accepted)


Check = Callable[[Fields], Iterator[ConfigError]]


def gather(fields: Fields, checks: Iterable[Check]) -> Iterator[ConfigError]:
  """Yields the mistakes that the checks find, in order; fields that have one are not checked further."""
  for check in checks:
    try:
      for mistake in check(fields):
        fields.unsound.add(mistake.field)
        yield mistake
    except Unsound:
      continue


def within(fields: Fields, names: Iterable[str], checks: Iterable[Check]) -> Iterator[ConfigError]:
  """Yields the mistakes that the checks find in each of several sections of the same kind."""
  for name in names:
    yield from gather(fields, [lambda fields, name=name: gather(fields[name], checks)])


def field(names: str, sound: Callable[[Any], bool], accepted: str) -> list[Check]:
  """Checks of one field each, whose names are separated by blanks."""

  def check(name: str) -> Check:
    def found(fields: Fields) -> Iterator[ConfigError]:
      if not sound(fields[name]):
        yield fields.error(name, accepted)

    return found

  return [check(name) for name in names.split()]


def one_of(name: str, accepted: Iterable[str]) -> list[Check]:
  """A check that a string is one of several."""
  accepted = tuple(accepted)
  return field(name, lambda value: value in accepted, f"one of {', '.join(accepted)}")


def whole(names: str, least: int, most: int = MAX_INT) -> list[Check]:
  """Checks that whole numbers lie between two bounds, both taken in."""
  accepted = f"a whole number from {least} to {most}"
  return field(names, lambda value: least <= value <= most, accepted)


def is_number(value: object) -> bool:
  """Whether a value is a finite number that float32 can hold."""
  return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_FLOAT


def positive(value: float) -> bool:
  """Whether a number is more than 0 and finite in float32."""
  return 0 < value < MAX_FLOAT


def not_negative(value: float) -> bool:
  """Whether a number is 0 or more and finite in float32."""
  return 0 <= value < MAX_FLOAT


def fraction(value: float) -> bool:
  """Whether a number is 0 or more and less than 1."""
  return 0 <= value < 1


def type_mistake(value: object, like: object) -> str | None:
  """What is accepted in place of a value, by the type of the default; None where the value will do.

  Whole numbers will do for numbers, lists for tuples. NumPy's scalars will not: `config.json` can't hold them.
  """
  if isinstance(like, bool):
    return None if isinstance(value, bool) else "True or False"
  if isinstance(like, int):
    sound = isinstance(value, int) and not isinstance(value, bool)
    return None if sound and abs(value) < 2**63 else "a whole number" + " of at most 64 bits" * sound
  if isinstance(like, float):
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    # JAX takes a Python int for an int32.
    return None if sound and (isinstance(value, float) or abs(value) <= MAX_INT) else "a number"
  if isinstance(like, str):
    return None if isinstance(value, str) else "a string"
  if isinstance(like, tuple | list):
    return None if isinstance(value, tuple | list) else "a tuple"
  return None


def structure(section: object, like: ConfigDict, prefix: str, known: str = "") -> Iterator[ConfigError]:
  """Yields the mistakes in a section's names and types, and in those of the sections within it.

  Args:
    section: what the config has.
    like: a section with all the fields that there may be and must be, with values of the right types; an empty section
      within it stands for any.
    prefix: of the fields' names: "optimizer.".
    known: what the fields are of, for the error: "googlenet".
  """
  names = field_names(section)
  if names is None:
    yield ConfigError(prefix[:-1], section, f"a section with the fields {', '.join(like)}" if like else "a section")
    return
  if not like:
    return
  for name in names:
    if name not in like:
      yield unknown(section, name, like, prefix, known)
  for name in like:
    if name not in names:
      from_where = "begin with nin_jax.config.default()" if not known else f"{known} has it"
      yield ConfigError(prefix + name, None, f"a field that is there: {from_where}")
    elif isinstance(like[name], ConfigDict):
      yield from structure(section[name], like[name], f"{prefix}{name}.", known)
    elif accepted := type_mistake(section[name], like[name]):
      yield ConfigError(prefix + name, section[name], accepted)


def unknown(section: ConfigDict, name: str, accepted: Iterable[str], prefix: str, known: str = "") -> ConfigError:
  """The mistake of a field that there is not, with the closest one that there is."""
  close = difflib.get_close_matches(name, list(accepted), n=1)
  hint = f"; did you mean {close[0]}?" if close else ""
  of = f"a field of {known}:" if known else "one of the fields"
  return ConfigError(f"{prefix}{name}", section[name], f"{of} {', '.join(sorted(accepted))}{hint}")


def field_names(section: object) -> list[str] | None:
  """The names in a section, or None where it is no section, or has names that can't be typed."""
  if not isinstance(section, ConfigDict):
    return None
  try:
    names = list(section)
  except TypeError:  # names of several types can't be sorted
    return None
  return names if all(isinstance(name, str) for name in names) else None


def numbers(names: str, sound: Callable[[float], bool], accepted: str) -> list[Check]:
  """Checks that each element of a tuple is a number of a kind."""
  return field(names, lambda values: all(is_number(value) and sound(value) for value in values), accepted)
