"""What is measured of an operation, see `layers.describe`. Without JAX, which PyTorch's worker is not to load."""

import math

POINTWISE, CONV, POOL = "pointwise", "conv", "max_pool"
DIRECTIONS = ("forward", "dx", "dw", "forward + dx")


def name(operation: dict) -> str:
  """Without the batch: 32×32×192 → 5×5/2 → 160."""
  _, *size = operation["input"]
  stride = f"/{operation['strides'][0]}" if operation["strides"] != [1, 1] else ""
  window = ("max " if operation["op"] == POOL else "") + "×".join(map(str, operation["kernel"])) + stride
  groups = f" in {operation['groups']} groups" if operation["groups"] > 1 else ""
  return f"{'×'.join(map(str, size))} → {window} → {operation['features']}{groups}"


def directions(operation: dict) -> tuple[str, ...]:
  """What is measured of it. A pool's gradient needs what its forward pass found out: both are one measurement."""
  if operation["op"] == POOL:
    return ("forward", "forward + dx")
  return ("forward", *(["dx"] if operation["dx"] else []), "dw")


def product(operation: dict, direction: str) -> tuple[int, int, int]:
  """(m, k, n) of the product [m, k] · [k, n] that a 1×1 convolution, or a gradient of it, is."""
  *places, features = operation["output"]
  count, channels = math.prod(places), operation["input"][-1]
  return {
    "forward": (count, channels, features),
    "dx": (count, features, channels),
    "dw": (channels, count, features),
  }[direction]
