"""Origins of the values of a traced program: which arguments they depend on, and which are full of numbers."""

from collections.abc import Sequence

import jax
import numpy as np

from nin_jax.cost import primitives
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.program import Program

_MOVED = {
  "bitcast_convert_type", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "dynamic_slice",
  "expand_dims", "gather", "name", "optimization_barrier", "reduce_precision", "reshape", "rev", "slice", "split",
  "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
_CHOOSING = {"and", "eq", "eq_to", "ge", "gt", "is_finite", "le", "le_to", "lt", "lt_to", "ne", "not", "select_n"}
_FILLING = (
  (primitives.ELEMENTWISE - _CHOOSING)
  | _MOVED
  | primitives.SEAMS
  | primitives.PRODUCTS
  | {name for name in primitives.REDUCTIONS if name.startswith("reduce_")}
)


class Dataflow:
  """Facts that follow from a program's arguments and constants.

  Attributes:
    origins: for each value, a bit set of the inputs that it depends on; the last bit is for all arrays that the
      function closes over.
    full: the values with no zeros by construction: arguments, constants without zeros, random numbers, and what
      arithmetic makes of them. A mask, or a matrix computed from indices, is not among them.
  """

  def __init__(self, program: Program) -> None:
    self.inputs = program.inputs
    self.origins: dict[Value, int] = {value: 1 << i for i, value in enumerate(program.inputs)}
    self.full = set(program.inputs)
    closed = 1 << len(program.inputs)
    for operation in program.operations:
      origins = 0
      for value in operation.inputs:
        if value not in self.origins:
          self.origins[value] = 0 if value.literal is not None else closed
          if value.literal is not None or _dense(value):
            self.full.add(value)
        origins |= self.origins[value]
      self.origins |= dict.fromkeys(operation.outputs, origins)
      if self._fills(operation):
        self.full.update(operation.outputs)

  def _fills(self, operation: Operation) -> bool:
    if operation.primitive == "random_bits":
      return True
    if operation.primitive == "select_n" and not operation.inputs[0].shape:  # one of several whole arrays
      return all(value in self.full for value in operation.inputs[1:])
    read = operation.inputs[:1] if operation.primitive in ("gather", "dynamic_slice") else operation.inputs
    return bool(read) and operation.primitive in _FILLING and all(value in self.full for value in read)

  def bits(self, values: Sequence[Value]) -> int:
    """The bit set of these inputs."""
    return sum(1 << i for i, value in enumerate(self.inputs) if value in values)

  def computed(self, value: Value) -> bool:
    """Whether a value comes from no array at all but from indices and literals, and is no uniform array either."""
    return not self.origins[value] and value not in self.full

  def reaches_ends(self, kernel: Value, dim: int) -> bool:
    """Whether the first and the last slice of a kernel along a dimension have numbers other than zero."""
    if kernel in self.full:
      return True
    array = _array(kernel)
    return array is not None and all(np.any(np.take(array, end, dim)) for end in (0, -1))


def _array(value: Value) -> np.ndarray | None:
  constant = value.constant
  if isinstance(constant, jax.core.Tracer) or not hasattr(constant, "__array__"):
    return None
  return np.asarray(constant) if jax.numpy.issubdtype(constant.dtype, jax.numpy.number) else None


def _dense(value: Value) -> bool:
  """Zeros everywhere are an initial value; zeros somewhere may be there by construction."""
  array = _array(value)
  return array is None or np.count_nonzero(array) in (0, array.size)
