"""Inlines every nested jaxpr of a traced function into one list of operations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nin_jax.cost import arithmetic, primitives
from nin_jax.cost import scope as scopes
from nin_jax.cost.convolution import Forms
from nin_jax.cost.live import Branching
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.selection import Selections

Jaxpr = Any  # jax's Jaxpr or ClosedJaxpr; the difference is going away, and both are read here

_REMATERIALISED = {"remat", "remat2", "checkpoint"}
_OPAQUE = {"pallas_call", "custom_linear_solve", "tpu_custom_call", "ffi_call"}
_HARMLESS = {"NamedAxisEffect", "InternalMutableArrayEffect", "ReadEffect"}  # of an equation whose result is not used


class Inliner:
  """Appends the operations of a jaxpr, and of those inside it, to one list.

  Attributes:
    operations: in the order of the program, those of every branch of a conditional.
    branchings: the conditionals, inner ones before those around them.
    notes: what a reader of the counts should know, and the operations that it is about.
  """

  def __init__(self) -> None:
    self.operations: list[Operation] = []
    self.branchings: list[Branching] = []
    self.notes: dict[str, list[Operation]] = {}
    self.constants: dict[int, Value] = {}
    self.forms: Forms = {}
    self.selections = Selections()

  def inline(self, jaxpr: Jaxpr, inputs: Sequence[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    constants, jaxpr = getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr)
    env = dict(zip(jaxpr.invars, inputs, strict=True))
    for i, var in enumerate(jaxpr.constvars):
      env[var] = self._constant(var, constants[i]) if i < len(constants) else as_value(var.aval)

    def read(atom: Any) -> Value:
      return _literal(atom) if hasattr(atom, "val") else env[atom]

    for eqn in jaxpr.eqns:
      operands = [read(atom) for atom in eqn.invars]
      own = scopes.parse(str(eqn.source_info.name_stack))
      results = self._equation(eqn, operands, scope, own, repeats)
      env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _constant(self, var: Any, constant: Any) -> Value:
    value = self.constants.setdefault(id(constant), as_value(var.aval))
    value.constant = constant
    return value

  def _equation(
    self, eqn: Any, operands: list[Value], outer: scopes.Scope, own: scopes.Scope, repeats: int
  ) -> list[Value]:
    name, params, scope = eqn.primitive.name, eqn.params, outer.enter(own)
    if name == "scan":
      return self._scan(eqn, operands, scope, repeats)
    if name == "while":
      return self._while(eqn, operands, scope, repeats)
    if name == "cond":
      return self._cond(eqn, operands, scope, repeats)
    if name in ("shard_map", "xla_pmap"):
      return self._devices(eqn, operands, scope, repeats)
    inner = [] if name in primitives.KNOWN or name in _OPAQUE else list(_jaxprs(params))
    for jaxpr in inner:
      if _arity(jaxpr) == (len(eqn.invars), len(eqn.outvars)):
        if name in _REMATERIALISED and scope.transposed:
          scope = outer.enter(own.undoubled())
        return self.inline(jaxpr, operands, scope, repeats)
    start = len(self.operations)
    for jaxpr in inner:
      self.inline(jaxpr, [as_value(var.aval) for var in getattr(jaxpr, "jaxpr", jaxpr).invars], scope, repeats)
    body = self.operations[start:]
    if inner:
      self._note(f"{name}: its body is counted once", start)
    results = self._append(name, dict(params), operands, [var.aval for var in eqn.outvars], scope, repeats)
    operation = self.operations[-1]
    operation.effects = any(type(effect).__name__ not in _HARMLESS for effect in eqn.effects)
    operation.needs = [value for part in body for value in part.outputs]
    for part in body:
      part.effects = False  # those of the whole are known
    return results

  def _append(
    self, name: str, params: dict, inputs: list[Value], avals: Sequence[Any], scope: scopes.Scope, repeats: int
  ) -> list[Value]:
    operation = Operation(name, _plain(params), inputs, [], scope, repeats)
    operation.outputs = [as_value(aval, operation) for aval in avals]
    operation.work = arithmetic.work(
      name,
      operation.params,
      [value.shape for value in inputs],
      [value.shape for value in operation.outputs],
      self.forms,
      scope.direction == scopes.BACKWARD,
      self.selections.ones(operation),
    )
    self.operations.append(operation)
    return operation.outputs

  def _note(self, note: str, start: int) -> None:
    """Notes something about the operations from `start` on."""
    self.notes.setdefault(note, []).extend(self.operations[start:])

  def _under(self, condition: Value, start: int) -> None:
    """Effects of the operations from `start` on happen if a condition holds."""
    for operation in self.operations[start:]:
      if operation.effects:
        operation.needs.append(condition)

  def _carry(self, value: Value, aval: Any, scope: scopes.Scope, repeats: int, needs: Sequence[Value] = ()) -> Value:
    (carried,) = self._append("loop_carry", {}, [value], [aval], scope, repeats)
    carried.producer.needs += needs
    return carried

  def _scan(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """The body runs `length` times. What is scanned over has one dimension more outside than inside."""
    closed, length = eqn.params["jaxpr"], _plain(eqn.params["length"])
    body = getattr(closed, "jaxpr", closed)
    carried = sum(_rank(out) == _rank(inner) for out, inner in zip(eqn.outvars, body.outvars, strict=True))
    whole = [i for i, (v, inner) in enumerate(zip(operands, body.invars, strict=True)) if len(v.shape) == _rank(inner)]
    carries = set(whole[len(whole) - carried :])
    inputs = []
    for i, (value, inner) in enumerate(zip(operands, body.invars, strict=True)):
      if i in carries:
        inputs.append(self._carry(value, inner.aval, scope, repeats))
      elif i in whole:
        inputs.append(value)
      else:
        inputs += self._append("loop_slice", {}, [value], [inner.aval], scope, repeats)
    results = self.inline(closed, inputs, scope, repeats * length)
    before = iter([inputs[i] for i in sorted(carries)])
    outputs = []
    for out, value in zip(eqn.outvars, results, strict=True):
      if len(out.aval.shape) == len(value.shape):
        first = next(before)
        first.producer.needs.append(value)
        first.producer.params["feedback"] = value
        outputs.append(self._carry(value, out.aval, scope, repeats, [first]))
      else:
        outputs += self._append("loop_stack", {}, [value], [out.aval], scope, repeats)
    return outputs

  def _while(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    params, start = eqn.params, len(self.operations)
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts = operands[:of_cond], operands[of_cond : of_cond + of_body]
    first = operands[of_cond + of_body :]
    carry = [self._carry(value, var.aval, scope, repeats) for value, var in zip(first, eqn.outvars, strict=True)]
    (again,) = self.inline(params["cond_jaxpr"], cond_consts + carry, scope, repeats)
    results = self.inline(params["body_jaxpr"], body_consts + carry, scope, repeats)
    for before, after in zip(carry, results, strict=True):
      before.producer.needs.append(after)
      before.producer.params["feedback"] = after
    self._under(again, start)
    outputs = [
      self._carry(value, var.aval, scope, repeats, [before, again])
      for value, var, before in zip(results, eqn.outvars, carry, strict=True)
    ]
    self._note("while: the number of trips is unknown, so its condition and body are counted once", start)
    return outputs

  def _cond(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """Every branch, with what joins their results; `live` chooses one once it is known what is used."""
    branches, results, start = [], [], len(self.operations)
    for branch in eqn.params["branches"]:
      first = len(self.operations)
      results.append(self.inline(branch, operands[1:], scope, repeats))
      branches.append(self.operations[first:])
    self._under(operands[0], start)
    outputs = []
    for i, var in enumerate(eqn.outvars):
      joined, params = [values[i] for values in results], {"operands": operands}
      outputs += self._append("branch_result", params, joined, [var.aval], scope, repeats)
      outputs[-1].producer.needs.append(operands[0])
    self.branchings.append(Branching(branches, [value.producer for value in outputs]))
    return outputs

  def _devices(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """The body is one device's share, and runs on each."""
    params, start = eqn.params, len(self.operations)
    jaxpr = params.get("jaxpr", params.get("call_jaxpr"))
    if "mesh" in params:
      sizes = dict(params["mesh"].shape)
      axes = params.get("manual_axes") or params.get("newly_manual_axes") or sizes
      devices = math.prod(sizes[axis] for axis in axes)
    else:
      devices = params["global_axis_size"]
    inputs = []
    for value, inner in zip(operands, getattr(jaxpr, "jaxpr", jaxpr).invars, strict=True):
      same = value.shape == tuple(inner.aval.shape)
      inputs += [value] if same else self._append("device_slice", {}, [value], [inner.aval], scope, repeats)
    results = self.inline(jaxpr, inputs, scope, repeats * devices)
    outputs = []
    for value, out in zip(results, eqn.outvars, strict=True):
      same = value.shape == tuple(out.aval.shape)
      outputs += [value] if same else self._append("device_slice", {}, [value], [out.aval], scope, repeats)
    if devices > 1:
      self._note(f"{eqn.primitive.name}: the work of all {devices} devices is counted", start)
    return outputs


def as_value(aval: Any, producer: Operation | None = None) -> Value:
  """The value that an abstract one stands for."""
  return Value(_plain(tuple(getattr(aval, "shape", ()))), getattr(aval, "dtype", None), producer)


def _plain(param: Any) -> Any:
  """A parameter with NumPy's integers made Python's, in tuples, lists, dicts and small arrays of them too."""
  if isinstance(param, np.integer):
    return int(param)
  if isinstance(param, np.ndarray) and np.issubdtype(param.dtype, np.integer) and param.ndim < 2:
    return int(param) if param.ndim == 0 else tuple(map(int, param))
  if isinstance(param, dict):
    return {key: _plain(value) for key, value in param.items()}
  if type(param) in (tuple, list):
    return type(param)(map(_plain, param))
  if isinstance(param, tuple) and hasattr(param, "_fields"):
    return type(param)(*map(_plain, param))
  return param


def _literal(atom: Any) -> Value:
  value = as_value(atom.aval)
  value.literal, value.constant = (None, atom.val) if value.shape else (atom.val, None)
  return value


def _rank(var: Any) -> int:
  return len(getattr(var.aval, "shape", ()))


def _jaxprs(params: dict[str, Any]) -> Any:
  for param in params.values():
    for candidate in param if isinstance(param, tuple | list) else (param,):
      if hasattr(candidate, "eqns"):
        yield candidate


def _arity(jaxpr: Jaxpr) -> tuple[int, int]:
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  return len(jaxpr.invars), len(jaxpr.outvars)
