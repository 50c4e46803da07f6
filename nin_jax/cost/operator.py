"""What a layer is, told from its operations: convolution, product, pool or norm, and the geometry of its window."""

import dataclasses
from collections.abc import Sequence

from nin_jax.cost import primitives
from nin_jax.cost.layer import is_number
from nin_jax.cost.program import Operation, Value
from nin_jax.cost.reach import Record


@dataclasses.dataclass(frozen=True)
class Operator:
  """See `Layer` for the meaning; None where there is no such thing, or several that differ."""

  op: str
  kernel: list[int] | None = None
  strides: list[int] | None = None
  groups: int | None = None
  dilation: list[int] | None = None


def infer(
  name: str,
  operations: Sequence[Operation],
  output: Value | None,
  before: Sequence[Record],
  after: Record | None,
  parametric: bool,
) -> Operator:
  """The operator of a layer.

  Args:
    name: the last part of its path; a hint for norms only.
    operations: its forward operations.
    output: the value that leaves it.
    before, after: the access records of what it reads and of its output.
    parametric: whether it has parameters, or nobody knows.
  """
  names = {operation.primitive for operation in operations}
  convolutions = [_convolution(o) for o in operations if o.primitive == "conv_general_dilated"]
  if convolutions:
    return _common(convolutions)
  kernel, strides = _window(before, after)
  if names & primitives.PRODUCTS:
    return _product(operations, output, kernel, strides, parametric)
  pools = [pool for o in operations for pool in _pools(o)]
  if not pools and (names & {"rsqrt", "pow", "sqrt"} or "norm" in name.lower() or "lrn" in name.lower()):
    return Operator("norm")
  if "random_bits" in names or "threefry2x32" in names:
    return Operator("dropout")
  pools = pools or [pool for o in operations for pool in _global_pools(o)]
  if pools:
    return _common(pools) if len({pool.op for pool in pools}) == 1 else Operator("elementwise")
  if kernel and any(k > 1 for k in kernel) and names & {"slice", "split", "dynamic_slice"}:
    return Operator("avg_pool" if "add" in names else "max_pool", kernel, strides)
  return Operator("elementwise")


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
) -> Operator:
  """A product on [positions, channels] is a 1×1 convolution; one that leaves no position or a single one, dense."""
  if not parametric:
    return Operator("product")
  groups = {_side_by_side(operation) for operation in operations if operation.primitive in primitives.PRODUCTS}
  count = groups.pop() if len(groups) == 1 else None
  positions = len(output.shape) - 2 if output else 0
  if positions < 1:
    return Operator("dense", kernel if kernel and any(k > 1 for k in kernel) else None, None, count)
  if kernel and any(k > 1 for k in kernel):
    whole = all(size == 1 for size in output.shape[1:-1])
    return Operator("dense", kernel, None, count) if whole else Operator("conv", kernel, strides, count)
  moved = any(o.primitive in ("slice", "gather", "dynamic_slice", "split") for o in operations)
  if kernel is None and not moved:
    kernel, strides = [1] * positions, [1] * positions
  return Operator("pointwise", kernel, strides, count, [1] * positions)


def _side_by_side(operation: Operation) -> int:
  if operation.primitive != "dot_general":
    return 1
  groups = 1
  for dim in operation.params["dimension_numbers"][1][0]:
    groups *= operation.inputs[0].shape[dim]
  return groups


def _pools(operation: Operation) -> list[Operator]:
  """Windows over the axes between the first and the last; a window over channels is no pool."""
  if operation.primitive not in ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"):
    return []
  params = operation.params
  kernel = list(params["window_dimensions"][1:-1])
  if all(k == 1 for k in kernel):
    return []
  op = "avg_pool" if operation.primitive == "reduce_window_sum" else "max_pool"
  dilation = list((params.get("window_dilation") or (1,) * (len(kernel) + 2))[1:-1])
  return [Operator(op, kernel, list(params["window_strides"][1:-1]), dilation=dilation)]


def _global_pools(operation: Operation) -> list[Operator]:
  """Means and maxima over all the axes between the first and the last."""
  if operation.primitive not in ("reduce_sum", "reduce_max"):
    return []
  shape, axes = operation.inputs[0].shape, sorted(operation.params["axes"])
  if len(shape) < 3 or axes != list(range(1, len(shape) - 1)):
    return []
  return [Operator("avg_pool" if operation.primitive == "reduce_sum" else "max_pool", [shape[a] for a in axes])]


def _window(before: Sequence[Record], after: Record | None) -> tuple[list[int] | None, list[int] | None]:
  """Kernel and strides by what the output reads more than the input: (extent − extent) / jump + 1, jump / jump."""
  if after is None or len({record.reach for record in before}) != 1:
    return None, None
  kernel, strides = [], []
  for old, new in zip(before[0].reach, after.reach, strict=True):
    if old is None or new is None or (new.extent - old.extent) % old.jump or new.jump % old.jump:
      return None, None
    kernel.append((new.extent - old.extent) // old.jump + 1)
    strides.append(new.jump // old.jump)
  return (kernel, strides) if kernel and all(is_number(k) and k > 0 for k in kernel) else (None, None)


def _common(operators: Sequence[Operator]) -> Operator:
  """What they have in common."""
  fields = {}
  for field in ("kernel", "strides", "groups", "dilation"):
    values = [getattr(operator, field) for operator in operators]
    fields[field] = values[0] if all(value == values[0] for value in values) else None
  ops = {operator.op for operator in operators}
  return Operator(ops.pop() if len(ops) == 1 else "conv", **fields)
