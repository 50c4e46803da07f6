"""The sweeps of a config file: its functions `sweep_NAME()`."""

import contextlib
import difflib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

from nin_jax.errors import ConfigError
from nin_jax.sweep import space

PREFIX = "sweep_"


def load(path: str, name: str) -> space.Space:
  """What `sweep_NAME()` of a config file returns; what the file prints goes to stderr.

  Args:
    path: of the file.
    name: after `sweep_`.

  Raises:
    ConfigError: the file can't be imported, it has no such function, or that raises or returns no overrides.
  """
  with contextlib.redirect_stdout(sys.stderr):
    try:
      module = _imported(path)
    except BaseException as error:  # the user's own code, as all that follows
      accepted = f"a file that can be imported: {_cause(error, path)}"
      raise ConfigError("--config", path, accepted) from error
    function = _function(module, path, name)
    try:
      return _whole(function())
    except ConfigError as error:
      accepted = f"{error.accepted} ({PREFIX}{name}{_line(error, path)})"
      raise ConfigError(error.field, error.value, accepted) from error
    except BaseException as error:
      accepted = f"a sweep that gives overrides; {PREFIX}{name} raises {_cause(error, path)}"
      raise ConfigError("--sweep", name, accepted) from error


def _imported(path: str) -> ModuleType:
  spec = importlib.util.spec_from_file_location("nin_jax_sweep_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _function(module: ModuleType, path: str, name: str) -> Callable:
  names = [found.removeprefix(PREFIX) for found, value in vars(module).items() if _is_sweep(found, value)]
  if name in names:
    return vars(module)[PREFIX + name]
  if not names:
    raise ConfigError("--sweep", name, f"that of a config file with functions {PREFIX}NAME(); {path} has none")
  close = difflib.get_close_matches(name, names, n=1)
  hint = f"; did you mean {close[0]}?" if close and len(names) > 1 else ""
  raise ConfigError("--sweep", name, f"one of {', '.join(names)}, the sweeps of {path}{hint}")


def _is_sweep(name: str, value: object) -> bool:
  return name.startswith(PREFIX) and len(name) > len(PREFIX) and callable(value)


def _whole(returned: object) -> space.Space:
  """The space, each of whose overrides has been made once: a generator of the user's may raise on its way."""
  found = space.of(returned)
  for _ in zip(range(len(found)), found, strict=True):
    pass
  return found


def _cause(error: BaseException, path: str) -> str:
  return f"{type(error).__name__}: {error}{_line(error, path, ' (line {})')}"


def _line(error: BaseException, path: str, form: str = ", line {}") -> str:
  """Where in the file it was raised."""
  lines = [
    frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.path.abspath(path)
  ]
  return form.format(lines[-1]) if lines else ""
