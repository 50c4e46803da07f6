"""What fields, values and trials are called where there is little room."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from nin_jax.printable import printable

MOST = 80  # characters of a trial's id


def short_names(fields: Collection[str]) -> dict[str, str]:
  """{field: as many of its last parts as no other field ends with}: "reduce_scale" for "model.reduce_scale"."""

  def short(field: str) -> str:
    parts = field.split(".")
    suffixes = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
    others = [f".{other}" for other in fields if other != field]
    return next((name for name in suffixes if not any(other.endswith(f".{name}") for other in others)), field)

  return {field: printable(short(field)) for field in fields}


def short_value(value: Any) -> str:
  """A value in a few characters, numbers with four digits: 0.5, True, 64×32."""
  if isinstance(value, float):
    return f"{value:.4g}"
  if isinstance(value, tuple | list):
    return "×".join(map(short_value, value)) or "()"
  return printable(str(value)) or "''"


def is_trial_id(value: Any) -> bool:
  """Whether a value of a file can be a trial's id: it names a directory, and nothing above it."""
  return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9._-]{1,255}", value)) and bool(value.strip("."))


def trial_id(index: int, overrides: Mapping[str, Any], names: Mapping[str, str]) -> str:
  """ "004-reduce_scale-0.5-seed-1": the place in the plan and what is changed; up to `MOST` of A–Z a–z 0–9 . _ and -.

  Args:
    index: from 0, which alone makes it unique.
    overrides: {field: value}.
    names: the fields' short names.
  """
  words = [word for field, value in overrides.items() for word in (names[field], short_value(value))]
  text = "-".join([f"{index:03d}", *(words or ["base"])]).replace("×", "x")
  return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:MOST].rstrip("._-")
