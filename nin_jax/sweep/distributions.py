"""Ranges as Optuna has them, and Optuna's parameters as overrides."""

from collections.abc import Mapping
from typing import Any

from optuna import distributions

from nin_jax.sweep.ranges import Choice, Integers, LogUniform, PowerOfTwo, Range, Uniform


def of(ranges: Mapping[str, Range]) -> dict[str, distributions.BaseDistribution]:
  """{parameter: distribution}; the parameter of powers of two is their exponent, and is called `log2 FIELD`."""
  return {_name(field, found): _distribution(found) for field, found in ranges.items()}


def point(ranges: Mapping[str, Range], params: Mapping[str, Any]) -> dict[str, Any]:
  """The overrides {field: value} that parameters of these distributions stand for."""
  return {field: _value(found, params[_name(field, found)]) for field, found in ranges.items()}


def _name(field: str, found: Range) -> str:
  return f"log2 {field}" if isinstance(found, PowerOfTwo) else field


def _distribution(found: Range) -> distributions.BaseDistribution:
  match found:
    case LogUniform(low, high):
      return distributions.FloatDistribution(low, high, log=True)
    case Uniform(low, high):
      return distributions.FloatDistribution(low, high)
    case Integers(low, high):
      return distributions.IntDistribution(low, high)
    case PowerOfTwo(low, high):
      return distributions.IntDistribution(low.bit_length() - 1, high.bit_length() - 1)
    case Choice():
      return distributions.CategoricalDistribution(list(_labels(found)))


def _value(found: Range, param: Any) -> Any:
  match found:
    case LogUniform(low, high):  # six digits, as in a sample
      return float(min(max(float(f"{param:.6g}"), low), high))
    case PowerOfTwo():
      return 1 << param
    case Choice():
      return _labels(found)[param]
  return param


def _labels(found: Choice) -> dict[str, Any]:
  """What Optuna calls the values, which may be tuples: it stores strings, numbers and booleans only."""
  return {repr(value): value for value in found.values}
