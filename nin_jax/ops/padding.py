"""How far a map is padded before a window slides over it."""

from collections.abc import Sequence

from nin_jax.errors import ImageTooSmall

Padding = str | int | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | Sequence[int]) -> tuple[int, int]:
  """(height, width) from one number or from two."""
  height, width = (value, value) if isinstance(value, int) else value
  return height, width


def explicit_padding(
  padding: Padding,
  size: tuple[int, int],
  window: tuple[int, int],
  strides: tuple[int, int],
  ceil_mode: bool = False,
) -> Pads:
  """Resolves a padding to rows and columns of padding: ((top, bottom), (left, right)).

  Args:
    padding: "VALID" (none), "SAME" (XLA's: the output has ceil(size / stride) positions, an odd row of padding goes to
      the bottom), a number of rows and columns on each side, or ((top, bottom), (left, right)).
    size: height and width of the map.
    window: height and width that the window spans (a kernel k dilated by d spans (k - 1) * d + 1).
    strides: step of the window.
    ceil_mode: round the number of positions up and pad the bottom and the right as far as the last window reaches,
      as Caffe's and cuda-convnet's pools do: ceil((n + top + bottom - k) / s) + 1 positions, less one where the last
      window would begin outside of the map and its top padding (Caffe `pooling_layer.cpp`; PyTorch's rule where k < s).

  Raises:
    ImageTooSmall: no window fits.
    ValueError: a padding that is none of the above.
  """
  if padding == "SAME":
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, window, strides, strict=True)]
    pads = [(total // 2, total - total // 2) for total in totals]
  elif padding == "VALID":
    pads = [(0, 0), (0, 0)]
  elif isinstance(padding, str):
    raise ValueError(f"padding={padding!r}: accepted is VALID, SAME, a number, or ((top, bottom), (left, right))")
  elif isinstance(padding, int):
    pads = [(padding, padding)] * 2
  else:
    pads = [(int(low), int(high)) for low, high in padding]

  for axis, (n, k, s) in enumerate(zip(size, window, strides, strict=True)):
    low, high = pads[axis]
    if n + low + high < k:
      raise ImageTooSmall(f"a window of {k} does not fit into {n} rows or columns with {low} + {high} of padding")
    if ceil_mode:
      positions = -(-(n + low + high - k) // s) + 1
      if (positions - 1) * s >= n + low:
        positions -= 1
      pads[axis] = (low, max(high, (positions - 1) * s + k - n - low))
  return tuple(pads)


def positions(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int], pads: Pads) -> tuple[int, int]:
  """Number of positions of a window, (height, width): floor((n + padding - k) / s) + 1."""
  height, width = (
    (n + low + high - k) // s + 1 for n, k, s, (low, high) in zip(size, window, strides, pads, strict=True)
  )
  return height, width
