"""Receptive fields, propagated through a traced program: every value that depends on the image gets its record.

What is not understood is unknown, never guessed; an unknown axis does not make the other one unknown. Statistics over
the batch and all positions count as constants: a batch-normalised network has the same fields in training and after.
"""

from nin_jax.cost import access_rules, layout, scope
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.program import Program
from nin_jax.cost.reach import Reach, Record, plain


def propagate(program: Program, image: Value, flow: Dataflow | None = None) -> dict[Value, Record]:
  """The record of every forward value that depends on the image; what is missing does not depend on it.

  The records are along the spatial axes of the image, in its order; see `layout` for how they are found.

  Args:
    program: the traced function.
    image: one of its inputs.
    flow: where the program's values come from, if it is known already.
  """
  flow = flow or Dataflow(program)
  everything = _Propagation(program, image, flow, layout.Layout(tuple(range(len(image.shape))))).records
  found = layout.find(program, image, everything)
  if found is None:
    return {value: _unknown(value, 1) for value in everything}
  records = _Propagation(program, image, flow, found).records
  plainly = Reach(1, 0, 0)  # if the first axis may be no batch, then only what leaves it alone is known
  return {
    value: record.select(found.spatial) if found.certain or record.reach[0] == plainly else _unknown(value, 1)
    for value, record in records.items()
  }


class _Propagation:
  """One walk through a program, along the axes of one layout."""

  def __init__(self, program: Program, image: Value, flow: Dataflow, axes: layout.Layout) -> None:
    self.context, self.rank = access_rules.RuleContext(flow, axes), len(image.shape)
    tracked = {*axes.spatial, *axes.batch}
    dims = [((size, d if d in tracked else None),) for d, size in enumerate(image.shape)]
    start = Record(tuple(dims), tuple(Reach(1, 0, 0) if d in tracked else None for d in range(self.rank)))
    carried: dict[Value, Record] = {}  # what depends on the image from a loop's second trip on
    while True:
      self.records = {image: start, **carried}
      for operation in program.operations:
        self._step(operation)
      late = [
        value
        for operation in program.operations
        if operation.params.get("feedback") in self.records
        for value in operation.outputs
        if value not in self.records
      ]
      if not late:
        return
      carried |= {value: _unknown(value, self.rank) for value in late}

  def _step(self, operation: Operation) -> None:
    known = [self.records.get(value) for value in operation.inputs]
    hidden = operation.params.get("operands", ())  # of all the branches, also of those that are not in the program
    if operation.direction != scope.FORWARD or not (any(known) or any(value in self.records for value in hidden)):
      return
    rule = access_rules.of(operation.primitive)
    results = rule(self.context, operation, known) if rule else None
    if results is access_rules.CONSTANT:
      return
    for i, value in enumerate(operation.outputs):
      record = results[i] if isinstance(results, list) else results
      self.records[value] = record or _unknown(value, self.rank)


def _unknown(value: Value, axes: int) -> Record:
  return Record(plain(value.shape), (None,) * axes)
