"""Which argument is the image, and which of its axes are positions, told from the operations that read it.

A convolution says which axes of its input are spatial, whatever their order, and so does a window over several axes.
If no operation says, an image is [batch, *spatial, channels].
"""

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence

import numpy as np

from nin_jax.cost import primitives, scope
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.program import Program
from nin_jax.cost.reach import Record, exceeds_one


@dataclasses.dataclass(frozen=True)
class Layout:
  """The image's axes: its positions, and its batch, which may have several axes or none.

  `certain` is False if three axes may as well be [height, width, channels] without a batch.
  """

  spatial: tuple[int, ...]
  batch: tuple[int, ...] = ()
  certain: bool = True


def find(program: Program, image: Value, records: Mapping[Value, Record]) -> Layout | None:
  """The layout of an image; None if the operations contradict each other or the default.

  Args:
    program: the traced function.
    image: one of its inputs.
    records: of everything that depends on the image, along all of its axes.
  """
  rank = len(image.shape)
  spatial, batch, channels = set(), set(), set()
  partial = False  # whether a convolution moves along an axis whose origin is lost
  for operation in _forward(program, ("conv_general_dilated",)):
    record, shape = records.get(operation.inputs[0]), operation.inputs[0].shape
    if record and operation.inputs[1] not in records:
      images, features, *positions = operation.params["dimension_numbers"].lhs_spec
      held = [record.axes(d) for d in positions if exceeds_one(shape[d]) or record.axes(d)]
      if any(held) and all(held):
        spatial.update(*held)
      partial |= any(held) and not all(held)
      batch.update(record.axes(images))
      channels.update(record.axes(features))
  if spatial:
    return None if spatial & channels else Layout(tuple(sorted(spatial)), tuple(sorted(batch - spatial)))
  default = set(range(1, rank - 1))
  if partial or default & channels or any(_mixes(o, records, default) for o in _forward(program, ("dot_general",))):
    return None
  pools = _forward(program, (*primitives.WINDOWS, "reduce_sum", "reduce_max"))
  windows = [window for o in pools if (window := _window(o, records.get(o.inputs[0]), rank))]
  several = [window for window in windows if len(window) > 1 or window <= default]
  if windows and not several:
    return None
  spatial = set().union(*several)
  if spatial <= default:
    return Layout(tuple(sorted(default)), (0,), certain=rank > 3 or bool(several))
  return Layout(tuple(sorted(spatial)), (0,) if 0 not in spatial and len(spatial) == rank - 2 else ())


def _window(operation: Operation, record: Record | None, rank: int) -> set[int]:
  """The axes that a window moves along, or that a mean over all but the first two dimensions reads: channels first."""
  if record is None:
    return set()
  params, shape = operation.params, operation.inputs[0].shape
  if operation.primitive in primitives.WINDOWS:
    sizes = zip(params["window_dimensions"], params["window_strides"], strict=True)
    moved = [d for d, (size, stride) in enumerate(sizes) if size > 1 or stride > 1]
  else:
    channels_first = rank > 3 and len(shape) == rank and sorted(params["axes"]) == list(range(2, rank))
    moved = params["axes"] if channels_first else ()
  return {axis for d in moved for axis in record.axes(d)}


def _mixes(operation: Operation, records: Mapping[Value, Record], default: set[int]) -> bool:
  """Whether a product sums over some axes of the default's positions: they may as well be channels that come first."""
  left, right = (records.get(value) for value in operation.inputs)
  record, side = (left, 0) if left else (right, 1)
  if record is None or (left and right):
    return False
  contracted = {axis for d in operation.params["dimension_numbers"][0][side] for axis in record.axes(d)}
  return bool(contracted) and contracted <= default and record.place(max(default) + 1) is not None


def _forward(program: Program, primitive: Sequence[str]) -> list[Operation]:
  return [o for o in program.operations if o.primitive in primitive and o.direction == scope.FORWARD]


@dataclasses.dataclass(frozen=True)
class Argument:
  """An array among the arguments: its argument's position or keyword, and whether it is that itself or a part of it."""

  key: int | str | None
  direct: bool
  value: Value

  @property
  def pictorial(self) -> bool:
    """Whether it may be an image: a mask of booleans is none."""
    return len(self.value.shape) >= 3 and self.value.dtype != bool

  @property
  def indices(self) -> bool:
    """Whether it may be tokens or labels: integers of more bits than a pixel or a quantised weight has."""
    dtype = self.value.dtype
    integers = isinstance(dtype, np.dtype) and np.issubdtype(dtype, np.signedinteger)
    return bool(integers and dtype.itemsize > 1 and self.value.shape)


def image(program: Program, flow: Dataflow, arguments: Sequence[Argument]) -> Value | None:
  """The image among the arguments; None if that cannot be told.

  It is what the first convolution reads (the last array, of several). Without a convolution it is the last array that
  is an argument itself, unless that is combined with another one, or with tokens, as a mask or a weight would be.
  """
  candidates = [argument for argument in arguments if argument.pictorial]
  bit = {argument: flow.bits([argument.value]) for argument in arguments}
  convolutions = _forward(program, ("conv_general_dilated",))
  kernels = functools.reduce(operator.or_, [flow.origins[o.inputs[1]] for o in convolutions], 0)
  for operation in convolutions:
    read = [a for a in candidates if bit[a] & flow.origins[operation.inputs[0]] and (a.direct or not bit[a] & kernels)]
    direct = [a for a in read if a.direct and not bit[a] & kernels] or [a for a in read if a.direct]
    if direct or len(read) == 1:
      return (direct or read)[-1].value
    if read:
      return None
  direct = [a for a in candidates if a.direct and not bit[a] & kernels]
  tokens = sum(bit[a] for a in arguments if a.indices and a not in direct)
  for operation in program.operations:
    origins = functools.reduce(operator.or_, [flow.origins[value] for value in operation.inputs], 0)
    met = [a for a in direct if bit[a] & origins]
    has_positions = any(len(value.shape) >= 3 for value in operation.outputs)  # unlike a loss, which reads labels
    if len(met) > 1 or (met and tokens & origins and has_positions):
      return None
  return direct[-1].value if direct else None
