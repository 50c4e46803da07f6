"""Arrays of zeros and ones that select: identity matrices made on the spot, as the kernel that cuts out patches."""

from nin_jax.cost.operation import Operation, Value

_REARRANGED = {"convert_element_type", "copy", "expand_dims", "reshape", "rev", "squeeze", "transpose"}


class Selections:
  """Follows a program's operations, and knows which values are identity matrices, repeated and rearranged."""

  def __init__(self) -> None:
    self._index: dict[Value, int] = {}  # values that count up along one dimension
    self._ones: dict[Value, int] = {}

  def ones(self, operation: Operation) -> int | None:
    """Takes in the next operation; for a convolution whose kernel is such an array, how many ones that holds."""
    if operation.primitive == "conv_general_dilated":
      return self._ones.get(operation.inputs[1])
    if len(operation.outputs) == 1:
      self._follow(operation, operation.outputs[0])
    return None

  def _follow(self, operation: Operation, output: Value) -> None:
    name, inputs = operation.primitive, operation.inputs
    first = inputs[0] if inputs else None
    if name == "iota":
      self._index[output] = operation.params["dimension"]
    elif name == "add" and first in self._index and inputs[1].literal is not None and inputs[1].literal == 0:
      self._index[output] = self._index[first]
    elif name == "eq" and {self._index.get(value) for value in inputs} == {0, 1} and len(output.shape) == 2:
      self._ones[output] = min(output.shape)
    elif name in _REARRANGED and first in self._ones:
      self._ones[output] = self._ones[first]
    elif name == "broadcast_in_dim" and first in self._ones and 0 not in first.shape:
      self._ones[output] = self._ones[first] * (output.elements // first.elements)
