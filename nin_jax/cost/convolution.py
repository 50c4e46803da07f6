"""Pairs of positions that a convolution multiplies.

A convolution is one form of a trilinear product of three arrays: its input x, its kernel w and its output y. Each
gradient, and each gradient of a gradient, is another form of it: the arrays change places, and the count stays. Along
one axis, position l of the left operand meets tap r of the right one in output o if

  lhs_dilation · l + padding = rhs_dilation · r + stride · o

Changing places and reversing an axis keep the three pairs (coefficient, size) and, up to its sign, the offset of the
three arrays' centres from each other. The forms of one product are known by that.
"""

import collections
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

Shape = Sequence[int]
Forms = dict[Hashable, int]


class Axis(NamedTuple):
  """One spatial axis: the sizes of the three arrays, their coefficients, and the padding at both ends."""

  lhs: int
  rhs: int
  out: int
  lhs_dilation: int
  rhs_dilation: int
  stride: int
  padding: tuple[int, int]

  @property
  def pairs(self) -> int:
    """By the formula: for each output and tap, padding included; in a transposed one, for each input and tap.

    One is transposed if its input alone is dilated, or if it is padded by its whole kernel at both ends. If it is
    dilated and strided, an output meets only the taps that fall on the input's grid.
    """
    if self.full or (self.lhs_dilation != 1 and self.stride == 1):
      return self.lhs * self.rhs
    if self.lhs_dilation == 1:
      return self.out * self.rhs
    step = self.lhs_dilation
    every = lambda size, first: (size - first + step - 1) // step  # of the positions first, first + step, …
    return sum(
      every(self.out, o) * every(self.rhs, r)
      for o in range(step)
      for r in range(step)
      if (self.stride * o + self.rhs_dilation * r - self.padding[0]) % step == 0
    )

  @property
  def full(self) -> bool:
    """Whether it is padded by its whole kernel at both ends, and thus the transpose of one without padding."""
    whole = self.rhs_dilation * (self.rhs - 1)
    return self.lhs_dilation == self.stride == 1 and self.rhs != 1 and tuple(self.padding) == (whole, whole)

  @property
  def offset(self) -> frozenset[int]:
    """Twice the distance between the centres, with both signs."""
    right = self.rhs_dilation * (self.rhs - 1) + self.stride * (self.out - 1)
    distance = right - self.lhs_dilation * (self.lhs - 1) - 2 * self.padding[0]
    return frozenset((distance, -distance))


def macs(params: Mapping[str, Any], lhs: Shape, rhs: Shape, out: Shape, forms: Forms, backward: bool = False) -> int:
  """Multiply-accumulates of `conv_general_dilated`: y = x * w costs |y| × taps × C_in / groups.

  All forms of one product cost what the first of them in the program does, which is the forward convolution.

  Args:
    params: the equation's parameters.
    lhs, rhs, out: the three shapes.
    forms: the pairs of positions of each product met before; this one is added.
    backward: whether the equation is part of a gradient. Mapped over examples or tangents, its arrays may have another
      number of channels than in the forward convolution; then it is known by its axes.
  """
  dims, axes = params["dimension_numbers"], _axes(params, lhs, rhs, out)
  channels = [shape[spec[0]] * shape[spec[1]] for shape, spec in zip((lhs, rhs, out), dims, strict=True)]
  alike = _form(axes, (0, 0, 0))
  same = (_form(axes, channels), *([alike] if backward else []))
  pairs = next((forms[form] for form in same if form in forms), math.prod(axis.pairs for axis in axes))
  for form in (same[0], alike):
    forms.setdefault(form, pairs)
  return pairs * out[dims.out_spec[0]] * out[dims.out_spec[1]] * rhs[dims.rhs_spec[1]]


def full(params: Mapping[str, Any], lhs: Shape, rhs: Shape, out: Shape) -> bool:
  """Whether an equation is padded by its whole kernel along some axis: a transposed convolution, or one like it."""
  return any(axis.full for axis in _axes(params, lhs, rhs, out))


def _axes(params: Mapping[str, Any], lhs: Shape, rhs: Shape, out: Shape) -> list[Axis]:
  dims = params["dimension_numbers"]
  geometry = zip(*(params[key] for key in ("lhs_dilation", "rhs_dilation", "window_strides", "padding")), strict=True)
  return [
    Axis(lhs[dims.lhs_spec[i]], rhs[dims.rhs_spec[i]], out[dims.out_spec[i]], *along)
    for i, along in enumerate(geometry, 2)
  ]


def _form(axes: Sequence[Axis], channels: Sequence[int]) -> Hashable:
  """The product that an equation is a form of: what changing places and reversing axes leave as it is."""
  arrays = (
    (channels[0], tuple((axis.lhs_dilation, axis.lhs) for axis in axes)),
    (channels[1], tuple((axis.rhs_dilation, axis.rhs) for axis in axes)),
    (channels[2], tuple((axis.stride, axis.out) for axis in axes)),
  )
  return frozenset(collections.Counter(arrays).items()), tuple(axis.offset for axis in axes)
