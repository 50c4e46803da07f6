"""The operations of a traced program, and the values between them."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from nin_jax.cost.arithmetic import Work
from nin_jax.cost.scope import Scope


@dataclasses.dataclass(eq=False, slots=True)
class Value:
  """An array of the program: an input, a constant, or what an operation produced."""

  shape: tuple[int, ...]
  dtype: Any
  producer: "Operation | None" = None
  literal: Any = None
  constant: Any = None  # the array that the function closes over

  @property
  def elements(self) -> int:
    return math.prod(self.shape)

  @property
  def bytes(self) -> int:
    """Its size in memory, in bytes; 0 for literals and for keys and tokens, which no layer streams."""
    return self.size(self.elements)

  def size(self, elements: int) -> int:
    """The bytes of some of its elements; those of int4 and the like are packed."""
    return 0 if self.literal is not None else -(-elements * _bits(self.dtype) // 8)


@dataclasses.dataclass(eq=False, slots=True)
class Operation:
  """One equation: `repeats` is how often it runs for one call of the program, `work` the work of one run.

  `needs` are values that it depends on besides those it reads: what a loop's trip leaves for the next, or a predicate.
  `effects` says that it does something besides computing its outputs.
  """

  primitive: str
  params: dict[str, Any]
  inputs: list[Value]
  outputs: list[Value]
  scope: Scope
  repeats: int
  work: Work = dataclasses.field(default_factory=Work)
  needs: list[Value] = dataclasses.field(default_factory=list)
  effects: bool = False

  @property
  def direction(self) -> str:
    return self.scope.direction


def _bits(dtype: Any) -> int:
  itemsize = getattr(dtype, "itemsize", 0)
  if not isinstance(itemsize, int):
    return 0
  info = jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo if jnp.issubdtype(dtype, jnp.floating) else None
  return min(int(info(dtype).bits), 8 * itemsize) if info else 8 * itemsize
