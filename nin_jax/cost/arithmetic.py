"""The cost of one operation: multiply-accumulates by the formula, element-wise operations, or elements of unknown work.

The count is of the formula, not of what a compiler makes of it: padding taps are in, and a layer's two gradients cost
exactly what its forward pass does. Element-wise work is one operation per output element; a reduction, one per input
element; a window, one per output element and tap. Moving data costs nothing.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nin_jax.cost import convolution
from nin_jax.cost.primitives import ELEMENTWISE, MOVEMENT, REDUCTIONS, SCATTERED_WINDOWS, SCATTERS, SEAMS, WINDOWS

Shape = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Work:
  """`macs` multiply-accumulates, `elementwise` operations, and `other`: output elements of work nobody here knows."""

  macs: int = 0
  elementwise: int = 0
  other: int = 0


def work(
  primitive: str,
  params: Mapping[str, Any],
  inputs: Sequence[Shape],
  outputs: Sequence[Shape],
  forms: convolution.Forms,
  backward: bool = False,
  ones: int | None = None,
) -> Work:
  """The work of one equation.

  Args:
    primitive, params: the equation's.
    inputs, outputs: the shapes of its operands and results.
    forms, backward: see `convolution.macs`.
    ones: how many ones the kernel of a convolution holds, if all else in it is zero: then it moves data.
  """
  if primitive == "conv_general_dilated":
    if ones is not None:
      return _selection(ones // inputs[1][params["dimension_numbers"].rhs_spec[0]], outputs)
    return Work(macs=convolution.macs(params, *inputs, outputs[0], forms, backward))
  if primitive == "dot_general":
    return _product(params, inputs, outputs)
  if primitive in ("ragged_dot_general", "ragged_dot"):
    return Work(macs=_ragged_macs(params, inputs, outputs[0]))
  if primitive in MOVEMENT or primitive in SEAMS:
    return Work()
  if primitive in ELEMENTWISE:
    return Work(elementwise=_elements(outputs))
  if primitive in REDUCTIONS:
    # The generic `reduce` takes one start value per operand.
    return Work(elementwise=_elements(inputs[: len(inputs) // 2] if primitive == "reduce" else inputs))
  if primitive in WINDOWS:
    return Work(elementwise=_elements(outputs) * math.prod(params["window_dimensions"]))
  if primitive in SCATTERED_WINDOWS:
    return Work(elementwise=math.prod(inputs[0]) * math.prod(params["window_dimensions"]))
  if primitive in SCATTERS:
    return Work(elementwise=math.prod(inputs[2]))
  return Work(other=_elements(outputs))


def _selection(terms: int, outputs: Sequence[Shape]) -> Work:
  """Each output is the sum of so many inputs: a copy of one, as in patches, or a reduction, as in their gradient."""
  return Work(elementwise=_elements(outputs) * terms if terms > 1 else 0)


def _product(params: Mapping[str, Any], inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Work:
  """Products without a contraction: a scale, x · s, is element-wise work.

  An outer product is not: it is the gradient of a matrix that multiplies one vector, and costs what that product does.
  """
  contracted, batch = params["dimension_numbers"]
  free = [len(shape) - len(c) - len(b) for shape, c, b in zip(inputs, contracted, batch, strict=True)]
  if not contracted[0] and 0 in free:
    return Work(elementwise=_elements(outputs))
  return Work(macs=math.prod(outputs[0]) * math.prod(inputs[0][d] for d in contracted[0]))


def _ragged_macs(params: Mapping[str, Any], inputs: Sequence[Shape], out: Shape) -> int:
  """Each row meets its own group's matrix only; if the ragged dimension is contracted, the groups share it out."""
  dims = params["ragged_dot_dimension_numbers"]
  (contracted, _), _ = dims.dot_dimension_numbers
  macs = math.prod(out) * math.prod(inputs[0][d] for d in contracted)
  shared = set(dims.lhs_ragged_dimensions) & set(contracted)
  return macs // math.prod(inputs[2]) if shared else macs


def _elements(shapes: Sequence[Shape]) -> int:
  return sum(math.prod(shape) for shape in shapes)
