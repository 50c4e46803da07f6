"""The distinct convolutions and pools of a network, as its cost table lists them, and shapes of one's own."""

import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from benchmarks.operations import CONV, POINTWISE, POOL
from nin_jax import models
from nin_jax.layers import Conv, MaxPool, Pointwise
from nin_jax.ops.padding import explicit_padding, pair, positions
from nin_jax.train import budget

# 64x32x32x192:5x5/2:160 (batch, height, width, channels; kernel / stride; features), 64x32x32x192:5x5/2:160/32 (in 32
# groups), or 64x32x32x96:max3x3/2
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+):(max)?(\d+)x(\d+)(?:/(\d+))?(?::(\d+)(?:/(\d+))?)?")


def describe(op: str, input_shape: Sequence[int], window, strides, pads, features: int, groups: int = 1) -> dict:
  """{"op", "input" (n h w c), "kernel", "strides", "pads", "features", "groups", "output" (n h w d), "macs"}; JSON.

  Args:
    op: `POINTWISE`, `CONV` or `POOL`.
    input_shape: n h w c, n the batch.
    window, strides: height and width.
    pads: ((top, bottom), (left, right)).
    features: output channels.
    groups: of a convolution.
  """
  batch, *size, channels = input_shape
  window, strides = pair(window), pair(strides)
  output = (batch, *positions(tuple(size), window, strides, pads), features)
  taps = window[0] * window[1] * channels // groups
  return {
    "op": op,
    "input": list(input_shape),
    "kernel": list(window),
    "strides": list(strides),
    "pads": [list(pad) for pad in pads],
    "features": features,
    "groups": groups,
    "output": list(output),
    "macs": 0 if op == POOL else math.prod(output) * taps,
  }


def of_network(config: ConfigDict, image_shape: tuple[int, int, int], batch: int) -> list[dict]:
  """`describe` of each distinct convolution and max-pool of inference, in the order of the cost table.

  Besides, "paths": the layers that it stands for, and "dx": whether training asks for the gradient of its input, which
  it does not where that is the images.

  Args:
    config: see `nin_jax.config`.
    image_shape: (height, width, channels).
    batch: images at once.
  """
  network = models.build(config.model, image_shape, config.precision)
  called: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

  def note(call, args, kwargs, context):
    if isinstance(context.module, Conv | Pointwise | MaxPool) and context.method_name == "__call__":
      called["/".join(context.module.path)] = (context.module, args[0].shape)
    return call(*args, **kwargs)

  variables = models.variable_shapes(network, image_shape, train=False)
  with nn.intercept_methods(note):
    jax.eval_shape(network.apply, variables, jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32))
  distinct: dict[str, dict] = {}
  for row in budget.inference_cost(network, image_shape).layers:
    if row.path not in called:
      continue
    operation = _of_module(*called[row.path])
    assert operation["macs"] == row.macs * batch, f"{row.path}: {operation['macs']} MACs, in the table {row.macs}"
    same = distinct.setdefault(str(operation), operation)
    same.setdefault("paths", []).append(row.path)
    same["dx"] = tuple(operation["input"][1:]) != image_shape
  return list(distinct.values())


def _of_module(module: nn.Module, shape: tuple[int, ...]) -> dict:
  size, strides = shape[1:3], pair(module.strides)
  if isinstance(module, Pointwise):
    return describe(POINTWISE, shape, 1, strides, ((0, 0), (0, 0)), module.features, module.groups)
  if isinstance(module, MaxPool):
    window = pair(module.window)
    pads = explicit_padding(module.padding, size, window, strides, module.ceil_mode)
    return describe(POOL, shape, window, strides, pads, shape[-1])
  kernel = pair(module.kernel)
  assert pair(module.dilation) == (1, 1), "dilated convolutions are not measured"
  pads = explicit_padding(module.padding, size, kernel, strides)
  return describe(CONV, shape, kernel, strides, pads, module.features, module.groups)


def of_shape(text: str) -> dict:
  """`describe` of what the user wrote, as above `_SHAPE`; with "paths" and "dx".

  Convolutions keep the size of the map (over the stride) where their kernel is odd; pools at a stride round up.

  Raises:
    ValueError: it is written otherwise.
  """
  found = _SHAPE.fullmatch(text)
  if not found or bool(found[5]) == bool(found[9]):
    raise ValueError(f"{text!r}: accepted is 64x32x32x192:5x5/2:160, …:160/32 in 32 groups, or 64x32x32x96:max3x3/2")
  batch, height, width, channels, *window = (int(found[group]) for group in (1, 2, 3, 4, 6, 7))
  stride, (low, left) = int(found[8] or 1), ((k - 1) // 2 for k in window)
  pads = ((low, low), (left, left))
  shape = (batch, height, width, channels)
  if found[5]:
    asked = "VALID" if stride > 1 else pads
    pads = explicit_padding(asked, (height, width), tuple(window), (stride, stride), ceil_mode=stride > 1)
    operation = describe(POOL, shape, window, stride, pads, channels)
  else:
    op = POINTWISE if window == [1, 1] else CONV
    features, groups = int(found[9]), int(found[10] or 1)
    if not groups or channels % groups or features % groups:
      raise ValueError(f"{text!r}: accepted is a number of groups that divides {channels} and {features}")
    operation = describe(op, shape, window, stride, pads, features, groups)
  return {**operation, "paths": [text], "dx": True}
