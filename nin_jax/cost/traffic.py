"""Bytes that a layer moves across its border, if all that happens inside is fused.

A whole array crosses, or if it is read or written by index, the elements that are looked up or replaced. An update by
index happens in place, unless the array as it was is used again. Moving data is traffic; another shape of the same data
is not.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Sequence

import jax.numpy as jnp
from jax.core import max_dim, min_dim  # the shapes may be symbolic

from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.primitives import COPIES, ELEMENTWISE, MOVEMENT, SCATTERS, SEAMS

# The same data under another shape or name, or data that whoever reads it makes on the spot.
_VIEWS = SEAMS | {
  "after_all", "axis_index", "bitcast_convert_type", "broadcast", "broadcast_in_dim", "create_token", "debug_callback",
  "debug_print", "device_put", "empty", "empty2", "expand_dims", "iota", "layout_constraint", "mesh_cast", "name",
  "optimization_barrier", "pbroadcast", "pcast", "platform_index", "pvary", "pvary_p", "random_fold_in", "random_seed",
  "random_split", "random_unwrap", "random_wrap", "reshape", "sharding_constraint", "squeeze", "stop_gradient", "tie",
}  # fmt: skip
_ALIASES = _VIEWS - {"broadcast", "broadcast_in_dim", "empty", "empty2", "iota"}
_ALIGNED = ELEMENTWISE | COPIES | _VIEWS | {"rev", "transpose"}
_LOOKUPS = {"slice", "dynamic_slice", "gather"}
_UPDATES = SCATTERS | {"dynamic_update_slice", "scatter"}

Parts = dict[Hashable, int]  # elements that are read, by which of them they are
_ALL = "all"


def moves(operation: Operation) -> bool:
  """Whether an operation moves data, and does nothing else."""
  return operation.primitive in MOVEMENT and operation.primitive not in _VIEWS


def repeated(value: Value) -> bool:
  """Whether a value is an array that was made larger by repeating it; one number everywhere is none."""
  operation = value.producer
  while operation and operation.inputs and operation.primitive in _ALIASES:
    value = operation.inputs[operation.outputs.index(value)]
    operation = value.producer
  if not operation or operation.primitive not in ("broadcast", "broadcast_in_dim"):
    return False
  return bool(operation.inputs[0].shape) and operation.inputs[0].elements != value.elements


class Traffic:
  """The values that a layer reads and writes.

  Args:
    operations: its forward operations, in the order of the program.
    written: those of their results that are used outside.
    kept: whether a value is used again after an operation.
  """

  def __init__(
    self, operations: Sequence[Operation], written: Iterable[Value], kept: Callable[[Value, Operation], bool]
  ) -> None:
    self._kept = kept
    self._inside = {value for operation in operations for value in operation.outputs}
    self._read: dict[Value, Parts] = collections.defaultdict(dict)
    self._crossing: dict[Value, list[tuple[Parts, int]]] = collections.defaultdict(list)
    self._where = _places(operations)
    self._written: set[Value] = set()
    self._replaced: set[Operation] = set()  # updates in place that leave the layer
    self.bytes = 0
    written = set(written)
    for operation in operations:
      for value in operation.outputs:
        if value in written:
          self._write(value)
    used = written | {value for operation in operations for value in operation.inputs}
    for operation in reversed(operations):
      if used.isdisjoint(operation.outputs) and operation.primitive not in _VIEWS:  # a residual
        self._read[operation.outputs[0]][_ALL] = operation.outputs[0].elements
      self._pass_on(operation)
    for value, crossings in self._crossing.items():
      self.bytes += value.size(_crossed(value, crossings))

  def _write(self, value: Value, trips: int = 1) -> None:
    """A value leaves the layer, that of the last of so many trips: adds what of it is new in memory."""
    if value not in self._inside or value in self._written:
      return
    self._written.add(value)
    operation = value.producer
    if operation.primitive in _ALIASES and operation.inputs:
      made = operation.inputs[operation.outputs.index(value)]
      if operation.primitive == "loop_carry" and made in self._inside:
        trips *= max_dim(1, made.producer.repeats // operation.repeats)
      self._write(made, trips)
    elif operation.primitive in _UPDATES and not self._kept(operation.inputs[0], operation):
      self._replaced.add(operation)
      self.bytes += value.size(_update(operation).elements) * operation.repeats
      self._write(operation.inputs[0])
    else:
      self._read[value][_ALL] = value.elements
      self.bytes += value.bytes * max_dim(1, operation.repeats // trips)

  def _pass_on(self, operation: Operation) -> None:
    """Passes the parts that are read of an operation's results on to its operands."""
    for i, value in enumerate(operation.inputs):
      parts = self._of_operand(operation, i, value)
      if operation in self._replaced:
        parts = _for_update(operation, i, value) | parts
      if value in self._inside:
        self._read[value] |= parts
      elif parts and value.literal is None:
        self._crossing[value].append((parts, operation.repeats))

  def _of_operand(self, operation: Operation, i: int, value: Value) -> Parts:
    """The parts of operand i from which the parts that are read of the results are made."""
    name, outputs = operation.primitive, operation.outputs
    parts: Parts = {}
    for output in outputs[i : i + 1] if name == "optimization_barrier" else outputs:
      parts |= self._read.get(output, {})
    if operation.effects:
      return {_ALL: value.elements}
    if not parts:
      return {}
    if name in _LOOKUPS and i == 0:
      return {(self._where[operation], part): elements for part, elements in parts.items()}
    if name == "split":
      return {output: _total(output, self._read[output]) for output in outputs if output in self._read}
    if name in _ALIGNED and _ALL not in parts and value.elements == outputs[0].elements:
      return parts
    return {_ALL: value.elements}


def _places(operations: Sequence[Operation]) -> dict[Operation, Hashable]:
  """The places that lookups look at: equal for the same place, even if its index is worked out twice."""
  numbers: dict[Hashable, int] = {}
  of_value: dict[Value, Hashable] = {}
  places: dict[Operation, Hashable] = {}
  for operation in operations:
    index = [repr(v.literal) if v.literal is not None else of_value.get(v, v) for v in operation.inputs]
    if operation.primitive in _LOOKUPS:
      places[operation] = (operation.primitive, str(operation.params), *index[1:])
    if len(operation.outputs) == 1 and any(jnp.issubdtype(operation.outputs[0].dtype, t) for t in (jnp.integer, bool)):
      step = (operation.primitive, str(operation.params), operation.outputs[0].shape, *index)
      of_value[operation.outputs[0]] = numbers.setdefault(step, len(numbers))
  return places


def _for_update(operation: Operation, i: int, value: Value) -> Parts:
  """The parts of operand i that an update in place reads: what it writes and where, and old values that it adds to."""
  if i > 0:
    return {_ALL: value.elements}
  return {operation: _update(operation).elements} if operation.primitive in SCATTERS else {}


def _update(operation: Operation) -> Value:
  return operation.inputs[1 if operation.primitive == "dynamic_update_slice" else 2]


def _total(value: Value, parts: Parts) -> int:
  return value.elements if _ALL in parts else min_dim(value.elements, sum(parts.values()))


def _crossed(value: Value, crossings: Sequence[tuple[Parts, int]]) -> int:
  """Elements of a value that cross the border; the same part twice in one trip crosses once."""
  often: Parts = {}
  for parts, repeats in crossings:
    for part, elements in parts.items():
      often[part] = max_dim(often.get(part, 0), elements * repeats)
  whole = often.pop(_ALL, 0)
  most = value.elements * max(repeats for _, repeats in crossings)
  return max_dim(whole, min_dim(most, sum(often.values())))
