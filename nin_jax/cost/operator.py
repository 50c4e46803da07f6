"""The kind of a layer, told from its operations: convolution, product, pool or norm, and the geometry of its window."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from nin_jax.cost import primitives
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.layer import is_number
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.reach import Record

_MEETING = primitives.REDUCTIONS | primitives.WINDOWS | {"slice"}
_POOLS = {
  "reduce_sum": "avg_pool", "reduce_max": "max_pool", "reduce_window_sum": "avg_pool", "reduce_window_max": "max_pool"
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operator:
  """See `Layer` for the meaning; None if there is no such thing, or several that differ."""

  op: str
  kernel: list[int] | None = None
  strides: list[int] | None = None
  groups: int | None = None
  dilation: list[int] | None = None


@dataclasses.dataclass(frozen=True)
class Context:
  """Facts about the values of the whole program: their access records, their origins, and which bits are data."""

  records: Mapping[Value, Record]
  flow: Dataflow
  data: int = 0

  def positions(self, value: Value | None) -> list[int] | None:
    """The dimensions that run along image axes; None if the value is not one of known positions."""
    record = self.records.get(value)
    if record is None or (None in record.reach and len(self.axes(value)) < len(record.reach)):
      return None
    return [d for d in range(len(record.dims)) if record.axes(d)]

  def axes(self, value: Value) -> set[int]:
    """The image axes that a value's dimensions hold."""
    record = self.records.get(value)
    return {axis for d in range(len(record.dims)) for axis in record.axes(d)} if record else set()

  def weighted(self, operation: Operation) -> bool:
    """Whether one operand of a product may be a weight: neither data as the other is, nor a matrix of indices."""
    left, right = operation.inputs[:2]
    if self.flow.computed(left) or self.flow.computed(right):
      return False
    left, right = (self.flow.origins[value] & self.data for value in (left, right))
    if left & right:
      return False
    if left and right and operation.primitive == "dot_general":
      batch = operation.params["dimension_numbers"][1]
      return not (0 in batch[0] and 0 in batch[1])  # each image has its own
    return True


def infer(
  name: str,
  operations: Sequence[Operation],
  output: Value | None,
  before: Sequence[Record],
  after: Record | None,
  parametric: bool,
  context: Context,
) -> Operator:
  """The operator of a layer.

  Args:
    name: the last part of its path; a hint for norms only.
    operations: its forward operations.
    output: the value that leaves it.
    before, after: the access records of what it reads and of its output.
    parametric: whether it has parameters, or nobody knows.
    context: what is known of the program.
  """
  names = {operation.primitive for operation in operations}
  convolutions = [_convolution(o) for o in operations if o.primitive == "conv_general_dilated"]
  if convolutions:
    return _common(convolutions)
  kernel, strides = _window(before, after)
  if names & primitives.PRODUCTS:
    return _product(operations, output, kernel, strides, parametric, context)
  pools = [pool for o in operations for pool in _pools(o, context)]
  if not pools and (_normalizes(operations, context) or "norm" in name.lower() or "lrn" in name.lower()):
    return Operator("norm")
  if "random_bits" in names or "threefry2x32" in names:
    return Operator("dropout")
  looked_up = "gather" in names  # a sum of rows of a table
  pools = pools or [pool for o in operations for pool in _global_pools(o, context, looked_up)]
  if pools:
    return _common(pools) if len({pool.op for pool in pools}) == 1 else Operator("elementwise")
  if kernel and any(k > 1 for k in kernel) and names & {"slice", "split", "dynamic_slice"}:
    return Operator("avg_pool" if "add" in names else "max_pool", kernel, strides)
  return Operator("elementwise")


def _normalizes(operations: Sequence[Operation], context: Context) -> bool:
  """Whether something is scaled by a root of a statistic: of elements that meet here, or of a stored variance."""
  statistics, scales = set(), set()
  for operation in operations:
    read = set(operation.inputs)
    if read & scales:
      if operation.primitive in ("mul", "div"):
        return True
      scales.update(operation.outputs)
    if operation.primitive in ("rsqrt", "sqrt", "pow"):
      origins = context.flow.origins[operation.inputs[0]]
      if read & statistics or (origins and not origins & context.data):
        scales.update(operation.outputs)
    if read & statistics or operation.primitive in _MEETING:
      statistics.update(operation.outputs)
  return False


def _convolution(operation: Operation) -> Operator:
  params, rhs = operation.params, operation.inputs[1].shape
  kernel = [rhs[d] for d in params["dimension_numbers"].rhs_spec[2:]]
  return Operator(
    "pointwise" if all(k == 1 for k in kernel) else "conv",
    kernel,
    list(params["window_strides"]),
    params["feature_group_count"] * params["batch_group_count"],
    list(params["rhs_dilation"]),
  )


def _product(
  operations: Sequence[Operation],
  output: Value | None,
  kernel: list[int] | None,
  strides: list[int] | None,
  parametric: bool,
  context: Context,
) -> Operator:
  """A product on [positions, channels] is a 1×1 convolution; one that leaves no position or a single one, dense.

  With data on both sides, as in attention, or with a matrix computed from indices, as in a resize, it is neither.
  """
  products = [operation for operation in operations if operation.primitive in primitives.PRODUCTS]
  if not parametric or not all(map(context.weighted, products)):
    return Operator("product")
  groups = {_side_by_side(operation) for operation in products}
  count = groups.pop() if len(groups) == 1 else None
  held = context.positions(output)
  if kernel and any(k > 1 for k in kernel):
    whole = not output or not held or len(context.axes(output)) < len(kernel) or math.prod(output.shape[1:-1]) == 1
    return Operator("dense", kernel, None, count) if whole else Operator("conv", kernel, strides, count)
  positions = len(held) if held is not None else _positions(products[-1], output, context)
  if positions < 1:
    return Operator("dense", groups=count)
  moved = any(o.primitive in ("slice", "gather", "dynamic_slice", "split") for o in operations)
  if kernel is None and not moved:
    kernel, strides = [1] * positions, [1] * positions
  return Operator("pointwise", kernel, strides, count, [1] * positions)


def _positions(operation: Operation, output: Value | None, context: Context) -> int:
  """The dimensions of an output of unknown layout without its batch and the features of the product that it is."""
  if output is None:
    return 0
  features = 1
  if operation.primitive == "dot_general" and len(output.shape) == len(operation.outputs[0].shape):
    contracted, groups = operation.params["dimension_numbers"]
    free = [len(operation.inputs[i].shape) - len(contracted[i]) - len(groups[i]) for i in (0, 1)]
    data = [bool(context.flow.origins[value] & context.data) for value in operation.inputs]
    weight = data.index(False) if sum(data) == 1 else free.index(min(free))
    features = max(1, free[weight]) + len(groups[0])
  return len(output.shape) - 1 - features


def _side_by_side(operation: Operation) -> int:
  if operation.primitive != "dot_general":
    return 1
  groups = 1
  for dim in operation.params["dimension_numbers"][1][0]:
    groups *= operation.inputs[0].shape[dim]
  return groups


def _pools(operation: Operation, context: Context) -> list[Operator]:
  """Windows over positions; a window over channels is no pool."""
  if operation.primitive not in ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"):
    return []
  params = operation.params
  window = params["window_dimensions"]
  over = [d for d, size in enumerate(window) if size > 1]
  dims = context.positions(operation.inputs[0])
  if dims is None:
    between = list(range(1, len(window) - 1))
    dims = between if len(over) < 2 or set(over) <= set(between) else over
  if not set(over) & set(dims):
    return []
  op = _POOLS.get(operation.primitive, "elementwise")
  along = lambda values: [values[d] for d in dims]
  dilation = along(params.get("window_dilation") or (1,) * len(window))
  return [Operator(op, along(window), along(params["window_strides"]), dilation=dilation)]


def _global_pools(operation: Operation, context: Context, looked_up: bool) -> list[Operator]:
  """Means and maxima over all positions; without known ones, over the axes between the first and the last."""
  if operation.primitive not in ("reduce_sum", "reduce_max"):
    return []
  shape, axes = operation.inputs[0].shape, sorted(operation.params["axes"])
  dims = context.positions(operation.inputs[0])
  if dims is None and looked_up:
    return []
  if (len(shape) < 3 or axes != list(range(1, len(shape) - 1))) if dims is None else (not dims or axes != dims):
    return []
  return [Operator(_POOLS[operation.primitive], [shape[a] for a in axes])]


def _window(before: Sequence[Record], after: Record | None) -> tuple[list[int] | None, list[int] | None]:
  """Kernel and strides by what the output reads more than the input: (extent − extent) / jump + 1, jump / jump."""
  if after is None or len({record.reach for record in before}) != 1:
    return None, None
  kernel, strides = [], []
  for old, new in zip(before[0].reach, after.reach, strict=True):
    if old is None or new is None or old.jump is None or (new.extent - old.extent) % old.jump:
      return None, None
    if new.jump is not None and new.jump % old.jump:
      return None, None
    kernel.append((new.extent - old.extent) // old.jump + 1)
    strides += [] if new.jump is None else [new.jump // old.jump]
  if not kernel or not all(is_number(size) and size > 0 for size in kernel):
    return None, None
  return kernel, strides if len(strides) == len(kernel) else None


def _common(operators: Sequence[Operator]) -> Operator:
  """The operator with all that they have in common."""
  fields = {}
  for field in ("kernel", "strides", "groups", "dilation"):
    values = [getattr(operator, field) for operator in operators]
    fields[field] = values[0] if all(value == values[0] for value in values) else None
  ops = {operator.op for operator in operators}
  return Operator(ops.pop() if len(ops) == 1 else "conv", **fields)
