"""PyTorch's side of `benchmarks.ops`. Run by its parent: see `worker`."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import operations
from benchmarks.calls import Calls

aten = torch.ops.aten


def make(operation: dict, precision: str, column: str, direction: str) -> Callable[[], object]:
  """A call of one operation, channels last; the arguments are as in `nin_jax_ops.make`.

  Args:
    column: "pytorch", or "matmul" (the plain product of the same sizes, into memory that is there already).
  """
  dtype = getattr(torch, precision)
  if column == "matmul":
    m, k, n = operations.product(operation, direction)
    a, b = _noise((m, k), dtype), _noise((k, n), dtype)
    result = torch.empty(m, n, dtype=dtype, device=a.device)
    return lambda: torch.mm(a, b, out=result)
  x, g = _maps(operation["input"], dtype), _maps(operation["output"], dtype)
  window, strides, pads = operation["kernel"], operation["strides"], operation["pads"]
  padding = [low for low, _ in pads]
  if operation["op"] == operations.POOL:
    pool = (window, strides, padding, [1, 1], any(high > low for low, high in pads))

    def forward() -> Tensor:
      return functional.max_pool2d(x, *pool)

    def both() -> tuple[Tensor, Tensor]:
      y, indices = aten.max_pool2d_with_indices(x, *pool)
      return y, aten.max_pool2d_with_indices_backward(g, x, *pool, indices)

    _check(forward(), operation)
    return forward if direction == "forward" else both
  if any(low != high for low, high in pads):
    raise ValueError("PyTorch pads both sides alike")
  groups = operation["groups"]
  kernel = _noise((operation["features"], x.shape[1] // groups, *window), dtype)
  kernel = kernel.contiguous(memory_format=torch.channels_last)

  def convolve() -> Tensor:
    return functional.conv2d(x, kernel, None, strides, padding, 1, groups)

  def gradient() -> tuple[Tensor, ...]:
    wanted = [direction == "dx", direction == "dw", False]
    return aten.convolution_backward(g, x, kernel, None, strides, padding, [1, 1], False, [0, 0], groups, wanted)

  _check(convolve(), operation)
  return convolve if direction == "forward" else gradient


def _noise(shape: tuple[int, ...] | list[int], dtype: torch.dtype) -> Tensor:
  device = "cuda" if torch.cuda.is_available() else "cpu"
  return torch.randn(*shape, device=device).to(dtype)


def _maps(shape: list[int], dtype: torch.dtype) -> Tensor:
  """[n, c, h, w] with the channels last in memory."""
  return _noise(shape, dtype).permute(0, 3, 1, 2)


def _check(y: Tensor, operation: dict) -> None:
  n, *size, channels = operation["output"]
  assert list(y.shape) == [n, channels, *size], f"{list(y.shape)} for {operation}"


def _wait(_: object) -> None:
  if torch.cuda.is_available():
    torch.cuda.synchronize()


def main() -> None:
  if torch.cuda.is_available():  # as JAX does by default
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
  with torch.inference_mode():
    Calls(make, _wait, in_order=True).serve()


if __name__ == "__main__":
  main()
