"""Operations whose results are used: what is left of a program without its dead code."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from nin_jax.cost.operation import Operation, Value


@dataclasses.dataclass
class Branching:
  """A conditional: the operations of each branch, and those that join their results, one input from each branch.

  `unchosen` are the operations of the branches that are not counted.
  """

  branches: list[list[Operation]]
  joins: list[Operation]
  unchosen: set[Operation] = dataclasses.field(default_factory=set)

  def choose(self, used: set[Operation]) -> bool:
    """Keeps the branch that does the most: by multiply-accumulates, then by unknown and element-wise work.

    Returns whether the branches differ in their work.
    """
    weights = [_weight(operation for operation in branch if operation in used) for branch in self.branches]
    most_expensive = weights.index(max(weights))
    for join in self.joins:
      join.inputs = [join.inputs[most_expensive]]
    self.unchosen = {operation for i, branch in enumerate(self.branches) if i != most_expensive for operation in branch}
    return len(set(weights)) > 1


def live(
  operations: Sequence[Operation], outputs: Sequence[Value], branchings: Sequence[Branching]
) -> tuple[list[Operation], list[Branching]]:
  """The operations that the outputs depend on or that have effects, and where the most expensive branch was chosen.

  Args:
    operations, outputs: the program's.
    branchings: its conditionals, inner ones before those around them.
  """
  kept, chosen = list(operations), []
  for branching in branchings:
    chosen += [branching] if branching.choose(_used(kept, outputs)) else []
    kept = [operation for operation in kept if operation not in branching.unchosen]
  used = _used(kept, outputs)
  return [operation for operation in kept if operation in used], chosen


def _used(operations: Sequence[Operation], outputs: Iterable[Value]) -> set[Operation]:
  used = {operation for operation in operations if operation.effects}
  pending = [*outputs, *(value for operation in used for value in (*operation.inputs, *operation.needs))]
  while pending:
    operation = pending.pop().producer
    if operation is not None and operation not in used:
      used.add(operation)
      pending += [*operation.inputs, *operation.needs]
  return used


def _weight(operations: Iterable[Operation]) -> tuple[int, int, int]:
  totals = collections.Counter()
  for operation in operations:
    work = operation.work
    totals.update(macs=work.macs * operation.repeats, other=work.other * operation.repeats)
    totals.update(elementwise=work.elementwise * operation.repeats)
  return totals["macs"], totals["other"], totals["elementwise"]
