"""A cost as JSON and as CSV, for programs."""

import csv
import io
import json
import numbers
from collections.abc import Sequence
from typing import Any

from jax import export

from nin_jax.cost.layer import Cost, Layer
from nin_jax.cost.roofline import Device, bound

FIELDS = (
  "path",
  "op",
  "kernel",
  "strides",
  "groups",
  "dilation",
  "output_shape",
  "params",
  "macs",
  "flops",
  "backward_macs",
  "recompute_macs",
  "elementwise",
  "backward_elementwise",
  "activations",
  "bytes",
  "arithmetic_intensity",
  "receptive_field",
  "jump",
  "other",
)
BOUNDS = ("bound_seconds", "attainable_flops", "bound_by")


def to_json(
  cost: Cost,
  model: str | None = None,
  input_shape: Sequence[int] | None = None,
  roofline: Device | None = None,
  **more: Any,
) -> str:
  """One JSON object: `model`, `input_shape`, `unit`, all of `more`, `root`, `total`, `layers` (a line each), `notes`.

  `unit` is "MACs": `macs` are multiply-accumulates for what was analysed, and `flops` twice that. A layer has the keys
  `FIELDS`, null if a thing is unknown or does not apply; counts of symbolic dimensions are strings. With a device
  there is `roofline` (`device`, `peak_flops` in FLOP/s, `bandwidth` in bytes/s), and each layer has `BOUNDS`.
  """
  about: dict[str, Any] = {"model": model, "input_shape": list(input_shape) if input_shape is not None else None}
  about |= {"unit": "MACs", **more, "root": cost.root}
  if roofline:
    about["roofline"] = {
      "device": roofline.kind,
      "peak_flops": roofline.peak_flops,
      "bandwidth": roofline.bandwidth,
    }
  about["total"] = cost.total
  lines = [f"  {json.dumps(key)}: {_dumps(value)}," for key, value in about.items()]
  layers = ",\n".join(f"    {_dumps(_row(layer, roofline))}" for layer in cost.layers)
  return "\n".join(["{", *lines, '  "layers": [', layers, "  ],", f'  "notes": {json.dumps(cost.notes)}', "}"])


def to_csv(cost: Cost, roofline: Device | None = None) -> str:
  """A header, one line per layer with the fields of the JSON, and a line `total`. Lists are written 5x5."""
  output = io.StringIO()
  fields = FIELDS + (BOUNDS if roofline else ())
  writer = csv.DictWriter(output, fields, restval="", extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for layer in cost.layers:
    writer.writerow({key: _cell(value) for key, value in _row(layer, roofline).items()})
  writer.writerow({"path": "total", **cost.total})
  return output.getvalue()


def _dumps(value: Any) -> str:
  return json.dumps(value, default=_symbolic)


def _symbolic(value: Any) -> int | str:
  if isinstance(value, numbers.Integral):  # NumPy's
    return int(value)
  if not export.is_symbolic_dim(value):
    raise TypeError(f"{value!r}: expected what JSON can hold")
  return str(value)


def _row(layer: Layer, roofline: Device | None) -> dict[str, Any]:
  row = {field: getattr(layer, field) for field in FIELDS}
  if roofline:
    limit = bound(layer, roofline)
    row |= dict(zip(BOUNDS, (limit.seconds, limit.attainable_flops, limit.by) if limit else (None,) * 3, strict=True))
  return row


def _cell(value: Any) -> Any:
  if isinstance(value, list):
    return "x".join(map(str, value))
  if isinstance(value, dict):
    return " ".join(f"{key}:{count}" for key, count in value.items())
  return "" if value is None else value
