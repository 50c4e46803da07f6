"""Scopes that say exactly which module work belongs to, for frameworks whose own scopes do not.

Linen opens a scope for each module, named `block1`, and for its other methods `block1.features`: a mark tells these
from scopes of the user's that have a dot. NNX opens none, and Haiku's are not the paths of its parameters: each module
that runs opens a scope with its whole path. A framework that nobody has imported is left alone.
"""

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sized
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from nin_jax.cost import scope

_PATH = "_nin_jax_path"  # an attribute of NNX modules: it stays with them through transforms

_naming: contextvars.ContextVar[dict[str, dict[int, Any]] | None] = contextvars.ContextVar("naming", default=None)
_patched = threading.RLock()


@contextlib.contextmanager
def named_modules() -> Iterator[Callable[[], list[str]]]:
  """Within it, modules of Linen, NNX and Haiku open the scopes that `scope` reads; yields a function: notes on them.

  JAX keeps what it has traced of a jitted function, by its metadata among other things: with metadata of its own, this
  never meets what was traced without such scopes, nor does anything else meet what is traced here.
  """
  linen, nnx, haiku = (sys.modules.get(name) for name in ("flax.linen", "flax.nnx", "haiku"))
  with contextlib.ExitStack() as stack:
    stack.enter_context(set_xla_metadata(nin_jax="cost"))
    if linen:
      stack.enter_context(linen.intercept_methods(_linen_method))
    if haiku:
      stack.enter_context(haiku.intercept_methods(_haiku_method))
    if nnx:
      stack.enter_context(_nnx_methods(nnx))
    roots: dict[str, dict[int, Any]] = {}
    token = _naming.set(roots)
    try:
      yield lambda: [
        f"{len(modules)} modules of type {name} ran outside a module that holds them, so they share a row; "
        "give the module to analyze as an argument"
        for name, modules in roots.items()
        if len(modules) > 1
      ]
    finally:
      _naming.reset(token)


def _linen_method(method: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
  if context.method_name == "__call__":
    return method(*args, **kwargs)
  with jax.named_scope(scope.METHOD):
    return method(*args, **kwargs)


def _haiku_method(method: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
  name = getattr(context.module, "module_name", None)  # none yet in a constructor, which computes nothing
  with jax.named_scope(scope.module(name)) if name else contextlib.nullcontext():
    return method(*args, **kwargs)


@contextlib.contextmanager
def _nnx_methods(nnx: Any) -> Iterator[None]:
  """NNX offers no interception: its classes' public methods are replaced; other threads find no `_naming` in them."""
  with _patched:
    replaced = []
    try:
      for cls in set(_subclasses(nnx.Module)):
        for name, method in list(vars(cls).items()):
          public = name == "__call__" or not name.startswith("_")
          if public and _is_method(method) and not issubclass(cls, Sized):  # lists and dicts of modules compute nothing
            setattr(cls, name, _nnx_method(nnx, method))
            replaced.append((cls, name, method))
      yield
    finally:
      for cls, name, method in replaced:
        setattr(cls, name, method)


def _subclasses(cls: type) -> Iterator[type]:
  for subclass in type.__subclasses__(cls):
    yield subclass
    yield from _subclasses(subclass)


def _is_method(attribute: Any) -> bool:
  other = isinstance(attribute, type | staticmethod | classmethod | property | functools.cached_property)
  return callable(attribute) and hasattr(attribute, "__get__") and not other


def _nnx_method(nnx: Any, method: Any) -> Callable[..., Any]:
  @functools.wraps(method)
  def named(self: Any, *args: Any, **kwargs: Any) -> Any:
    with _nnx_scope(nnx, self):
      return method.__get__(self, type(self))(*args, **kwargs)

  return named


@contextlib.contextmanager
def _nnx_scope(nnx: Any, module: Any) -> Iterator[None]:
  """The scope of a module. One that has no path is a root, and gives all below it theirs for as long as it runs."""
  naming = _naming.get()
  if naming is None or not isinstance(module, nnx.Module):
    yield
  elif _PATH in vars(module):
    with jax.named_scope(scope.module(vars(module)[_PATH])):
      yield
  else:
    root = type(module).__name__
    naming.setdefault(root, {})[id(module)] = module
    marked = mark(module, root)
    try:
      with jax.named_scope(scope.module(root)):
        yield
    finally:
      for part in marked:
        vars(part).pop(_PATH, None)


def mark(root: Any, name: str) -> list[Any]:
  """Gives an NNX module and those below it their paths; returns them."""
  nnx = sys.modules["flax.nnx"]
  token = _naming.set(None)
  try:
    modules = [(path, node) for path, node in nnx.iter_graph(root) if isinstance(node, nnx.Module)]
  finally:
    _naming.reset(token)
  for path, module in modules:
    object.__setattr__(module, _PATH, "/".join((name, *map(str, path))))
  return [module for _, module in modules]
