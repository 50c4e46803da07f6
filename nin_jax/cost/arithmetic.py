"""What one operation costs: multiply-accumulates by the formula, element-wise operations, or elements of unknown work.

The count is of the formula, not of what a compiler makes of it: padding taps are in, and a layer's two gradients cost
exactly what its forward pass does. Element-wise work is one operation per output element; a reduction, one per input
element; a window, one per output element and tap. Moving data costs nothing.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

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
  backward: bool = False,
  batch_axis: int = 0,
) -> Work:
  """The work of one equation.

  Args:
    primitive, params: the equation's.
    inputs, outputs: the shapes of its operands and results.
    backward: whether it is part of a transposed computation; see `convolution_macs`.
    batch_axis: where the forward convolution keeps its batch; matters to a backward convolution only.
  """
  if primitive == "conv_general_dilated":
    return Work(macs=convolution_macs(params, inputs[0], inputs[1], outputs[0], backward, batch_axis))
  if primitive == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    return Work(macs=math.prod(outputs[0]) * math.prod(inputs[0][d] for d in contracted))
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


def convolution_macs(
  params: Mapping[str, Any], lhs: Shape, rhs: Shape, out: Shape, backward: bool = False, batch_axis: int = 0
) -> int:
  """Multiply-accumulates of `conv_general_dilated`, by the formula.

  Forward, y = x * w costs |y| × taps × C_in / groups. A transposed convolution (`lhs_dilation` > 1) costs
  |x| × taps × C_out / groups, since each input element meets each tap once; for SAME padding this is the first formula
  over prod(lhs_dilation).

  Backward, the count is that of the forward convolution, found from the roles of the shapes. Its input gradient reads
  dy as lhs, so that |dy| is |lhs|; its kernel gradient swaps batch and channels, so that dy is the kernel and taps and
  output positions change places in the same product. A kernel gradient is told from an input gradient by where its lhs
  has the batch: not at `batch_axis`. A strided input gradient shows as `lhs_dilation`, that of a transposed convolution
  as `window_strides`.

  Args:
    params: the equation's parameters.
    lhs, rhs, out: the three shapes.
    backward: whether the equation comes from transposing a convolution.
    batch_axis: the batch's axis in the forward convolution's input.
  """
  dims = params["dimension_numbers"]
  groups = params["feature_group_count"] * params["batch_group_count"]
  taps = math.prod(rhs[d] for d in dims.rhs_spec[2:])
  per_output = math.prod(out) * taps * rhs[dims.rhs_spec[1]]
  per_input = math.prod(lhs) * taps * rhs[dims.rhs_spec[0]] // groups
  dilated = any(d > 1 for d in params["lhs_dilation"])
  if not backward:
    return per_input if dilated else per_output
  if dims.lhs_spec[0] != batch_axis:  # the kernel's gradient
    kernel_taps = math.prod(out[d] for d in dims.out_spec[2:])
    return math.prod(lhs) * kernel_taps * rhs[dims.rhs_spec[0]] // groups if dilated else per_output
  return per_output if any(s > 1 for s in params["window_strides"]) else per_input


def _ragged_macs(params: Mapping[str, Any], inputs: Sequence[Shape], out: Shape) -> int:
  """Each row meets its own group's matrix only; where the ragged dimension is contracted, the groups share it out."""
  dims = params["ragged_dot_dimension_numbers"]
  (contracted, _), _ = dims.dot_dimension_numbers
  macs = math.prod(out) * math.prod(inputs[0][d] for d in contracted)
  shared = set(dims.lhs_ragged_dimensions) & set(contracted)
  return macs // math.prod(inputs[2]) if shared else macs


def _elements(shapes: Sequence[Shape]) -> int:
  return sum(math.prod(shape) for shape in shapes)
