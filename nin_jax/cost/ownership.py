"""Which layer operations and parameters belong to, by their paths."""

import collections
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nin_jax.cost import arguments, primitives
from nin_jax.cost.layer import OTHER
from nin_jax.cost.operation import Operation
from nin_jax.cost.scope import FORWARD

Path = tuple[str, ...]

NAME_THEM = 'name each layer by its path among the parameters: with jax.named_scope("block/conv")'
SHOWN = 3  # paths in a note

_HAIKU = "~"  # in a path of Haiku's: the constructor of the module before it made the one after it


class Ownership:
  """Gives operations and parameters the names of their layers.

  Attributes:
    named: whether parameters join scopes, so that they tell which of them are layers.
    root: the path of the scopes around the network.
    params: the elements of the parameters by layer.
    notes: what could not be told apart.
  """

  def __init__(self, operations: Sequence[Operation], params: Any) -> None:
    scopes, owners = {o.scope.modules for o in operations}, _owners(params)
    plain = all(len({_plain(path) for path in paths}) == len(paths) for paths in (scopes, owners))
    of = _plain if plain else lambda path: path
    self._paths = {scope: of(scope) for scope in scopes}
    self._owners = {of(path): elements for path, elements in owners.items()}
    self.root, self.named = self._root(operations), params is not None
    self.params = {self._name(owner): elements for owner, elements in self._owners.items()}
    if owners and self.params.keys().isdisjoint(map(self.layer, operations)):
      self.named = False
    self.notes = tuple(self._notes(operations))

  def layer(self, operation: Operation) -> str:
    """The path of the layer that an operation belongs to: its scope's, or that of the module around it.

    A scope without parameters inside a module with some of its own is a part of that module.
    """
    modules = self._paths[operation.scope.modules]
    inside = modules[: len(self.root)] == self.root
    path = modules[len(self.root) :] if inside else modules
    if not inside or not modules:
      return "/".join(path) or OTHER
    if self.named and not any(owner[: len(path)] == path for owner in self._owners):
      path = next((path[:n] for n in range(len(path) - 1, 0, -1) if path[:n] in self._owners), path)
    return self._name(path)

  def _root(self, operations: Sequence[Operation]) -> Path:
    """The scopes above the parameters' first level; without parameters, the first scope that all products share."""
    first = {path[0] for path in self._owners if path}
    found: dict[Path, set[str]] = collections.defaultdict(set)
    for operation in operations:
      modules = self._paths[operation.scope.modules]
      for i in [i for i, module in enumerate(modules) if module in first][:1]:
        found[modules[:i]].add(modules[i])
    if found:  # a layer may run inside another one that does not hold it, as a cell in Linen's RNN
      return max(found, key=lambda path: (len(found[path]), -len(path)))
    stacks = [self._paths[o.scope.modules] for o in operations if o.primitive in primitives.PRODUCTS]
    stacks = [stack for stack in stacks if stack]
    shared = {stack[0] for stack in stacks}
    nested = any(len(stack) > 1 for stack in stacks) or () in self._owners
    return (shared.pop(),) if len(shared) == 1 and nested else ()

  def _name(self, path: Path) -> str:
    return "/".join(path) or "/".join(self.root) or OTHER

  def _notes(self, operations: Sequence[Operation]) -> list[str]:
    notes = []
    products = collections.Counter(
      self.layer(o) for o in operations if o.primitive in primitives.PRODUCTS and o.direction == FORWARD
    )
    layers = {self.layer(operation) for operation in operations}
    if products[OTHER] > 1:
      notes.append(
        f"{products[OTHER]} convolutions and products are in no scope, so {OTHER} holds them all; {NAME_THEM}"
      )
    types = {path for path in layers if path.rpartition("/")[2].startswith("eqx.")}
    if any("/" not in path or products[path] > 1 for path in types):
      notes.append(f"Equinox's scopes are types, so layers of one type share a row; {NAME_THEM}")
    apart = {path: n for path, n in self.params.items() if path not in layers and n}
    if apart:
      paths = ", ".join([*list(apart)[:SHOWN], *["…"] * (len(apart) > SHOWN)])
      notes.append(
        f"{sum(apart.values()):,} parameters join no layer, as nothing ran in scopes of their paths: {paths}"
      )
    return notes


def _plain(path: Path) -> Path:
  return tuple(part for part in path if part != _HAIKU)


def _owners(params: Any) -> dict[Path, int]:
  """The elements of the parameters that lie directly under each path; a slash in a key stands between two parts."""
  owners: dict[Path, int] = collections.Counter()
  for keys, leaf in jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_box)[0]:
    names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys]
    arrays = [array for array in jax.tree.leaves(leaf) if arguments.is_array(array)]
    if arrays:
      owners[tuple("/".join(names).split("/")[:-1])] += sum(math.prod(np.shape(array)) for array in arrays)
  return dict(owners)


def _is_box(node: Any) -> bool:
  """Whether something stands for one parameter, with more about it: Linen's `Partitioned`, NNX's `Param`."""
  nnx = sys.modules.get("flax.nnx")
  return hasattr(node, "unbox") or (nnx is not None and isinstance(node, nnx.Variable))
