"""The cost table as plain text, for a terminal or a pipe."""

from collections.abc import Callable, Sequence
from typing import Any

from nin_jax.cost.layer import OTHER, Cost, Extent, Layer, intensity, is_number
from nin_jax.cost.roofline import Bound, Device, bound
from nin_jax.printable import printable

WIDTH, PATH = 130, (20, 40)  # of the table; the least and the most for a path
EXPRESSION = 24  # the most for a count of symbolic dimensions; the total stands in full below

Column = tuple[str, Callable[[Layer], str]]


def table(cost: Cost, train: bool = False, roofline: Device | None = None) -> str:
  """One line per layer, a total line, and the total in full digits below; about 130 columns wide at most.

  Args:
    cost: what `analyze` returned.
    train: adds the backward pass; only of use if the analysed function has one.
    roofline: a device: shows the least time that it needs for each layer and what bounds it, in place of element-wise
      work, activations and receptive fields.
  """
  bounds = {layer.path: bound(layer, roofline) for layer in cost.layers} if roofline else {}
  columns = _columns(train, bool(train and cost.total["recompute_macs"]), bounds)
  rows = [[printable(of(layer)) for _, of in columns] for layer in cost.layers]
  rows.append(_total_row(cost, columns, bounds))
  heads = [head for head, _ in columns]
  widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(columns))]
  widths[0] = min(widths[0], PATH[1], max(PATH[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
  for row in rows:
    row[0] = row[0] if len(row[0]) <= widths[0] else "…" + row[0][1 - widths[0] :]
  line = lambda cells: "  ".join(
    cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
  ).rstrip()
  rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
  return "\n".join(
    [line(heads), rule, *map(line, rows[:-1]), rule, line(rows[-1]), "", *_footer(cost, train, roofline)]
  )


def quantity(value: Any, unit: str = "") -> str:
  """A number in engineering units with four digits at most: 14.75M, 857.1K, 96; a dash for nothing.

  A count of symbolic dimensions is shown as it is, 64*b, or its beginning.
  """
  if not value:
    return "–"
  if not is_number(value):
    return _cut(str(value))
  for scale, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
    if abs(value) >= 0.99995 * scale:
      return f"{_digits(value / scale)}{' ' if unit else ''}{letter}{unit}"
  return f"{value:.0f}" if float(value).is_integer() else _digits(value)


def seconds(value: float) -> str:
  """A time in the unit that suits it: 1.23 ms."""
  for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
    if value >= scale:
      return f"{value / scale:.3g} {unit}"
  return f"{value / 1e-9:.3g} ns"


def _cut(expression: str) -> str:
  return expression if len(expression) <= EXPRESSION else f"{expression[: EXPRESSION - 1]}…"


def _digits(value: float) -> str:
  return f"{value:#.4g}".rstrip(".")


def _columns(train: bool, recompute: bool, bounds: dict[str, Bound | None]) -> list[Column]:
  columns: list[Column] = [
    ("layer", lambda layer: layer.path),
    ("op", lambda layer: layer.op),
    ("kernel", _kernel),
    ("output", lambda layer: "×".join(_cut(str(n)) for n in layer.output_shape[1:]) if layer.output_shape else ""),
    ("params", lambda layer: _params(layer.params)),
    ("MACs", lambda layer: quantity(layer.macs)),
  ]
  if train:
    columns.append(("backward", lambda layer: quantity(layer.backward_macs)))
  if recompute:
    columns.append(("recompute", lambda layer: quantity(layer.recompute_macs)))
  if not bounds:
    columns.append(("elem-wise", lambda layer: quantity(layer.elementwise)))
    columns.append(("activ.", lambda layer: quantity(layer.activations)))
  columns.append(("bytes", lambda layer: quantity(layer.bytes)))
  columns.append(("FLOP/B", lambda layer: _intensity(layer.flops, layer.bytes) if layer.flops else "–"))
  if bounds:
    timed = lambda layer, show: show(bounds[layer.path]) if bounds[layer.path] else "–"
    columns.append(("least time", lambda layer: timed(layer, lambda b: seconds(b.seconds))))
    columns.append(("FLOP/s", lambda layer: timed(layer, lambda b: quantity(b.attainable_flops))))
    columns.append(("bound by", lambda layer: timed(layer, lambda b: b.by)))
  else:
    columns.append(("field", lambda layer: _extent(layer.receptive_field)))
    columns.append(("jump", lambda layer: _extent(layer.jump)))
  return columns


def _total_row(cost: Cost, columns: Sequence[Column], bounds: dict[str, Bound | None]) -> list[str]:
  total = cost.total
  least = sum(b.seconds for b in bounds.values() if b)
  cells = {
    "layer": "total",
    "params": _params(total["params"]),
    "MACs": quantity(total["macs"]),
    "backward": quantity(total["backward_macs"]),
    "recompute": quantity(total["recompute_macs"]),
    "elem-wise": quantity(total["elementwise"]),
    "activ.": quantity(total["activations"]),
    "bytes": quantity(total["bytes"]),
    "FLOP/B": _intensity(total["flops"], total["bytes"]),
    "least time": seconds(least) if least else "–",
    "FLOP/s": quantity(total["flops"] / least) if least and is_number(total["flops"]) else "–",
  }
  return [cells.get(head, "") for head, _ in columns]


def _footer(cost: Cost, train: bool, roofline: Device | None) -> list[str]:
  total = cost.total
  parameters = "parameters unknown" if total["params"] is None else f"{_full(total['params'])} parameters"
  lines = [f"{parameters}   {_full(total['macs'])} MACs   {_full(total['flops'])} FLOPs"]
  if train:
    backward = f"{_full(total['backward_macs'])} MACs backward   "
    backward += f"{_full(total['train_flops'])} FLOPs forward and backward"
    lines[0] += f"\n{backward}"
  if total["params"] is None:
    lines.append("parameters (?) are counted if they are given, by their layers' paths: analyze(…, params=…)")
  if not roofline:
    lines.append("activ. in the total: over layers with convolutions or products; in a layer: elements of its output")
  if roofline:
    ridge = roofline.peak_flops / roofline.bandwidth
    peak, bandwidth = quantity(roofline.peak_flops, "FLOP/s"), quantity(roofline.bandwidth, "B/s")
    lines.append(f"{roofline.kind}: {peak}, {bandwidth}; compute-bound from {ridge:.0f} FLOP/B; forward pass")
  for layer in cost.layers:
    if layer.path == OTHER and layer.other:
      names = ", ".join(f"{name} ({quantity(n)} elements)" for name, n in layer.other.items())
      lines.append(f"not counted, for want of a formula: {names}")
  return lines + [f"note: {note}" for note in cost.notes]


def _params(count: int | None) -> str:
  return "?" if count is None else quantity(count)


def _intensity(flops: Any, moved: Any) -> str:
  value = intensity(flops, moved)
  return "–" if value is None else f"{value:.1f}"


def _full(count: Any) -> str:
  return f"{count:,}" if is_number(count) else str(count)


def _kernel(layer: Layer) -> str:
  """5×5/2 for stride 2; d2 and g4 for dilation and groups."""
  if not layer.kernel:
    return ""
  text = "×".join(map(str, layer.kernel))
  for sign, values in (("/", layer.strides), ("d", layer.dilation)):
    if values and any(v != 1 for v in values):
      text += sign + ("×".join(map(str, values)) if len(set(values)) > 1 else str(values[0]))
  return text + (f"g{layer.groups}" if layer.groups and layer.groups > 1 else "")


def _extent(extent: Extent) -> str:
  return "" if extent is None else "×".join(_cut(str(n)) for n in (extent if isinstance(extent, list) else [extent]))
