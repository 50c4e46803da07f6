"""What a sweep is composed of.

In a config file, beside `get_config()`:

  from nin_jax.sweep import space

  def sweep_bottleneck():
    return space.product(space.values("model.reduce_scale", [0.25, 0.5, 1.0]), space.values("seed", range(3)))

or, which is the same, `return {"model.reduce_scale": [0.25, 0.5, 1.0], "seed": range(3)}`. A `Space` is an iterable of
overrides, {field: value}, that knows how it was put together. Wherever one is taken, a dict of lists stands for their
product, and a list of dicts for the overrides themselves.
"""

import builtins
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from nin_jax.errors import ConfigError
from nin_jax.sweep.composition import MAX_TRIALS, Chain, Listed, Overrides, Product, Sample, Space, Values, Zip, limited
from nin_jax.sweep.ranges import Choice, Integers, LogUniform, PowerOfTwo, Range, Uniform, is_whole, own

choice, integers, log_uniform, power_of_two, uniform = Choice, Integers, LogUniform, PowerOfTwo, Uniform

SpaceLike = Space | Mapping[str, Iterable] | Iterable[Mapping[str, Any]]


def values(field: str, values: Iterable) -> Values:
  """A field's values in turn.

  Raises:
    ConfigError: there are none, or a config can't hold them.
  """
  _check_field(field)
  if isinstance(values, Range):
    raise ConfigError(field, values, "a list of values; from a range they are drawn by space.sample")
  try:
    return Values(field, Choice(values))
  except ConfigError as error:
    raise ConfigError(field, values, f"a list of {error.accepted}") from None


def product(*factors: SpaceLike) -> Product:
  """Every combination of the factors' overrides, the last factor varying fastest.

  Raises:
    ConfigError: two factors set the same field, or there are none.
  """
  return Product(_disjoint("product", map(of, factors)))


def zip(*parts: SpaceLike) -> Zip:
  """The parts' overrides in parallel; in a dict of lists, these are the parts.

  Raises:
    ConfigError: two parts set the same field, they are not equally long, or there are none.
  """
  spaces: list[Space] = []
  for part in parts:
    spaces += [values(field, listed) for field, listed in part.items()] if isinstance(part, Mapping) else [of(part)]
  found = _disjoint("zip", spaces)
  lengths = [len(part) for part in found]
  if len(set(lengths)) > 1:
    named = ", ".join(
      f"{' and '.join(part.fields)}: {length}" for part, length in builtins.zip(found, lengths, strict=True)
    )
    raise ConfigError("space.zip", lengths, f"parts of the same length ({named})")
  return Zip(found)


def chain(*parts: SpaceLike) -> Chain:
  """One part's overrides after the other's.

  Raises:
    ConfigError: there are none.
  """
  if not parts:
    raise ConfigError("space.chain", (), "one part or more")
  return Chain(tuple(map(of, parts)))


def sample(n: int, axes: Mapping[str, Range], seed: int = 0) -> Sample:
  """n random points; the same on any machine for a seed from 0 up to 2^64.

  Args:
    n: how many.
    axes: {field: range}, the ranges from `log_uniform(low, high)`, `uniform(low, high)`, `integers(low, high)`,
      `power_of_two(low, high)`, all with both their bounds, and `choice(values)`.
    seed: another one gives other points.

  Raises:
    ConfigError: n is not from 1 to MAX_TRIALS, there are no axes, or one of them is no range.
  """
  if not (is_whole(n) and 1 <= n <= MAX_TRIALS):
    raise ConfigError("space.sample", n, f"a number of points from 1 to {MAX_TRIALS}")
  if not (is_whole(seed) and 0 <= seed < 2**64):
    raise ConfigError("space.sample", seed, "a seed that is a whole number from 0 to below 2^64")
  if not isinstance(axes, Mapping) or not axes:
    raise ConfigError("space.sample", axes, "{field: range}, one or more")
  for field, found in axes.items():
    _check_field(field)
    if not isinstance(found, Range):
      accepted = "a range: space.log_uniform, uniform, integers or power_of_two(low, high), or choice(values)"
      raise ConfigError(field, found, accepted)
  return Sample(n, dict(axes), seed)


def of(sweep: SpaceLike) -> Space:
  """The space that a dict of lists or an iterable of overrides stands for; a space itself.

  Raises:
    ConfigError: it is none of these, or empty.
  """
  if isinstance(sweep, Space):
    return sweep
  if isinstance(sweep, Mapping):
    return product(*(values(field, listed) for field, listed in sweep.items()))
  accepted = "overrides, of nin_jax.sweep.space: a dict of lists, or an iterable of dicts {field: value}, not empty"
  if isinstance(sweep, str | bytes) or not isinstance(sweep, Iterable):
    raise ConfigError("sweep", sweep, accepted)
  listed = list(itertools.islice(sweep, MAX_TRIALS + 1))
  if not listed or not all(isinstance(overrides, Mapping) for overrides in listed):
    raise ConfigError("sweep", listed, accepted)
  limited(len(listed))
  return Listed(tuple(_owned(overrides) for overrides in listed))


def _owned(overrides: Mapping) -> Overrides:
  for field, value in overrides.items():
    _check_field(field)
    try:
      own(value)
    except TypeError:
      raise ConfigError(field, value, "a string, a number, a boolean, or a tuple of these") from None
  return {field: own(value) for field, value in overrides.items()}


def _check_field(field: object) -> None:
  if not (isinstance(field, str) and field):
    raise ConfigError("sweep", field, "the name of a field, as 'optimizer.learning_rate'")


def _disjoint(word: str, spaces: Iterable[Space]) -> tuple[Space, ...]:
  spaces, seen = tuple(spaces), set()
  if not spaces:
    raise ConfigError(f"space.{word}", (), "one part or more")
  for space in spaces:
    for field in space.fields:
      if field in seen:
        raise ConfigError(f"space.{word}", field, "a field that is set by one part alone")
    seen.update(space.fields)
  return spaces
