"""A traced function as a straight line of operations: every nested jaxpr inlined, every value known by identity.

Nothing is computed or compiled. Loops keep one copy of their body, with the number of times it runs. Operations whose
results nobody uses are left out.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from nin_jax.cost import scope
from nin_jax.cost.inline import Inliner, as_value
from nin_jax.cost.live import live
from nin_jax.cost.naming import named_modules
from nin_jax.cost.operation import Operation, Value
from nin_jax.ops.lowering import lowered_as


@dataclasses.dataclass(eq=False)
class Program:
  """`inputs` are the flattened arguments, `notes` what a reader of the counts should know."""

  inputs: list[Value]
  outputs: list[Value]
  operations: list[Operation]
  notes: tuple[str, ...]


def trace(fn: Callable[..., Any], *args: Any) -> Program:
  """The program of `fn(*args)`; `args` are pytrees of arrays or of `jax.ShapeDtypeStruct`.

  Convolutions are in it as they are, however they would be computed here.
  """
  with lowered_as("xla"), named_modules() as module_notes:
    closed = jax.make_jaxpr(fn)(*args)
  inliner = Inliner()
  inputs = [as_value(var.aval) for var in closed.jaxpr.invars]
  outputs = inliner.inline(closed, inputs, scope.Scope(), 1)
  operations, chosen = live(inliner.operations, outputs, inliner.branchings)
  for branching in chosen:
    inliner.notes.setdefault("cond: the most expensive branch is counted", []).extend(branching.joins)
  used = set(operations)
  notes = [note for note, about in inliner.notes.items() if not used.isdisjoint(about)]
  return Program(inputs, outputs, operations, (*notes, *_unused(inliner, used), *module_notes()))


def _unused(inliner: Inliner, used: set[Operation]) -> list[str]:
  others = {operation for branching in inliner.branchings for operation in branching.unchosen}
  dead = [operation for operation in inliner.operations if operation not in used and operation not in others]
  macs = sum(operation.work.macs * operation.repeats for operation in dead)
  if not macs:
    return []
  trained = any(operation.direction == scope.BACKWARD for operation in used)
  advice = "; jax.value_and_grad keeps the whole forward pass" if trained else ""
  return [f"{macs:,} MACs are left out, since nothing uses their results{advice}"]


def consumers(operations: Sequence[Operation]) -> dict[Value, list[Operation]]:
  """Which operations read each value."""
  readers = collections.defaultdict(list)
  for operation in operations:
    for value in operation.inputs:
      readers[value].append(operation)
  return readers
