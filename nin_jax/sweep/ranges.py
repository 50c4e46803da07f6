"""Ranges that a field's values are drawn from: what a sampled sweep has for axes, and a search may take."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from nin_jax.errors import ConfigError

WORD = 2**64  # what a range draws from: the whole numbers below it, equally likely


def is_number(value: object) -> bool:
  """Whether a value is a finite number."""
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
  """Whether a value is a whole number."""
  return isinstance(value, int) and not isinstance(value, bool)


def own(value: Any) -> Any:
  """A value in Python's own types, as a config has them: NumPy's scalars become Python's.

  Raises:
    TypeError: for what a config can't hold: anything but strings, numbers, booleans and tuples or lists of these.
  """
  if getattr(value, "shape", None) == ():
    value = value.item()
  if isinstance(value, tuple | list):
    return tuple(map(own, value))
  if isinstance(value, str | bool) or is_whole(value) or isinstance(value, float):
    return value
  raise TypeError(f"no value of a config's field: {type(value).__name__}")


@dataclasses.dataclass(frozen=True)
class _Bounded:
  """A range with bounds, both of which may be drawn."""

  low: Any
  high: Any

  def __post_init__(self):
    for name in ("low", "high"):  # NumPy's scalars become Python's
      value = getattr(self, name)
      object.__setattr__(self, name, value.item() if getattr(value, "shape", None) == () else value)
    if not all(map(self._sound, (self.low, self.high))) or self.low >= self.high:
      raise ConfigError(f"space.{self.NAME}", (self.low, self.high), f"{self.ACCEPTED}, the first below the second")

  @staticmethod
  def _sound(value: object) -> bool:
    return is_number(value)


@dataclasses.dataclass(frozen=True)
class Uniform(_Bounded):
  """Numbers from low to high, all equally likely."""

  NAME, ACCEPTED = "uniform", "two numbers"

  def at(self, word: int) -> float:
    """The number at a place of the range, from 0 up to 2^64."""
    return min(self.low + _part(word) * (self.high - self.low), float(self.high))


@dataclasses.dataclass(frozen=True)
class LogUniform(_Bounded):
  """Numbers from low to high whose logarithms are equally likely; rounded to six digits.

  Without the rounding, another machine's logarithm could give another last bit.
  """

  NAME, ACCEPTED = "log_uniform", "two numbers more than 0"

  @staticmethod
  def _sound(value: object) -> bool:
    return is_number(value) and value > 0

  def at(self, word: int) -> float:
    """The number at a place of the range, from 0 up to 2^64."""
    low, high = math.log(self.low), math.log(self.high)
    return float(min(max(float(f"{math.exp(low + _part(word) * (high - low)):.6g}"), self.low), self.high))


@dataclasses.dataclass(frozen=True)
class Integers(_Bounded):
  """Whole numbers from low to high, all equally likely."""

  NAME, ACCEPTED = "integers", "two whole numbers"

  @staticmethod
  def _sound(value: object) -> bool:
    return is_whole(value)

  def at(self, word: int) -> int:
    """The number at a place of the range, from 0 up to 2^64."""
    return self.low + _index(word, self.high - self.low + 1)


@dataclasses.dataclass(frozen=True)
class PowerOfTwo(_Bounded):
  """Powers of two from low to high, all equally likely."""

  NAME, ACCEPTED = "power_of_two", "two powers of two from 1 up"

  @staticmethod
  def _sound(value: object) -> bool:
    return is_whole(value) and value > 0 and value.bit_count() == 1

  def at(self, word: int) -> int:
    """The number at a place of the range, from 0 up to 2^64."""
    low, high = self.low.bit_length(), self.high.bit_length()
    return 1 << (low - 1 + _index(word, high - low + 1))


@dataclasses.dataclass(frozen=True)
class Choice:
  """Values, all equally likely."""

  values: tuple

  def __init__(self, values: Iterable):
    accepted = "strings, numbers, booleans and tuples of these, one or more"
    try:
      given = None if isinstance(values, str | bytes | dict) else tuple(values)
      object.__setattr__(self, "values", tuple(map(own, given or ())))
    except TypeError:
      raise ConfigError("space.choice", values, accepted) from None
    if not self.values:
      raise ConfigError("space.choice", values, accepted)

  def at(self, word: int) -> Any:
    """The value at a place of the range, from 0 up to 2^64."""
    return self.values[_index(word, len(self.values))]


Range = Uniform | LogUniform | Integers | PowerOfTwo | Choice


def _part(word: int) -> float:
  """A word as a part of the whole, 0 ≤ part < 1: its first 53 bits."""
  return (word >> 11) * 2.0**-53


def _index(word: int, size: int) -> int:
  return word * size // WORD
