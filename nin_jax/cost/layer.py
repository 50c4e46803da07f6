"""The rows of a cost table, and their sums."""

import collections
import dataclasses
import numbers
from collections.abc import Iterable
from typing import Any

Extent = int | list[int] | None

TOTALS = (
  "params",
  "macs",
  "flops",
  "backward_macs",
  "recompute_macs",
  "train_flops",
  "elementwise",
  "backward_elementwise",
  "activations",
  "bytes",
  "other",
)

OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Layer:
  """The work of one layer, over every call of it in one call of the traced function.

  Counts are expressions of symbolic dimensions (`jax.export.symbolic_shape`) if there are some among the shapes.

  Attributes:
    path: the module's path below the root (`block1/conv`); the root's own name for work done in the root itself;
      `other` for work outside any scope, and for primitives of unknown work wherever they stand.
    op: what it does: `conv`, `pointwise` (a 1×1 convolution, as a convolution or as a product at each position),
      `dense`, `product` (a product without parameters), `max_pool`, `avg_pool`, `norm`, `dropout`, `elementwise`,
      `movement` (it moves data and computes nothing), `params` (parameters whose path computed nothing), `module`
      (several layers, see `Cost.by_module`), `other`.
    kernel, strides, dilation: in elements, one per spatial axis; None if there is none or it is not known.
    groups: of the convolution, or products side by side.
    output_shape: of the last value that leaves the layer on the way forward, if there is one, of those that depend on
      the image. So are receptive_field and jump.
    params: trainable elements, counted once however often the layer is called; None if unknown.
    macs: forward multiply-accumulates by the formula, padding taps included. flops: 2 × macs. Every convolution of a
      derivative of any order costs what the forward convolution does.
    backward_macs: of the gradients. recompute_macs: forward work done again by rematerialisation in the backward pass,
      which no measure of useful work may count.
    elementwise, backward_elementwise: other arithmetic, in operations; the latter with recomputation.
    activations: elements of the layer's output; if it has products, of theirs.
    bytes: what crosses the layer's border on the way forward if all inside were fused: each distinct value that comes
      from outside and each that is used outside, in its own type. Of an array that is read by index (an embedding) only
      the elements that are looked up, and of one that is updated by index (a cache) only those that are replaced.
    arithmetic_intensity: flops / bytes, None without bytes or with counts of unknown dimensions.
    receptive_field, jump: in pixels of the image; an int if both axes agree, else [h, w], None if unknown.
    other: output elements of primitives of unknown work, by the primitive's name.
  """

  path: str
  op: str
  kernel: list[int] | None = None
  strides: list[int] | None = None
  groups: int | None = None
  dilation: list[int] | None = None
  output_shape: list[int] | None = None
  params: int | None = 0
  macs: int = 0
  backward_macs: int = 0
  recompute_macs: int = 0
  elementwise: int = 0
  backward_elementwise: int = 0
  activations: int = 0
  bytes: int = 0
  receptive_field: Extent = None
  jump: Extent = None
  other: dict[str, int] = dataclasses.field(default_factory=dict)

  @property
  def flops(self) -> int:
    return 2 * self.macs

  @property
  def train_flops(self) -> int:
    """2 × (macs + backward_macs): what a training step uses, without what it recomputes."""
    return 2 * (self.macs + self.backward_macs)

  @property
  def idle(self) -> bool:
    """Whether there is nothing to count: no parameters, no work, and no data moved."""
    return not (
      self.params
      or self.macs
      or self.backward_macs
      or self.recompute_macs
      or self.elementwise
      or self.backward_elementwise
      or self.bytes
      or self.other
    )

  @property
  def arithmetic_intensity(self) -> float | None:
    return intensity(self.flops, self.bytes)


@dataclasses.dataclass(frozen=True)
class Cost:
  """The layers of a traced function in the order they run; `notes` say where the count had to choose."""

  layers: tuple[Layer, ...]
  root: str = ""
  notes: tuple[str, ...] = ()

  @property
  def total(self) -> dict[str, Any]:
    """Sums over all layers (keys: `TOTALS`). `activations` is RegNet's: over layers with convolutions or products.

    `params` is None if they are unknown in every layer.
    """
    return _sum(self.layers)

  def subtotal(self, prefix: str) -> dict[str, Any]:
    """The sums over the layer `prefix` and all below it (`block1` takes in `block1/conv`, but not `block10`)."""
    return _sum(layer for layer in self.layers if f"{layer.path}/".startswith(f"{prefix.rstrip('/')}/"))

  def by_module(self, depth: int) -> "Cost":
    """The same cost with one row for all layers that share the first `depth` parts of their paths.

    A row of several layers is a `module`: their sums, the largest receptive field among them and the last jump.

    Raises:
      ValueError: depth is less than 1.
    """
    if depth < 1:
      raise ValueError(f"depth={depth}: accepted is 1 or more")
    groups: dict[str, list[Layer]] = {}
    for layer in self.layers:
      groups.setdefault("/".join(layer.path.split("/")[:depth]), []).append(layer)
    return dataclasses.replace(self, layers=tuple(_module(path, layers) for path, layers in groups.items()))

  def __getitem__(self, path: str) -> Layer:
    """The layer at a path; KeyError if there is none."""
    for layer in self.layers:
      if layer.path == path:
        return layer
    raise KeyError(path)


def is_number(count: Any) -> bool:
  """Whether a count is known as a number; if not, it is None or an expression of symbolic dimensions."""
  return isinstance(count, numbers.Real)


def intensity(flops: Any, moved: Any) -> float | None:
  """FLOPs per byte, None if that is not known."""
  return flops / moved if is_number(flops) and is_number(moved) and moved else None


def _module(path: str, layers: list[Layer]) -> Layer:
  if len(layers) == 1:
    return dataclasses.replace(layers[0], path=path)
  fields = {field.name for field in dataclasses.fields(Layer)}
  sums = {key: value for key, value in _sum(layers).items() if key in fields}
  other: collections.Counter[str] = collections.Counter()
  for layer in layers:
    other.update(layer.other)
  reach = [layer.receptive_field for layer in layers]
  field = max(reach) if all(isinstance(extent, int) for extent in reach) else None
  return Layer(path, "module", **{**sums, "other": dict(other)}, receptive_field=field, jump=layers[-1].jump)


def _sum(layers: Iterable[Layer]) -> dict[str, Any]:
  total: dict[str, Any] = dict.fromkeys(TOTALS, 0)
  layers = list(layers)
  for layer in layers:
    for key in TOTALS:
      if key == "other":
        total[key] += sum(layer.other.values())
      elif key != "activations" or layer.macs:
        total[key] += getattr(layer, key) or 0
  if layers and all(layer.params is None for layer in layers):
    total["params"] = None
  return total
