"""Bounds on what a trial may cost, as they are typed."""

import decimal
import re

from nin_jax.errors import ConfigError

_UNITS = {"": 0, "k": 3, "m": 6, "g": 9, "t": 12}
_NUMBER = re.compile(
  r"(?P<number>(\d[\d_]{0,30}(\.\d{0,30})?|\.\d{1,30})(e[+-]?\d{1,2})?)(?P<unit>[kmgt]?)", re.IGNORECASE
)


def limit(flag: str, text: str | None) -> int | None:
  """The number of a flag: 1.5G, 300M, 2e9, 128_298; None for None.

  Raises:
    ConfigError: it is none, or less than 1.
  """
  if text is None:
    return None
  match = _NUMBER.fullmatch(text.strip())
  value = int(decimal.Decimal(match["number"]).scaleb(_UNITS[match["unit"].lower()])) if match else 0
  if value < 1:
    raise ConfigError(flag, text, "a number from 1 up, as 300M, 1.5G, 2e9 or 128298")
  return value
