"""From a traced function to its cost, layer by layer."""

import collections
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from nin_jax.cost import layout, operator, primitives, program, receptive_field
from nin_jax.cost.arithmetic import Work
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.layer import OTHER, Cost, Extent, Layer
from nin_jax.cost.program import Operation, Program, Value
from nin_jax.cost.reach import Record
from nin_jax.cost.scope import BACKWARD, FORWARD, RECOMPUTE

Path = tuple[str, ...]

_COMPUTED_MATRIX = (
  "a product with a matrix computed from indices, as in a resize, counts in full, zeros included, as it runs"
)


def analyze(fn: Callable[..., Any], *args: Any, params: Any = None, image: int | None = None) -> Cost:
  """What one call of `fn(*args)` costs, per layer and in all. Traces the function; computes and compiles nothing.

  Work goes to the layer and the direction that its name stack says. Give it the forward pass for inference, or a
  function that calls `jax.grad` for training. It counts what is given: pass one image for the cost of one image.

  Args:
    fn: any JAX function.
    *args: its arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`.
    params: the parameters by path, nested as Linen's `variables["params"]`; arrays or shapes. They also tell which
      scope is the root and which scopes are layers; without them each scope is a row, and a first scope that all
      convolutions and products share is the root.
    image: which argument is the image. By default what the first convolution reads; without a convolution, the last
      array among the arguments with three dimensions or more, unless that is combined with another one or with tokens.
      Its layout is the one that the convolutions and pools read, else [batch, *spatial, channels].

  Returns:
    The `Cost`. A function may have no image or no scopes: then there are no receptive fields, or one row `other`.

  Raises:
    ValueError: there is no argument at `image`, or it holds no array of three dimensions or more.
  """
  if image is not None and not -len(args) <= image < len(args):
    raise ValueError(f"image={image}: expected the index of one of the {len(args)} arguments")
  traced = program.trace(fn, *args)
  flow = Dataflow(traced)
  arguments = _arguments(args, traced)
  pixels = _image(arguments, traced, flow, None if image is None else image % len(args))
  records = receptive_field.propagate(traced, pixels, flow) if pixels is not None else {}
  data = [a.value for a in arguments if a.value is pixels or a.indices or (a.direct and a.pictorial)]
  owners = _owners(params)
  root = _root(traced.operations, owners)
  return _Attribution(traced, operator.Context(records, flow, flow.bits(data)), owners, root, params is not None).cost()


def _arguments(args: Sequence[Any], traced: Program) -> list[layout.Argument]:
  arguments = []
  inputs = iter(traced.inputs)
  for i, arg in enumerate(args):
    flat, tree = jax.tree_util.tree_flatten(arg)
    arguments += [layout.Argument(i, jax.tree_util.treedef_is_leaf(tree), next(inputs)) for _ in flat]
  return arguments


def _image(arguments: Sequence[layout.Argument], traced: Program, flow: Dataflow, number: int | None) -> Value | None:
  if number is None:
    return layout.image(traced, flow, arguments)
  arguments = [argument for argument in arguments if argument.number == number and len(argument.value.shape) >= 3]
  if not arguments:
    raise ValueError(f"image={number}: argument {number} holds no array of three dimensions or more")
  return layout.image(traced, flow, arguments) or arguments[-1].value


def _owners(params: Any) -> dict[Path, int]:
  """The elements of the parameters that lie directly under each path."""
  owners: dict[Path, int] = collections.Counter()
  for keys, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys]
    owners[tuple(names[:-1])] += math.prod(leaf.shape)
  return dict(owners)


def _root(operations: Sequence[Operation], owners: dict[Path, int]) -> Path:
  """The scopes above the parameters' first level; without parameters, the first scope that all products share."""
  first = {path[0] for path in owners if path}
  found = collections.Counter()
  for operation in operations:
    modules = operation.scope.modules
    found.update([modules[:i] for i, module in enumerate(modules) if module in first][:1])
  if found:
    return found.most_common(1)[0][0]
  stacks = [o.scope.modules for o in operations if o.primitive in primitives.PRODUCTS and o.scope.modules]
  shared = {stack[0] for stack in stacks}
  nested = any(len(stack) > 1 for stack in stacks) or () in owners
  return (shared.pop(),) if len(shared) == 1 and nested else ()


class _Attribution:
  """Sorts a program's operations into layers."""

  def __init__(
    self, traced: Program, context: operator.Context, owners: dict[Path, int], root: Path, named: bool
  ) -> None:
    self.program, self.context, self.owners, self.root, self.named = traced, context, owners, root, named
    self.records = context.records
    self.position = {operation: i for i, operation in enumerate(traced.operations)}
    self.groups: dict[str, list[Operation]] = {}
    self.of_operation = {operation: self._layer(operation) for operation in traced.operations}
    for operation, path in self.of_operation.items():
      self.groups.setdefault(path, []).append(operation)
    self.readers = program.consumers(traced.operations)
    self.results = set(traced.outputs)
    self.batch_axis = {
      self.of_operation[o]: o.params["dimension_numbers"].lhs_spec[0]
      for o in traced.operations
      if o.primitive == "conv_general_dilated" and o.direction == FORWARD
    }

  def cost(self) -> Cost:
    params = {self._name(owner): elements for owner, elements in self.owners.items()}
    unknown: dict[str, int] = collections.Counter()
    layers = []
    for path, operations in self._in_order():
      if path != OTHER:
        layers.append(self._row(path, operations, params.pop(path, 0), unknown))
    layers += [Layer(path, "params", params=elements) for path, elements in params.items() if path != OTHER]
    outside, unscoped = self.groups.get(OTHER, []), params.get(OTHER, 0)
    layers.append(self._row(OTHER, outside, unscoped, unknown, unknown))
    layers = [layer for layer in layers if not layer.idle]
    flow = self.context.flow
    products = [o for o in self.program.operations if o.direction == FORWARD and o.primitive in primitives.PRODUCTS]
    computed = any(flow.computed(value) for operation in products for value in operation.inputs[:2])
    notes = self.program.notes + (_COMPUTED_MATRIX,) * computed
    return Cost(tuple(layers), "/".join(self.root), notes)

  def _in_order(self) -> list[tuple[str, list[Operation]]]:
    """The layers by when their last product runs, or without one their last operation; backward ones at the end."""

    def place(group: tuple[str, list[Operation]]) -> int:
      forward = [o for o in group[1] if o.direction == FORWARD]
      products = [o for o in forward if o.primitive in primitives.PRODUCTS]
      last = (products or forward or group[1][:1])[-1]
      return self.position[last] + (0 if forward else len(self.position))

    return sorted(self.groups.items(), key=place)

  def _layer(self, operation: Operation) -> str:
    """The path of the layer that an operation belongs to: its scope's, or that of the module around it.

    A scope without parameters inside a module with some of its own is a part of that module.
    """
    modules = operation.scope.modules
    inside = modules[: len(self.root)] == self.root
    path = modules[len(self.root) :] if inside else modules
    if not inside or not modules:
      return "/".join(path) or OTHER
    if self.named and not any(owner[: len(path)] == path for owner in self.owners):
      path = next((path[:n] for n in range(len(path) - 1, 0, -1) if path[:n] in self.owners), path)
    return self._name(path)

  def _name(self, path: Path) -> str:
    return "/".join(path) or "/".join(self.root) or OTHER

  def _row(
    self,
    path: str,
    operations: Sequence[Operation],
    params: int,
    unknown: dict[str, int],
    other: dict[str, int] | None = None,
  ) -> Layer:
    """One layer. Elements of unknown work are added to `unknown`; the row `other` shows them all."""
    macs, elementwise = collections.Counter(), collections.Counter()
    product_elements = 0
    for operation in operations:
      work: Work = operation.work(self.batch_axis.get(path, 0))
      macs[operation.direction] += work.macs * operation.repeats
      elementwise[operation.direction] += work.elementwise * operation.repeats
      if work.other or operation.primitive not in primitives.KNOWN:
        unknown[operation.primitive] = unknown.get(operation.primitive, 0) + work.other * operation.repeats
      if operation.direction == FORWARD and work.macs:
        product_elements += operation.outputs[0].elements * operation.repeats
    forward = [operation for operation in operations if operation.direction == FORWARD]
    read, written = self._border(path, forward)
    output = next(reversed(written), forward[-1].outputs[-1] if forward and forward[-1].outputs else None)
    started = self.position[forward[0]] if forward else 0
    before = [
      self.records[value]
      for value in read
      if value in self.records and (value.producer is None or self.position[value.producer] < started)
    ]
    after = self.records.get(output)
    parametric = bool(params) or not self.named
    found = operator.infer(path.rsplit("/", 1)[-1], forward, output, before, after, parametric, self.context)
    alike = sum(value.elements * n for value, n in written.items() if output and value.shape == output.shape)
    return Layer(
      path,
      OTHER if path == OTHER else found.op,
      kernel=found.kernel,
      strides=found.strides,
      groups=found.groups,
      dilation=found.dilation,
      output_shape=list(output.shape) if output and path != OTHER else None,
      params=params,
      macs=macs[FORWARD],
      backward_macs=macs[BACKWARD],
      recompute_macs=macs[RECOMPUTE],
      elementwise=elementwise[FORWARD],
      backward_elementwise=elementwise[BACKWARD] + elementwise[RECOMPUTE],
      activations=product_elements or alike,
      bytes=sum(value.bytes * n for values in (read, written) for value, n in values.items()),
      receptive_field=None if path == OTHER else _extent(after, lambda reach: reach.extent),
      jump=None if path == OTHER else _extent(after, lambda reach: reach.jump),
      other=dict(other or {}),
    )

  def _border(self, path: str, forward: Sequence[Operation]) -> tuple[dict[Value, int], dict[Value, int]]:
    """The values that a layer reads from outside and those used outside, with how often each crosses."""
    inside = {value for operation in forward for value in operation.outputs}
    read: dict[Value, int] = {}
    written: dict[Value, int] = {}
    for operation in forward:
      for value in operation.inputs:
        if value not in inside and value.literal is None:
          read[value] = max(read.get(value, 0), operation.repeats)
      for value in operation.outputs:
        readers = (r for r in self.readers.get(value, ()) if r.direction == FORWARD and self.of_operation[r] != path)
        if value in self.results or next(readers, None):
          written[value] = operation.repeats
    return read, written


def _extent(record: Record | None, of: Callable[[Any], int]) -> Extent:
  """An int where the axes agree, else one int per axis; None where one is unknown."""
  if record is None or not record.reach or None in record.reach:
    return None
  values = [of(reach) for reach in record.reach]
  if None in values:
    return None
  return values[0] if len(set(values)) == 1 else values
