"""Rules of access records, by primitive: which elements of its operands an element of its result reads.

A rule returns the record of the results (a list if they differ), None if it is unknown, or `CONSTANT` if the results
count as not depending on the image.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from nin_jax.cost import primitives, strided_gather
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.layout import Layout
from nin_jax.cost.operation import Operation
from nin_jax.cost.reach import SAMPLE, Dim, Reach, Record, canonical, plain

CONSTANT = object()


@dataclasses.dataclass(frozen=True)
class RuleContext:
  """Facts about the program that the rules need beside the records."""

  flow: Dataflow
  layout: Layout


Rule = Callable[[RuleContext, Operation, list[Record | None]], Any]


def of(primitive: str) -> Rule | None:
  """The rule of a primitive; None if what it reads is not known."""
  return _RULES.get(primitive, _elementwise if primitive in _ALIGNED else None)


def _sole(known: list[Record | None]) -> Record | None:
  """The first operand's record, if it is the only one that depends on the image."""
  return known[0] if not any(known[1:]) else None


def _elementwise(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  """Aligned operands: what any of them reads."""
  shape = operation.outputs[0].shape
  if any(record and len(record.dims) != len(shape) for record in known):
    return None  # a scalar that depends on the image
  records = [_stretch(record, shape) for record in known if record]
  union = _union(records)
  if operation.primitive == "select_n" and not known[0]:  # the positions choose, not the image
    reaches = zip(*(record.reach for record in records), strict=True)
    return union.replace(union.dims, {axis: None for axis, values in enumerate(reaches) if len(set(values)) > 1})
  return union


def _union(records: Sequence[Record]) -> Record:
  """The record of all that aligned elements read."""
  first, *rest = records
  reach, dims = list(first.reach), list(first.dims)
  for other in rest:
    for axis, (a, b) in enumerate(zip(reach, other.reach, strict=True)):
      if a is None or b is None or first.place(axis) != other.place(axis) or a.jump != b.jump:
        reach[axis] = None
      else:
        reach[axis] = Reach(a.jump, min(a.lo, b.lo), max(a.hi, b.hi))
    dims = [other.dims[d] if not first.axes(d) else dim for d, dim in enumerate(dims)]
  return Record(tuple(dims), tuple(reach))


def _stretch(record: Record, shape: Sequence[int]) -> Record:
  """Dimensions of size 1 repeated to those of a shape."""
  sizes = [math.prod(size for size, _ in dim) for dim in record.dims]
  dims = [dim if n == m else ((m, None),) for dim, n, m in zip(record.dims, sizes, shape, strict=True)]
  return record.replace(dims, {})


def _convolution(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, params = _sole(known), operation.params
  if record is None or params["batch_group_count"] != 1:
    return None
  spec, rhs, shape = params["dimension_numbers"], operation.inputs[1], operation.outputs[0].shape
  dims: list[Dim] = list(plain(shape))
  changes = record.gather([spec.lhs_spec[1]], {})
  if params["feature_group_count"] != 1 or rhs not in context.flow.full:
    changes = dict.fromkeys(changes)
  dims[spec.out_spec[0]] = record.dims[spec.lhs_spec[0]]
  for i, d in enumerate(spec.lhs_spec[2:]):
    taps, (before, after), out = rhs.shape[spec.rhs_spec[2 + i]], params["padding"][i], spec.out_spec[2 + i]
    stride, dilation, spread = params["window_strides"][i], params["rhs_dilation"][i], params["lhs_dilation"][i]
    if (taps, stride, before, after, spread) == (1, 1, 0, 0, 1):
      dims[out] = record.dims[d]
      continue
    known_extent = spread == 1 and (taps == 1 or context.flow.reaches_ends(rhs, spec.rhs_spec[2 + i]))
    window = lambda reach, k=taps, t=stride, p=before, e=dilation, known=known_extent: (
      reach.window(k, t, p, e) if known else None
    )
    dims[out] = record.slide(d, shape[out], window, changes)
  return record.replace(dims, changes)


def _window(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, params = _sole(known), operation.params
  if record is None:
    return None
  rank = len(record.dims)
  ones = (1,) * rank
  spread, dilation = params.get("base_dilation") or ones, params.get("window_dilation") or ones
  dims, changes = list(record.dims), {}
  for d in range(rank):
    taps, stride, (before, after) = params["window_dimensions"][d], params["window_strides"][d], params["padding"][d]
    if (taps, stride, before, after, spread[d]) == (1, 1, 0, 0, 1):
      continue
    window = lambda reach, k=taps, t=stride, p=before, e=dilation[d], s=spread[d]: (
      reach.window(k, t, p, e) if s == 1 else None
    )
    dims[d] = record.slide(d, operation.outputs[0].shape[d], window, changes)
  return record.replace(dims, changes)


def _crop(record: Record, shape: Sequence[int], starts: Sequence[int], strides: Sequence[int]) -> Record:
  """Elements start, start + stride, … of each dimension; a negative start is padding before."""
  dims, changes = list(record.dims), {}
  for d, (size, start, stride) in enumerate(zip(shape, starts, strides, strict=True)):
    if (start, stride) != (0, 1) or size != math.prod(n for n, _ in dims[d]):
      dims[d] = record.slide(d, size, lambda reach, p=-start, t=stride: reach.window(1, t, p), changes)
  return record.replace(dims, changes)


def _slice(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, params, shape = known[0], operation.params, operation.outputs[0].shape
  cropped = _crop(record, shape, params["start_indices"], params["strides"] or (1,) * len(shape))
  batch = context.layout.batch
  sampled = lambda d: batch and {*batch, *context.layout.spatial} <= set(record.axes(d)) and not cropped.axes(d)
  return cropped.replace([((n, SAMPLE),) if sampled(d) else cropped.dims[d] for d, n in enumerate(shape)], {})


def _dynamic_slice(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, shape, source = _sole(known), operation.outputs[0].shape, operation.inputs[0].shape
  if record is None:
    return None
  literals = [value.literal for value in operation.inputs[1:]]
  starts = [min(max(int(s or 0), 0), m - n) for s, n, m in zip(literals, shape, source, strict=True)]
  cropped = _crop(record, shape, starts, (1,) * len(shape))
  anywhere = [d for d, s in enumerate(literals) if s is None and shape[d] != source[d]]
  return cropped.replace(cropped.dims, {axis: None for d in anywhere for axis in record.axes(d)})


def _pad(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, config = _sole(known), operation.params["padding_config"]
  if record is None or any(interior for _, _, interior in config):
    return None
  return _crop(record, operation.outputs[0].shape, [-before for before, _, _ in config], (1,) * len(config))


def _concatenate(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  """The record of all that the parts read, if they lie side by side as channels do.

  Along an axis of the image, one part may depend on the image and the rest be padding; two would not be affine. Along
  a dimension that may be one of positions, the parts must read the same.
  """
  dim = operation.params["dimension"]
  shape, moved, start = operation.outputs[0].shape, [], 0
  for value, record in zip(operation.inputs, known, strict=True):
    starts = [-start if d == dim else 0 for d in range(len(shape))]
    moved += [_crop(record, shape, starts, (1,) * len(shape))] if record else []
    start += value.shape[dim]
  if len(moved) == 1:
    return moved[0]
  union = _union(moved)
  along = {axis for record in known if record for axis in record.axes(dim)}
  changes: dict[int, Reach | None] = dict.fromkeys(along)
  for axis in range(len(union.reach)):
    differ = len({record.reach[axis] for record in moved}) > 1
    if differ and (along or (union.place(axis) is None and dim != len(shape) - 1)):
      changes[axis] = None
  return union.replace(union.dims, changes)


def _split(context: RuleContext, operation: Operation, known: list[Record | None]) -> list[Record]:
  axis, start, parts = operation.params["axis"], 0, []
  for value in operation.outputs:
    starts = [start if d == axis else 0 for d in range(len(value.shape))]
    parts.append(_crop(known[0], value.shape, starts, (1,) * len(value.shape)))
    start += value.shape[axis]
  return parts


def _transpose(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  return known[0].replace([known[0].dims[d] for d in operation.params["permutation"]], {})


def _reverse(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  changes = {axis: None for dim in operation.params["dimensions"] for axis in known[0].axes(dim)}
  return known[0].replace(known[0].dims, changes)


def _broadcast(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  record, shape = _sole(known), operation.outputs[0].shape
  if record is None:
    return None
  dims = list(plain(shape))
  for source, target in enumerate(operation.params["broadcast_dimensions"]):
    if operation.inputs[0].shape[source] == shape[target]:
      dims[target] = record.dims[source]
  return record.replace(dims, {})


def _reshape(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  """Merges factors and takes them apart where they were merged; a spatial axis cut in pieces is lost."""
  record, shape = _sole(known), operation.outputs[0].shape
  if record is None or operation.params.get("dimensions") is not None or 0 in shape:
    return None
  factors = [factor for dim in record.dims for factor in dim][::-1]
  if not all(isinstance(size, int) for size in (*shape, *(size for size, _ in factors))):
    return None  # symbolic
  dims, changes = [], {}
  for i, size in enumerate(shape):
    dim, left = [], size
    while left > 1 or (factors and factors[-1][0] == 1 and ((size == 1 and not dim) or shape[i + 1 : i + 2] != (1,))):
      n, axis = factors.pop()
      piece = n if left % n == 0 else math.gcd(left, n)
      if piece == 1 < n:
        return None
      if piece < n:
        factors.append((n // piece, None))
        changes |= {} if axis is None else {axis: None}
        axis = None
      dim.append((piece, axis))
      left //= piece
    dims.append(canonical(dim))
  return record.replace(dims, changes)


def _squeeze(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  gone = operation.params["dimensions"]
  return known[0].replace([dim for d, dim in enumerate(known[0].dims) if d not in gone], {})


def _reduce(context: RuleContext, operation: Operation, known: list[Record | None]) -> Any:
  record, axes = _sole(known), operation.params.get("axes", operation.params.get("dimensions"))
  if record is None or not isinstance(axes, tuple | list):
    return None
  kept = [d for d in range(len(record.dims)) if d not in axes]
  if any(axis is SAMPLE for d in axes for _, axis in record.dims[d]):
    return CONSTANT if context.layout.certain else None
  if any(set(record.axes(d)) & set(context.layout.batch) for d in axes) and not any(record.axes(d) for d in kept):
    return CONSTANT if _is_batch_statistic(context, record, axes) else None
  return record.replace([record.dims[d] for d in kept], record.gather(axes, {}))


def _is_batch_statistic(context: RuleContext, record: Record, axes: Sequence[int]) -> bool:
  """Whether a mean over the batch and all positions is known to be one.

  After x.reshape(h, w, c) of a single image, a mean over its first dimension may be meant for positions only.
  """
  for d in axes:
    held = set(record.axes(d))
    single = any(size == 1 and axis in context.layout.batch for size, axis in record.dims[d])
    if single and len(held) > 1 and not held >= set(context.layout.spatial):
      return False
  return context.layout.certain


def _cumulative(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  return known[0].replace(known[0].dims, dict.fromkeys(known[0].axes(operation.params["axis"])))


def _dot(context: RuleContext, operation: Operation, known: list[Record | None]) -> Record | None:
  """The whole of what is contracted, if the other operand has no zeros by construction, as a resize's matrix has."""
  if known[0] and known[1]:
    return None
  side = 0 if known[0] else 1
  record = known[side]
  contracting, batch = operation.params["dimension_numbers"]
  dims: list[Dim] = [record.dims[d] for d in batch[side]]
  for i in (0, 1):
    for d, size in enumerate(operation.inputs[i].shape):
      if d not in contracting[i] and d not in batch[i]:
        dims.append(record.dims[d] if i == side else ((size, None),))
  changes = record.gather(contracting[side], {})
  return record.replace(dims, changes if operation.inputs[1 - side] in context.flow.full else dict.fromkeys(changes))


_ALIGNED = primitives.ELEMENTWISE | primitives.COPIES | {
  "bitcast_convert_type", "name", "pcast", "pvary", "sharding_constraint", "stop_gradient"
}  # fmt: skip

_RULES: dict[str, Rule] = {
  "conv_general_dilated": _convolution,
  "dot_general": _dot,
  "slice": _slice,
  "dynamic_slice": _dynamic_slice,
  "gather": lambda _, operation, known: strided_gather.gather(known[0], operation) if _sole(known) else None,
  "pad": _pad,
  "concatenate": _concatenate,
  "split": _split,
  "transpose": _transpose,
  "rev": _reverse,
  "broadcast_in_dim": _broadcast,
  "reshape": _reshape,
  "squeeze": _squeeze,
  **dict.fromkeys(("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
  **{name: _reduce for name in primitives.REDUCTIONS if name.startswith(("reduce", "arg"))},
  **{name: _cumulative for name in primitives.REDUCTIONS if name.startswith("cum")},
}
