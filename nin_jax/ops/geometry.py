"""How a kernel lies on the maps that it slides over."""

from typing import NamedTuple

from nin_jax.ops.padding import Pads, positions


class Geometry(NamedTuple):
  """What of a convolution is neither maps nor kernel.

  Attributes:
    strides: step of the kernel, (height, width).
    pads: rows and columns of zeros, ((top, bottom), (left, right)).
    dilation: distance of the kernel's taps, (height, width).
    groups: number of groups.
  """

  strides: tuple[int, int] = (1, 1)
  pads: Pads = ((0, 0), (0, 0))
  dilation: tuple[int, int] = (1, 1)
  groups: int = 1

  def window(self, kernel: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that a kernel of this height and width spans."""
    height, width = ((k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True))
    return height, width

  def outputs(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the result, from those of the maps and the kernel."""
    return positions(size, self.window(kernel), self.strides, self.pads)

  @property
  def dense(self) -> bool:
    """Whether the kernel visits each position with adjacent taps and sees all channels."""
    return self == Geometry(pads=self.pads)
