"""From a traced function to its cost, layer by layer."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

from nin_jax.cost import arguments, convolution, layout, operator, primitives, program, receptive_field
from nin_jax.cost.arithmetic import Work
from nin_jax.cost.dataflow import Dataflow
from nin_jax.cost.layer import OTHER, Cost, Extent, Layer
from nin_jax.cost.operation import Operation, Value
from nin_jax.cost.ownership import SHOWN, Ownership
from nin_jax.cost.program import Program
from nin_jax.cost.reach import Record
from nin_jax.cost.scope import BACKWARD, FORWARD, RECOMPUTE
from nin_jax.cost.traffic import Traffic, moves, repeated

_COMPUTED_MATRIX = (
  "a product with a matrix computed from indices, as in a resize, counts in full, zeros included, as it runs"
)


def analyze(
  fn: Callable[..., Any],
  /,
  *args: Any,
  params: Any = None,
  image: int | str | None = None,
  static_argnums: int | Sequence[int] | None = None,
  static_argnames: str | Sequence[str] | None = None,
  **kwargs: Any,
) -> Cost:
  """Counts the cost of one call of `fn(*args, **kwargs)`, per layer and in all; only traces it.

  Work goes to the layer and the direction that its name stack says. Give it the forward pass for inference, or a
  function that calls `jax.value_and_grad` for training. It counts what is given: pass one image for the cost of one
  image. Work whose result is not used is left out, and a note says how many MACs that is: `jax.grad` without the value
  needs no product that only the loss reads.

  Args:
    fn: any JAX function; an `nnx.Module`, or a method of one. Layers are modules of Linen, NNX and Haiku, and scopes
      of `jax.named_scope`.
    *args: its arguments: pytrees of arrays or of `jax.ShapeDtypeStruct`, numbers, and modules of NNX, which a call may
      change as under `nnx.jit`. What is none of these, such as a boolean, a string or a function, stays as it is.
    params: the parameters by path, nested as Linen's `variables["params"]` or with paths as keys; arrays or shapes.
      They also tell which scope is the root and which scopes are layers; without them each scope is a row, and a first
      scope that all convolutions and products share is the root. By default those of the one argument that says so:
      Linen's variables (`{"params": …}`), an `nnx.Module` or its `nnx.State`. Otherwise they are unknown: None.
    image: which argument is the image: a position, or a keyword's name. By default what the first convolution reads;
      without a convolution, the last array among the arguments with three dimensions or more, unless that is combined
      with another one or with tokens. Its layout is the one that the convolutions and pools read, else
      [batch, *spatial, channels].
    static_argnums, static_argnames: as those of `jax.jit`: arguments that stay as they are, such as an integer that is
      a size.
    **kwargs: the function's keyword arguments. It gets those of the names above within a lambda:
      `analyze(lambda x: fn(x, image=True), x)`.

  Returns:
    The `Cost`. A function may have no image or no scopes: then there are no receptive fields, or one row `other`.
    `Cost.notes` say what could not be told apart.

  Raises:
    ValueError: there is no argument at `image`, or it holds no array of three dimensions or more.
    TypeError: a keyword may be `analyze`'s or the function's, which has an argument of that name too.
  """
  own = {"params": params, "image": image, "static_argnums": static_argnums, "static_argnames": static_argnames}
  arguments.refuse_ambiguous(fn, args, [name for name, value in own.items() if value is not None])
  call = arguments.bind(fn, args, kwargs, static_argnums, static_argnames)
  if params is None:
    params = call.params
  elif (inside := arguments.parameters(params)) is not None:
    params = inside
  chosen = call.argument(image)
  traced = program.trace(call.function, *(leaf.value for leaf in call.leaves))
  leaves = zip(call.leaves, traced.inputs, strict=True)
  arrays = [layout.Argument(leaf.argument, leaf.direct, value) for leaf, value in leaves]
  flow = Dataflow(traced)
  pixels = _image(arrays, traced, flow, chosen)
  records = receptive_field.propagate(traced, pixels, flow) if pixels is not None else {}
  data = [a.value for a in arrays if a.value is pixels or a.indices or (a.direct and a.pictorial)]
  context = operator.Context(records, flow, flow.bits(data))
  return _Attribution(traced, context, Ownership(traced.operations, params)).cost()


def _image(
  arrays: Sequence[layout.Argument], traced: Program, flow: Dataflow, chosen: int | str | None
) -> Value | None:
  if chosen is None:
    return layout.image(traced, flow, arrays)
  arrays = [array for array in arrays if array.key == chosen and len(array.value.shape) >= 3]
  if not arrays:
    raise ValueError(f"image={chosen!r}: expected an argument that holds an array of three dimensions or more")
  return layout.image(traced, flow, arrays) or arrays[-1].value


class _Attribution:
  """Sorts a program's operations into layers."""

  def __init__(self, traced: Program, context: operator.Context, ownership: Ownership) -> None:
    self.program, self.context, self.ownership = traced, context, ownership
    self.records = context.records
    self.position = {operation: i for i, operation in enumerate(traced.operations)}
    self.groups: dict[str, list[Operation]] = {}
    self.of_operation = {operation: ownership.layer(operation) for operation in traced.operations}
    for operation, path in self.of_operation.items():
      self.groups.setdefault(path, []).append(operation)
    self.readers = program.consumers(traced.operations)
    self.results = set(traced.outputs)

  def cost(self) -> Cost:
    params, absent = dict(self.ownership.params), 0 if self.ownership.named else None
    unknown: dict[str, int] = collections.Counter()
    layers = []
    for path, operations in self._in_order():
      if path != OTHER:
        layers.append(self._row(path, operations, params.pop(path, absent), unknown))
    layers += [Layer(path, "params", params=elements) for path, elements in params.items() if path != OTHER]
    outside, unscoped = self.groups.get(OTHER, []), params.get(OTHER, absent)
    layers.append(self._row(OTHER, outside, unscoped, unknown, unknown))
    layers = [layer for layer in layers if not layer.idle]
    flow = self.context.flow
    products = [o for o in self.program.operations if o.direction == FORWARD and o.primitive in primitives.PRODUCTS]
    computed = any(flow.computed(value) for operation in products for value in operation.inputs[:2])
    notes = (*self.program.notes, *self.ownership.notes, *(_COMPUTED_MATRIX,) * computed, *self._transposed(products))
    return Cost(tuple(layers), "/".join(self.ownership.root), notes)

  def _transposed(self, products: Sequence[Operation]) -> list[str]:
    """A note on the convolutions that count as transposed though nothing but their padding says so."""
    layers = {
      self.of_operation[o]: None
      for o in products
      if o.primitive == "conv_general_dilated"
      and o.work.macs
      and convolution.full(o.params, *(value.shape for value in (*o.inputs[:2], o.outputs[0])))
    }
    paths = ", ".join([*list(layers)[:SHOWN], *["…"] * (len(layers) > SHOWN)])
    note = (
      f"padded by its whole kernel at both ends, a convolution counts as transposed, each input with each tap: {paths}"
    )
    return [note] if layers else []

  def _in_order(self) -> list[tuple[str, list[Operation]]]:
    """The layers by when their last product runs, or without one their last operation; backward ones at the end."""

    def place(group: tuple[str, list[Operation]]) -> int:
      forward = [o for o in group[1] if o.direction == FORWARD]
      products = [o for o in forward if o.primitive in primitives.PRODUCTS]
      last = (products or forward or group[1][:1])[-1]
      return self.position[last] + (0 if forward else len(self.position))

    return sorted(self.groups.items(), key=place)

  def _row(
    self,
    path: str,
    operations: Sequence[Operation],
    params: int | None,
    unknown: dict[str, int],
    other: dict[str, int] | None = None,
  ) -> Layer:
    """One layer. Elements of unknown work are added to `unknown`; the row `other` shows them all."""
    macs, elementwise = collections.Counter(), collections.Counter()
    product_elements = 0
    for operation in operations:
      work = operation.work
      macs[operation.direction] += work.macs * operation.repeats
      elementwise[operation.direction] += work.elementwise * operation.repeats
      if work.other or operation.primitive not in primitives.KNOWN:
        unknown[operation.primitive] = unknown.get(operation.primitive, 0) + work.other * operation.repeats
      if operation.direction == FORWARD and work.macs:
        product_elements += operation.outputs[0].elements * operation.repeats
    forward = [operation for operation in operations if operation.direction == FORWARD]
    works = not forward or any(operation.work != Work() for operation in forward)
    read, written = self._border(path, forward)
    busy = works or any(map(moves, forward)) or any(map(repeated, written))
    seen = [value for value in written if value in self.records]  # unlike a running mean that leaves the layer too
    output = next(reversed(seen or written), forward[-1].outputs[-1] if forward and forward[-1].outputs else None)
    started = self.position[forward[0]] if forward else 0
    before = [
      self.records[value]
      for value in read
      if value in self.records and (value.producer is None or self.position[value.producer] < started)
    ]
    after = self.records.get(output)
    parametric = params is None or bool(params)
    found = operator.infer(path.rsplit("/", 1)[-1], forward, output, before, after, parametric, self.context)
    alike = sum(value.elements * n for value, n in written.items() if output and value.shape == output.shape)
    return Layer(
      path,
      OTHER if path == OTHER else found.op if works else "movement",
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
      bytes=Traffic(forward, written, self._used_after).bytes if busy else 0,
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

  def _used_after(self, value: Value, operation: Operation) -> bool:
    """Whether a value is read after an operation, or is a result."""
    readers = self.readers.get(value, ())
    return value in self.results or any(self.position[reader] > self.position[operation] for reader in readers)


def _extent(record: Record | None, of: Callable[[Any], int]) -> Extent:
  """An int if the axes agree, else one int per axis; None if one is unknown."""
  if record is None or not record.reach or None in record.reach:
    return None
  values = [of(reach) for reach in record.reach]
  if None in values:
    return None
  return values[0] if len(set(values)) == 1 else values
