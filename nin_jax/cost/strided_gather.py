"""Gathers at evenly spaced indices computed in place: what strided slices are in JAX before 0.8."""

import math

import numpy as np

from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.reach import Dim, Reach, Record, plain

_LARGEST = 1 << 20  # elements of an array of indices that is looked at


def gather(record: Record, operation: Operation) -> Record | None:
  """The record of x[start::stride, …], or None if a gather is something else."""
  params, source, shape = operation.params, operation.inputs[0].shape, operation.outputs[0].shape
  numbers = params["dimension_numbers"]
  taken, kept = list(numbers.collapsed_slice_dims), set(range(len(source))) - {*numbers.collapsed_slice_dims}
  moved = [d for d in range(len(shape)) if d not in numbers.offset_dims]
  sliced = list(params["slice_sizes"]) == [1 if d in taken else size for d, size in enumerate(source)]
  if not sliced or list(numbers.start_index_map) != taken or len(moved) != len(taken) or not taken:
    return None
  indices = integers(operation.inputs[1])
  if indices is None:
    return None
  dims: list[Dim] = list(plain(shape))
  for target, d in zip(numbers.offset_dims, sorted(kept), strict=True):
    dims[target] = record.dims[d]
  changes: dict[int, Reach | None] = {}
  for i, d in enumerate(taken):
    line = np.moveaxis(indices[..., i], i, -1)
    line, others = line.reshape(-1, line.shape[-1])[0], line
    stride = int(line[1] - line[0]) if line.size > 1 else 1
    even = stride > 0 and (np.diff(line) == stride).all() and (others == line).all()
    if not even or line[0] < 0 or line[-1] >= source[d]:
      return None
    window = lambda reach, t=stride, p=-int(line[0]): reach.window(1, t, p)
    dims[moved[i]] = record.slide(d, line.size, window, changes)
  return record.replace(dims, changes)


def integers(value: Value) -> np.ndarray | None:
  """The numbers in an array of indices that a program computes from literals; None if that is not how it is made."""
  if value.literal is not None:
    return np.asarray(value.literal)
  operation = value.producer
  exact = np.issubdtype(value.dtype, np.integer) or value.dtype == bool
  if operation is None or math.prod(value.shape) > _LARGEST or not exact:
    return None
  params, inputs = operation.params, [integers(operand) for operand in operation.inputs]
  if any(operand is None for operand in inputs):
    return None
  match operation.primitive:
    case "iota":
      return np.indices(value.shape)[params["dimension"]]
    case "add":
      return inputs[0] + inputs[1]
    case "mul":
      return inputs[0] * inputs[1]
    case "lt":
      return inputs[0] < inputs[1]
    case "select_n":
      return np.where(inputs[0], inputs[2], inputs[1]) if len(inputs) == 3 else None
    case "convert_element_type":
      return inputs[0]
    case "concatenate":
      return np.concatenate(inputs, params["dimension"])
    case "broadcast_in_dim":
      placed = np.ones(len(value.shape), int)
      placed[list(params["broadcast_dimensions"])] = inputs[0].shape
      return np.broadcast_to(inputs[0].reshape(placed), value.shape)
    case _:
      return None
