"""The arguments of a call, told apart: arrays that are traced, and what stays as it is."""

import collections
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from nin_jax.cost import naming


@dataclasses.dataclass(frozen=True)
class Leaf:
  """A traced array.

  Attributes:
    value: an array, a `jax.ShapeDtypeStruct` or a number.
    argument: its argument's position or keyword; None for what the function itself holds.
    direct: whether it is the argument itself, not a part of one.
  """

  value: Any
  argument: int | str | None
  direct: bool


@dataclasses.dataclass(frozen=True)
class Call:
  """A call as a function of its leaves; `params` are the parameters found among the arguments, or None."""

  function: Callable[..., Any]
  leaves: list[Leaf]
  positions: int
  params: Any

  def argument(self, number: int | str | None) -> int | str | None:
    """The key of the argument at a position, which may count from the end, or with a keyword; None for None.

    Raises:
      ValueError: there is no such argument.
    """
    if isinstance(number, int) and -self.positions <= number < 0:
      number += self.positions
    if number is not None and all(leaf.argument != number for leaf in self.leaves):
      raise ValueError(f"image={number!r}: expected the position or the keyword of an argument that holds arrays")
    return number


def bind(
  fn: Callable[..., Any],
  args: Sequence[Any],
  kwargs: Mapping[str, Any],
  argnums: int | Sequence[int] | None = None,
  argnames: str | Sequence[str] | None = None,
) -> Call:
  """The call `fn(*args, **kwargs)`, traced in its arrays and numbers.

  Strings, booleans, functions and other objects stay as they are, also inside pytrees; so do the arguments that are
  named static. A function that is a pytree or an `nnx.Module`, or is a method of one, is an argument of its own.
  """
  static = _static(fn, args, kwargs, argnums, argnames)
  owner, fn = _owner(fn)
  values: dict[int | str | None, Any] = {None: owner, **dict(enumerate(args)), **kwargs}
  names: collections.Counter[str] = collections.Counter()
  parts = {key: _Static(value) if key in static else _Pytree(value, names) for key, value in values.items()}
  leaves = [Leaf(value, key, part.direct) for key, part in parts.items() for value in part.leaves]

  def function(*arrays: Any) -> Any:
    given = iter(arrays)
    full = {key: part.rebuild(given) for key, part in parts.items()}
    result = fn(full[None], *(full[i] for i in range(len(args))), **{key: full[key] for key in kwargs})
    changed = [_states(value) for key, value in full.items() if key not in static]
    return [leaf for leaf in jax.tree.leaves((result, changed)) if is_array(leaf)]

  found = [params for key, value in values.items() if key not in static and (params := parameters(value)) is not None]
  return Call(function, leaves, len(args), found[0] if len(found) == 1 else None)


class _Static:
  """A value that stays as it is."""

  leaves: Sequence[Any] = ()
  direct = False

  def __init__(self, value: Any) -> None:
    self.value = value

  def rebuild(self, arrays: Iterator[Any]) -> Any:
    del arrays
    return self.value


class _Array:
  direct = True

  def __init__(self, value: Any) -> None:
    self.leaves = [value]

  def rebuild(self, arrays: Iterator[Any]) -> Any:
    return next(arrays)


class _Graph:
  """An object of `flax.nnx`, by its state. Its modules are marked with their paths below its type's name."""

  direct = False

  def __init__(self, value: Any, names: collections.Counter[str]) -> None:
    kind = type(value).__name__
    self.name = f"{kind}_{names[kind]}" if names[kind] else kind
    names[kind] += 1
    self.graphdef, state = _nnx().split(value)
    self.leaves, self.tree = jax.tree.flatten(state)

  def rebuild(self, arrays: Iterator[Any]) -> Any:
    merged = _nnx().merge(self.graphdef, self.tree.unflatten([next(arrays) for _ in self.leaves]))
    naming.mark(merged, self.name)
    return merged


class _Pytree:
  def __init__(self, value: Any, names: collections.Counter[str]) -> None:
    nodes, self.tree = jax.tree.flatten(value, is_leaf=_is_graph)
    part = lambda node: _Graph(node, names) if _is_graph(node) else (_Array if is_array(node) else _Static)(node)
    self.parts = [part(node) for node in nodes]
    self.leaves = [leaf for part in self.parts for leaf in part.leaves]
    self.direct = len(nodes) == 1 and jax.tree_util.treedef_is_leaf(self.tree) and self.parts[0].direct

  def rebuild(self, arrays: Iterator[Any]) -> Any:
    return self.tree.unflatten([part.rebuild(arrays) for part in self.parts])


def _states(values: Any) -> list[Any]:
  """The states of the objects of `flax.nnx` in a pytree."""
  return [_nnx().state(node) for node in jax.tree.leaves(values, is_leaf=_is_graph) if _is_graph(node)]


def _nnx() -> Any:
  """`flax.nnx`, if anything has imported it."""
  return sys.modules.get("flax.nnx")


def _is_graph(value: Any) -> bool:
  nnx = _nnx()
  return nnx is not None and isinstance(value, nnx.Pytree)


def is_array(leaf: Any) -> bool:
  """Whether a leaf is an array, the shape of one, or a number."""
  array = hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)
  return array or (isinstance(leaf, int | float | complex) and not isinstance(leaf, bool))


def _owner(fn: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
  """The object that a function holds and that is traced too, or None; and the function of it and the arguments."""
  held = getattr(fn, "__self__", None)
  if inspect.ismethod(fn) and _is_graph(held):
    return held, lambda owner, *args, **kwargs: getattr(owner, fn.__name__)(*args, **kwargs)
  if _is_graph(fn) or not jax.tree_util.treedef_is_leaf(jax.tree.structure(fn)):
    return fn, lambda owner, *args, **kwargs: owner(*args, **kwargs)
  return None, lambda owner, *args, **kwargs: fn(*args, **kwargs)


def parameters(value: Any) -> Any:
  """Those among the variables of Linen, in a module of NNX or in its state; None if there are none."""
  nnx = _nnx()
  if isinstance(value, Mapping) and "params" in value:
    return value["params"]
  if _is_graph(value):
    return nnx.state(value, nnx.Param) or None
  if nnx is not None and isinstance(value, nnx.State):
    return nnx.filter_state(value, nnx.Param) or None
  return None


def refuse_ambiguous(fn: Callable[..., Any], args: Sequence[Any], own: Sequence[str]) -> None:
  """Refuses keywords of `analyze` itself that may be meant for the function.

  Raises:
    TypeError: the function has an argument of that name, and no position fills it.
  """
  positional, keywords = _names(fn)
  unfilled = {*positional[len(args) :], *keywords}
  for name in own:
    if name in unfilled:
      raise TypeError(
        f"{name}=…: an argument of both analyze and the function; expected the function's by position, or within it:"
        f" analyze(lambda x: fn(x, {name}=…), x)"
      )


def _static(
  fn: Callable[..., Any],
  args: Sequence[Any],
  kwargs: Mapping[str, Any],
  argnums: int | Sequence[int] | None,
  argnames: str | Sequence[str] | None,
) -> set[int | str]:
  """Positions and keywords of static arguments: as with `jax.jit`, a position has a name and a name a position."""
  numbers = [argnums] if isinstance(argnums, int) else list(argnums or ())
  names = [argnames] if isinstance(argnames, str) else list(argnames or ())
  known, _ = _names(fn)
  size = max(len(known), len(args))
  for number in numbers:
    if not -size <= number < size:
      raise ValueError(f"static_argnums={number}: expected the position of one of {size} arguments")
  numbers = [number % size for number in numbers]
  numbers += [known.index(name) for name in names if name in known]
  names += [known[number] for number in numbers if number < len(known)]
  return {number for number in numbers if number < len(args)} | (set(names) & set(kwargs))


def _names(fn: Callable[..., Any]) -> tuple[list[str], list[str]]:
  """The names of a function's positional parameters and of its keyword-only ones; none if it does not say."""
  try:
    parameters = inspect.signature(fn).parameters.values()
  except (TypeError, ValueError):
    return [], []
  by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  positional = [parameter.name for parameter in parameters if parameter.kind in by_position]
  return positional, [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
