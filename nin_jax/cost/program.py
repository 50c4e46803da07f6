"""A traced function as a straight line of operations: every nested jaxpr inlined, every value known by identity.

Nothing is computed or compiled. Loops keep one copy of their body, with the number of times it runs.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from nin_jax.cost import arithmetic, primitives
from nin_jax.cost import scope as scopes
from nin_jax.ops.lowering import lowered_as

Jaxpr = Any  # jax's Jaxpr or ClosedJaxpr; the difference is going away, and both are read here

_REMATERIALISED = {"remat", "remat2", "checkpoint"}
_OPAQUE = {"pallas_call", "custom_linear_solve", "tpu_custom_call", "ffi_call"}


@dataclasses.dataclass(eq=False, slots=True)
class Value:
  """An array of the program: an input, a constant, or what an operation produced."""

  shape: tuple[int, ...]
  dtype: Any
  producer: "Operation | None" = None
  literal: Any = None

  @property
  def elements(self) -> int:
    return math.prod(self.shape)

  @property
  def bytes(self) -> int:
    """Its size in memory, in bytes; 0 for literals and for keys and tokens, which no layer streams."""
    itemsize = getattr(self.dtype, "itemsize", 0)
    return 0 if self.literal is not None or not isinstance(itemsize, int) else self.elements * itemsize


@dataclasses.dataclass(eq=False, slots=True)
class Operation:
  """One equation: `repeats` is how often it runs for one call of the program."""

  primitive: str
  params: dict[str, Any]
  inputs: list[Value]
  outputs: list[Value]
  scope: scopes.Scope
  repeats: int

  @property
  def direction(self) -> str:
    return self.scope.direction

  def work(self, batch_axis: int = 0) -> arithmetic.Work:
    """The work of one run."""
    return arithmetic.work(
      self.primitive,
      self.params,
      [value.shape for value in self.inputs],
      [value.shape for value in self.outputs],
      backward=self.direction == scopes.BACKWARD,
      batch_axis=batch_axis,
    )


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
  with lowered_as("xla"):
    closed = jax.make_jaxpr(fn)(*args)
  inliner = _Inliner()
  inputs = [_value(var.aval) for var in closed.jaxpr.invars]
  outputs = inliner.inline(closed, inputs, scopes.Scope(), 1)
  return Program(inputs, outputs, inliner.operations, tuple(inliner.notes))


class _Inliner:
  """Appends the operations of a jaxpr, and of those inside it, to one list."""

  def __init__(self, constants: dict[int, Value] | None = None) -> None:
    self.operations: list[Operation] = []
    self.notes: dict[str, None] = {}  # an ordered set
    self.constants = {} if constants is None else constants

  def inline(self, jaxpr: Jaxpr, inputs: Sequence[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    constants, jaxpr = getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr)
    env = dict(zip(jaxpr.invars, inputs, strict=True))
    for i, var in enumerate(jaxpr.constvars):
      env[var] = self._constant(var, constants[i]) if i < len(constants) else _value(var.aval)

    def read(atom: Any) -> Value:
      return _literal(atom) if hasattr(atom, "val") else env[atom]

    for eqn in jaxpr.eqns:
      operands = [read(atom) for atom in eqn.invars]
      own = scopes.parse(str(eqn.source_info.name_stack))
      results = self._equation(eqn, operands, scope, own, repeats)
      env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _constant(self, var: Any, constant: Any) -> Value:
    return self.constants.setdefault(id(constant), _value(var.aval))

  def _equation(
    self, eqn: Any, operands: list[Value], outer: scopes.Scope, own: scopes.Scope, repeats: int
  ) -> list[Value]:
    name, scope = eqn.primitive.name, outer.enter(own)
    params = {key: _with_python_integers(param) for key, param in eqn.params.items()}
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
    for jaxpr in inner:
      self.notes[f"{name}: its body is counted once"] = None
      self.inline(jaxpr, [_value(var.aval) for var in getattr(jaxpr, "jaxpr", jaxpr).invars], scope, repeats)
    return self._append(name, params, operands, [var.aval for var in eqn.outvars], scope, repeats)

  def _append(
    self, name: str, params: dict, inputs: list[Value], avals: Sequence[Any], scope: scopes.Scope, repeats: int
  ) -> list[Value]:
    operation = Operation(name, params, inputs, [], scope, repeats)
    operation.outputs = [_value(aval, operation) for aval in avals]
    self.operations.append(operation)
    return operation.outputs

  def _scan(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """The body runs `length` times. What is scanned over has one dimension more outside than inside."""
    closed, length = eqn.params["jaxpr"], eqn.params["length"]
    body = getattr(closed, "jaxpr", closed)
    carried = sum(_rank(out) == _rank(inner) for out, inner in zip(eqn.outvars, body.outvars, strict=True))
    whole = [i for i, (v, inner) in enumerate(zip(operands, body.invars, strict=True)) if len(v.shape) == _rank(inner)]
    carries = set(whole[len(whole) - carried :])
    inputs = []
    for i, (value, inner) in enumerate(zip(operands, body.invars, strict=True)):
      if i in whole and i not in carries:
        inputs.append(value)
      else:
        name = "loop_carry" if i in carries else "loop_slice"
        inputs += self._append(name, {}, [value], [inner.aval], scope, repeats)
    results = self.inline(closed, inputs, scope, repeats * length)
    outputs = []
    for out, value in zip(eqn.outvars, results, strict=True):
      name = "loop_carry" if len(out.aval.shape) == len(value.shape) else "loop_stack"
      outputs += self._append(name, {}, [value], [out.aval], scope, repeats)
    return outputs

  def _while(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    params = eqn.params
    self.notes["while: the number of trips is unknown, so its condition and body are counted once"] = None
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts = operands[:of_cond], operands[of_cond : of_cond + of_body]
    carry = self._append("loop_carry", {}, operands[of_cond + of_body :], [v.aval for v in eqn.outvars], scope, repeats)
    self.inline(params["cond_jaxpr"], cond_consts + carry, scope, repeats)
    results = self.inline(params["body_jaxpr"], body_consts + carry, scope, repeats)
    return self._append("loop_carry", {}, results, [var.aval for var in eqn.outvars], scope, repeats)

  def _cond(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """The branch that does the most: by multiply-accumulates, then by unknown and element-wise work."""
    branches = []
    for branch in eqn.params["branches"]:
      inliner = _Inliner(self.constants)
      results = inliner.inline(branch, operands[1:], scope, repeats)
      branches.append((_weight(inliner.operations), inliner, results))
    _, dearest, results = max(branches, key=lambda branch: branch[0])
    self.operations += dearest.operations
    self.notes |= dearest.notes
    if len({weight for weight, _, _ in branches}) > 1:
      self.notes["cond: the dearest branch is counted"] = None
    return self._append("branch_result", {}, results, [var.aval for var in eqn.outvars], scope, repeats)

  def _devices(self, eqn: Any, operands: list[Value], scope: scopes.Scope, repeats: int) -> list[Value]:
    """The body is one device's share, and runs on each."""
    params = eqn.params
    jaxpr = params.get("jaxpr", params.get("call_jaxpr"))
    if "mesh" in params:
      sizes = dict(params["mesh"].shape)
      axes = params.get("manual_axes") or params.get("newly_manual_axes") or sizes
      devices = math.prod(sizes[axis] for axis in axes)
    else:
      devices = params["global_axis_size"]
    if devices > 1:
      self.notes[f"{eqn.primitive.name}: the work of all {devices} devices is counted"] = None
    inputs = []
    for value, inner in zip(operands, getattr(jaxpr, "jaxpr", jaxpr).invars, strict=True):
      same = value.shape == tuple(inner.aval.shape)
      inputs += [value] if same else self._append("device_slice", {}, [value], [inner.aval], scope, repeats)
    results = self.inline(jaxpr, inputs, scope, repeats * devices)
    outputs = []
    for value, out in zip(results, eqn.outvars, strict=True):
      same = value.shape == tuple(out.aval.shape)
      outputs += [value] if same else self._append("device_slice", {}, [value], [out.aval], scope, repeats)
    return outputs


def _value(aval: Any, producer: Operation | None = None) -> Value:
  return Value(tuple(getattr(aval, "shape", ())), getattr(aval, "dtype", None), producer)


def _literal(atom: Any) -> Value:
  return Value(tuple(getattr(atom.aval, "shape", ())), getattr(atom.aval, "dtype", None), literal=atom.val)


def _with_python_integers(param: Any) -> Any:
  """A parameter with Python's integers, which JSON takes, where windows and padding are given in NumPy's."""
  if type(param) in (tuple, list):
    return type(param)(map(_with_python_integers, param))
  return int(param) if isinstance(param, np.integer) else param


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


def _weight(operations: Sequence[Operation]) -> tuple[int, int, int]:
  totals = collections.Counter()
  for operation in operations:
    work = operation.work()
    totals.update(macs=work.macs * operation.repeats, other=work.other * operation.repeats)
    totals.update(elementwise=work.elementwise * operation.repeats)
  return totals["macs"], totals["other"], totals["elementwise"]


def consumers(operations: Sequence[Operation]) -> dict[Value, list[Operation]]:
  """Which operations read each value."""
  readers = collections.defaultdict(list)
  for operation in operations:
    for value in operation.inputs:
      readers[value].append(operation)
  return readers
