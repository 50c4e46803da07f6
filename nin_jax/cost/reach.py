"""Affine access records: which pixels of the image an array's elements read, axis by axis.

For a layer of kernel k, stride t, dilation d and leading padding p, a record changes as in Araujo, Norris and Sim 2019,
"Computing Receptive Fields of Convolutional Neural Networks":

  lo ← lo − jump·p    hi ← hi + jump·((k − 1)·d − p)    jump ← jump·t
"""

import dataclasses
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Reach:
  """Element i reads pixels jump·i + lo … jump·i + hi, both included."""

  jump: int
  lo: int
  hi: int

  @property
  def extent(self) -> int:
    """The receptive field, in pixels."""
    return self.hi - self.lo + 1

  def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Reach":
    """What a sliding window over this reads."""
    lo, hi = self.lo - self.jump * padding, self.hi + self.jump * ((kernel - 1) * dilation - padding)
    return Reach(self.jump * stride, lo, hi)


# A dimension holds factors (size, image axis or None), major first: n·h·w has three until it is taken apart again.
Factor = tuple[int, int | None]
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
  """What a value reads: its dimensions' factors, and the reach along each image axis (None: unknown).

  An axis that no dimension holds any more, after a mean over it, has its reach at i = 0.
  """

  dims: tuple[Dim, ...]
  reach: tuple[Reach | None, ...]

  def axes(self, dim: int) -> list[int]:
    """The image axes that a dimension holds."""
    return [axis for _, axis in self.dims[dim] if axis is not None]

  def holds(self, axis: int) -> bool:
    """Whether a dimension still runs along this image axis."""
    return any(axis == held for dim in self.dims for _, held in dim)

  def replace(self, dims: Sequence[Dim], changes: dict[int, Reach | None]) -> "Record":
    """Other dimensions, and another reach for some axes; what was unknown stays so."""
    reach = tuple(changes.get(a, old) if old is not None else None for a, old in enumerate(self.reach))
    return Record(tuple(dims), reach)

  def gather(self, dims: Sequence[int], changes: dict[int, Reach | None]) -> dict[int, Reach | None]:
    """The changes once each element reads the whole of these dimensions."""
    for dim in dims:
      for size, axis in self.dims[dim]:
        if axis is not None and self.reach[axis] is not None:
          changes[axis] = dataclasses.replace(self.reach[axis].window(size), jump=self.reach[axis].jump)
    return changes

  def slide(self, dim: int, size: int, window: Callable[[Reach], Reach | None], changes: dict) -> Dim:
    """A window moved along one dimension, which then has `size` elements: its factors, and the changes it makes."""
    axes = self.axes(dim)
    if len(self.dims[dim]) == 1 and axes:
      axis = axes[0]
      changes[axis] = window(self.reach[axis]) if self.reach[axis] is not None else None
      return ((size, axis),)
    changes.update({axis: None for axis in axes})
    return ((size, None),)
