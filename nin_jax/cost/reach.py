"""Affine access records: the range of the image that an array's elements read, axis by axis.

For a layer of kernel k, stride t, dilation d and leading padding p, a record changes as in Araujo, Norris and Sim 2019,
"Computing Receptive Fields of Convolutional Neural Networks":

  lo ← lo − jump·p    hi ← hi + jump·((k − 1)·d − p)    jump ← jump·t
"""

import dataclasses
import math
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Reach:
  """Element i reads pixels jump·i + lo … jump·i + hi, both included; in a finished record the jump may be unknown."""

  jump: int | None
  lo: int
  hi: int

  @property
  def extent(self) -> int:
    """The receptive field, in pixels."""
    return self.hi - self.lo + 1

  def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Reach":
    """The reach of a sliding window over this."""
    lo, hi = self.lo - self.jump * padding, self.hi + self.jump * ((kernel - 1) * dilation - padding)
    return Reach(self.jump * stride, lo, hi)


SAMPLE = "sample"  # in place of an axis: some positions of the whole batch, flattened

# A dimension holds factors (size, image axis or None), major first: n·h·w has three until it is taken apart again.
Factor = tuple[int, int | str | None]
Dim = tuple[Factor, ...]


def plain(shape: Sequence[int]) -> tuple[Dim, ...]:
  """Dimensions that hold no image axis."""
  return tuple(((size, None),) for size in shape)


def canonical(dim: Sequence[Factor]) -> Dim:
  """The same dimension with neighbouring factors that hold no axis made one.

  Factors of size 1 go too, unless an image axis of size 1 is among them: then order is all that tells them apart.
  """
  flat = any(size == 1 and axis is not None for size, axis in dim)
  merged: list[Factor] = []
  for size, axis in dim:
    if axis is None and size == 1 and not flat:
      continue
    if axis is None and merged and merged[-1][1] is None and not flat:
      merged[-1] = (merged[-1][0] * size, None)
    else:
      merged.append((size, axis))
  return tuple(merged) or ((1, None),)


@dataclasses.dataclass(frozen=True)
class Record:
  """The pixels that a value reads: its dimensions' factors, and the reach along each image axis (None: unknown).

  An axis that no dimension holds any more, after a mean over it, has its reach at i = 0.
  """

  dims: tuple[Dim, ...]
  reach: tuple[Reach | None, ...]

  def axes(self, dim: int) -> list[int]:
    """The image axes that a dimension holds."""
    return [axis for _, axis in self.dims[dim] if isinstance(axis, int)]

  def place(self, axis: int) -> tuple[int, int, int] | None:
    """The dimension that runs along an image axis, the axis's size in it and its step; None if no dimension does."""
    for d, dim in enumerate(self.dims):
      for i, (size, held) in enumerate(dim):
        if held == axis:
          return d, size, math.prod(n for n, _ in dim[i + 1 :])
    return None

  def replace(self, dims: Sequence[Dim], changes: dict[int, Reach | None]) -> "Record":
    """Other dimensions, and another reach for some axes; what was unknown stays so."""
    reach = tuple(changes.get(a, old) if old is not None else None for a, old in enumerate(self.reach))
    return Record(tuple(dims), reach)

  def gather(self, dims: Sequence[int], changes: dict[int, Reach | None]) -> dict[int, Reach | None]:
    """The changes once each element reads the whole of these dimensions."""
    for dim in dims:
      for size, axis in self.dims[dim]:
        if isinstance(axis, int) and self.reach[axis] is not None:
          changes[axis] = dataclasses.replace(self.reach[axis].window(size), jump=self.reach[axis].jump)
    return changes

  def slide(self, dim: int, size: int, window: Callable[[Reach], Reach | None], changes: dict) -> Dim:
    """A window moved along one dimension, which then has `size` elements: its factors, and the changes it makes."""
    axes = self.axes(dim)
    # Beside a longer factor, one of size 1 is always at its only element.
    moved = (
      [factor for factor in self.dims[dim] if exceeds_one(factor[0])] if len(self.dims[dim]) > 1 else self.dims[dim]
    )
    if len(moved) == 1 and isinstance(moved[0][1], int):
      axis = moved[0][1]
      changes[axis] = window(self.reach[axis]) if self.reach[axis] is not None else None
      return ((size, axis),)
    changes.update({axis: None for axis in axes})
    return ((size, None),)

  def select(self, axes: Sequence[int]) -> "Record":
    """The record of these image axes only, numbered in this order; a jump is None if no index steps along its axis."""
    number = {axis: i for i, axis in enumerate(axes)}
    dims = [tuple((size, number.get(axis)) for size, axis in dim) for dim in self.dims]
    reach = [self.reach[axis] and dataclasses.replace(self.reach[axis], jump=self._jump(axis)) for axis in axes]
    return Record(tuple(dims), tuple(reach))

  def _jump(self, axis: int) -> int | None:
    """Unknown if the axis shares its dimension with what is no axis, or was read whole and repeated along others."""
    place = self.place(axis)
    if place:
      known = all(held is not None or size == 1 for size, held in self.dims[place[0]])
    else:
      known = (
        sum(exceeds_one(math.prod(n for n, _ in dim)) and not self.axes(d) for d, dim in enumerate(self.dims)) <= 1
      )
    return self.reach[axis].jump if known else None


def exceeds_one(size: int) -> bool:
  """Whether a size is more than 1; a symbolic one is taken for more."""
  return not isinstance(size, int) or size > 1
