"""Overrides put together: the kinds of spaces that `space` makes."""

import abc
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nin_jax.errors import ConfigError
from nin_jax.sweep.ranges import Choice, Range

MAX_TRIALS = 100_000  # of a sweep: more are a slip of the pen

Overrides = dict[str, Any]


class Space(abc.ABC):
  """An iterable of overrides, of which there are `len(space)`; the same each time."""

  @property
  @abc.abstractmethod
  def fields(self) -> tuple[str, ...]:
    """The fields that it sets, in the order of their first mention."""

  @abc.abstractmethod
  def ranges(self) -> dict[str, Range]:
    """Each field's values, where the fields vary independently of each other.

    Raises:
      ConfigError: they do not: the sweep is a zip, a chain or a list.
    """

  @abc.abstractmethod
  def __iter__(self) -> Iterator[Overrides]: ...

  @abc.abstractmethod
  def __len__(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Values(Space):
  """One field's values in turn."""

  field: str
  choice: Choice

  @property
  def fields(self) -> tuple[str, ...]:
    return (self.field,)

  def ranges(self) -> dict[str, Range]:
    return {self.field: self.choice}

  def __iter__(self) -> Iterator[Overrides]:
    return ({self.field: value} for value in self.choice.values)

  def __len__(self) -> int:
    return len(self.choice.values)


@dataclasses.dataclass(frozen=True)
class Product(Space):
  """Every combination of the factors' overrides."""

  factors: tuple[Space, ...]

  @property
  def fields(self) -> tuple[str, ...]:
    return _fields(self.factors)

  def ranges(self) -> dict[str, Range]:
    return {field: found for factor in self.factors for field, found in factor.ranges().items()}

  def __iter__(self) -> Iterator[Overrides]:
    return map(_merge, itertools.product(*self.factors))

  def __len__(self) -> int:
    return limited(math.prod(map(len, self.factors)))


@dataclasses.dataclass(frozen=True)
class Zip(Space):
  """The parts' first overrides together, then their second ones, and so on."""

  parts: tuple[Space, ...]

  @property
  def fields(self) -> tuple[str, ...]:
    return _fields(self.parts)

  def ranges(self) -> dict[str, Range]:
    raise _dependent("a zip")

  def __iter__(self) -> Iterator[Overrides]:
    return map(_merge, zip(*self.parts, strict=True))

  def __len__(self) -> int:
    return len(self.parts[0])


@dataclasses.dataclass(frozen=True)
class Chain(Space):
  """One part's overrides after the other's."""

  parts: tuple[Space, ...]

  @property
  def fields(self) -> tuple[str, ...]:
    return _fields(self.parts)

  def ranges(self) -> dict[str, Range]:
    raise _dependent("a chain")

  def __iter__(self) -> Iterator[Overrides]:
    return itertools.chain(*self.parts)

  def __len__(self) -> int:
    return limited(sum(map(len, self.parts)))


@dataclasses.dataclass(frozen=True)
class Listed(Space):
  """Overrides that were written down."""

  overrides: tuple[Overrides, ...]

  @property
  def fields(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for overrides in self.overrides for field in overrides))

  def ranges(self) -> dict[str, Range]:
    raise _dependent("a list of overrides")

  def __iter__(self) -> Iterator[Overrides]:
    return map(dict, self.overrides)

  def __len__(self) -> int:
    return len(self.overrides)


@dataclasses.dataclass(frozen=True)
class Sample(Space):
  """Random overrides.

  A field's values depend on nothing but (seed, field, number): words of the counter-based generator Philox, which NumPy
  promises never to change. More points, or more fields, leave the ones before as they are.
  """

  size: int
  axes: dict[str, Range]
  seed: int

  @property
  def fields(self) -> tuple[str, ...]:
    return tuple(self.axes)

  def ranges(self) -> dict[str, Range]:
    return dict(self.axes)

  def __iter__(self) -> Iterator[Overrides]:
    drawn = {field: self._words(field) for field in self.axes}
    for number in range(self.size):
      yield {field: found.at(int(drawn[field][number])) for field, found in self.axes.items()}

  def __len__(self) -> int:
    return self.size

  def _words(self, field: str) -> np.ndarray:
    of_field = int.from_bytes(hashlib.sha256(field.encode()).digest()[:8], "little")
    return np.random.Philox(key=np.array([self.seed, of_field], np.uint64)).random_raw(self.size)


def _fields(spaces: Iterable[Space]) -> tuple[str, ...]:
  return tuple(dict.fromkeys(field for space in spaces for field in space.fields))


def _merge(parts: Iterable[Overrides]) -> Overrides:
  return {field: value for part in parts for field, value in part.items()}


def limited(size: int) -> int:
  """The number of trials; raises ConfigError where it is more than MAX_TRIALS."""
  if size > MAX_TRIALS:
    raise ConfigError("sweep", f"{size:.3g} trials", f"up to {MAX_TRIALS} of them")
  return size


def _dependent(kind: str) -> ConfigError:
  return ConfigError("sweep", kind, "values, sample and products of these: its fields have no independent axes")
