"""Receptive fields, propagated through a traced program: every value that depends on the image gets its record.

What is not understood is unknown, never guessed; an unknown axis does not make the other one unknown. Statistics over
the batch and all positions count as constants: a batch-normalised network has the same fields in training and after.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from nin_jax.cost import primitives, scope
from nin_jax.cost.program import Operation, Program, Value
from nin_jax.cost.reach import Dim, Reach, Record, canonical, plain

_CONSTANT = object()


def propagate(program: Program, image: Value) -> dict[Value, Record]:
  """The record of every forward value that depends on the image; what is missing does not depend on it.

  Args:
    program: the traced function.
    image: one of its inputs, [batch, *spatial, channels].
  """
  spatial = len(image.shape) - 2
  dims = [((size, d - 1 if 0 < d <= spatial else None),) for d, size in enumerate(image.shape)]
  records = {image: Record(tuple(dims), (Reach(1, 0, 0),) * spatial)}
  for operation in program.operations:
    known = [records.get(value) for value in operation.inputs]
    if operation.direction != scope.FORWARD or not any(known):
      continue
    rule = _RULES.get(operation.primitive, _elementwise if operation.primitive in _ALIGNED else None)
    results = rule(operation, known) if rule else None
    if results is _CONSTANT:
      continue
    for i, value in enumerate(operation.outputs):
      record = results[i] if isinstance(results, list) else results
      records[value] = record or _unknown(value, spatial)
  return records


def _unknown(value: Value, spatial: int) -> Record:
  return Record(plain(value.shape), (None,) * spatial)


def _sole(known: list[Record | None]) -> Record | None:
  """The first operand's record, if it is the only one that depends on the image."""
  return known[0] if not any(known[1:]) else None


def _elementwise(operation: Operation, known: list[Record | None]) -> Record | None:
  """Aligned operands: what any of them reads."""
  shape = operation.outputs[0].shape
  if any(record and len(record.dims) != len(shape) for record in known):
    return None  # a scalar that depends on the image
  first, *rest = [_stretch(record, shape) for record in known if record]
  reach = list(first.reach)
  for other in rest:
    for axis, (a, b) in enumerate(zip(reach, other.reach, strict=True)):
      same = first.holds(axis) == other.holds(axis) and (first.dims == other.dims or not first.holds(axis))
      if a is None or b is None or not same or a.jump != b.jump:
        reach[axis] = None
      else:
        reach[axis] = Reach(a.jump, min(a.lo, b.lo), max(a.hi, b.hi))
  return first.replace(first.dims, dict(enumerate(reach)))


def _stretch(record: Record, shape: Sequence[int]) -> Record:
  """Dimensions of size 1 repeated to those of a shape."""
  sizes = [math.prod(size for size, _ in dim) for dim in record.dims]
  dims = [dim if n == m else ((m, None),) for dim, n, m in zip(record.dims, sizes, shape, strict=True)]
  return record.replace(dims, {})


def _convolution(operation: Operation, known: list[Record | None]) -> Record | None:
  record, params = _sole(known), operation.params
  if record is None or params["batch_group_count"] != 1:
    return None
  spec, kernel = params["dimension_numbers"], operation.inputs[1].shape
  dims: list[Dim] = list(plain(operation.outputs[0].shape))
  changes = record.gather([spec.lhs_spec[1]], {})
  if params["feature_group_count"] != 1:
    changes = dict.fromkeys(changes)
  dims[spec.out_spec[0]] = record.dims[spec.lhs_spec[0]]
  for i, dim in enumerate(spec.lhs_spec[2:]):
    taps, (padding, _) = kernel[spec.rhs_spec[2 + i]], params["padding"][i]
    stride, dilation, spread = params["window_strides"][i], params["rhs_dilation"][i], params["lhs_dilation"][i]
    window = lambda reach, k=taps, t=stride, p=padding, d=dilation, s=spread: (
      reach.window(k, t, p, d) if s == 1 else None
    )
    dims[spec.out_spec[2 + i]] = record.slide(dim, operation.outputs[0].shape[spec.out_spec[2 + i]], window, changes)
  return record.replace(dims, changes)


def _window(operation: Operation, known: list[Record | None]) -> Record | None:
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


def _slice(operation: Operation, known: list[Record | None]) -> Record | None:
  params, shape = operation.params, operation.outputs[0].shape
  return _crop(known[0], shape, params["start_indices"], params["strides"] or (1,) * len(shape))


def _dynamic_slice(operation: Operation, known: list[Record | None]) -> Record | None:
  record, shape, source = _sole(known), operation.outputs[0].shape, operation.inputs[0].shape
  starts = [value.literal for value in operation.inputs[1:]]
  if record is None or any(s is None and n != m for s, n, m in zip(starts, shape, source, strict=True)):
    return None
  starts = [min(max(int(s or 0), 0), m - n) for s, n, m in zip(starts, shape, source, strict=True)]
  return _crop(record, shape, starts, (1,) * len(shape))


def _pad(operation: Operation, known: list[Record | None]) -> Record | None:
  record, config = _sole(known), operation.params["padding_config"]
  if record is None or any(interior for _, _, interior in config):
    return None
  return _crop(record, operation.outputs[0].shape, [-before for before, _, _ in config], (1,) * len(config))


def _concatenate(operation: Operation, known: list[Record | None]) -> Record | None:
  """Along a spatial axis, one part may depend on the image and the rest be padding; two would not be affine."""
  dim = operation.params["dimension"]
  shape, moved, start = operation.outputs[0].shape, [], 0
  for value, record in zip(operation.inputs, known, strict=True):
    starts = [-start if d == dim else 0 for d in range(len(shape))]
    moved += [_crop(record, shape, starts, (1,) * len(shape))] if record else []
    start += value.shape[dim]
  if len(moved) > 1:
    moved[0] = moved[0].replace(moved[0].dims, dict.fromkeys(moved[0].axes(dim)))
  return _elementwise(operation, moved)


def _split(operation: Operation, known: list[Record | None]) -> list[Record]:
  axis, start, parts = operation.params["axis"], 0, []
  for value in operation.outputs:
    starts = [start if d == axis else 0 for d in range(len(value.shape))]
    parts.append(_crop(known[0], value.shape, starts, (1,) * len(value.shape)))
    start += value.shape[axis]
  return parts


def _transpose(operation: Operation, known: list[Record | None]) -> Record | None:
  return known[0].replace([known[0].dims[d] for d in operation.params["permutation"]], {})


def _reverse(operation: Operation, known: list[Record | None]) -> Record | None:
  changes = {axis: None for dim in operation.params["dimensions"] for axis in known[0].axes(dim)}
  return known[0].replace(known[0].dims, changes)


def _broadcast(operation: Operation, known: list[Record | None]) -> Record | None:
  record, shape = _sole(known), operation.outputs[0].shape
  if record is None:
    return None
  dims = list(plain(shape))
  for source, target in enumerate(operation.params["broadcast_dimensions"]):
    if operation.inputs[0].shape[source] == shape[target]:
      dims[target] = record.dims[source]
  return record.replace(dims, {})


def _reshape(operation: Operation, known: list[Record | None]) -> Record | None:
  """Merges factors and takes them apart where they were merged; a spatial axis cut in pieces is lost."""
  record, shape = _sole(known), operation.outputs[0].shape
  if record is None or operation.params.get("dimensions") is not None or 0 in shape:
    return None
  factors = [factor for dim in record.dims for factor in dim][::-1]
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


def _squeeze(operation: Operation, known: list[Record | None]) -> Record | None:
  gone = operation.params["dimensions"]
  return known[0].replace([dim for d, dim in enumerate(known[0].dims) if d not in gone], {})


def _reduce(operation: Operation, known: list[Record | None]) -> Any:
  record, axes = _sole(known), operation.params.get("axes", operation.params.get("dimensions"))
  if record is None or not isinstance(axes, tuple | list):
    return None
  if 0 in axes and not any(record.axes(d) for d in range(len(record.dims)) if d not in axes):
    return _CONSTANT  # a batch statistic
  kept = [dim for d, dim in enumerate(record.dims) if d not in axes]
  return record.replace(kept, record.gather(axes, {}))


def _cumulative(operation: Operation, known: list[Record | None]) -> Record | None:
  return known[0].replace(known[0].dims, dict.fromkeys(known[0].axes(operation.params["axis"])))


def _dot(operation: Operation, known: list[Record | None]) -> Record | None:
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
  return record.replace(dims, record.gather(contracting[side], {}))


_ALIGNED = primitives.ELEMENTWISE | {
  "bitcast_convert_type", "conj", "convert_element_type", "copy", "copy_p", "imag", "name", "pvary", "pcast", "real",
  "reduce_precision", "sharding_constraint", "stop_gradient",
}  # fmt: skip

_RULES: dict[str, Callable[[Operation, list[Record | None]], Any]] = {
  "conv_general_dilated": _convolution,
  "dot_general": _dot,
  "slice": _slice,
  "dynamic_slice": _dynamic_slice,
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
