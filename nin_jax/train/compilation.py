"""How programs are compiled, and where what was compiled is kept."""

import atexit
import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from nin_jax import paths
from nin_jax.data import cache
from nin_jax.errors import ConfigError
from nin_jax.train import kept_programs

# A quarter of the time of compilation, for what runs once.
_QUICK = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}

# For small programs: with these, inception_fashion_mnist's step takes 2.6 s to compile and 46 ms, in bfloat16 4.7 s and
# 63 ms; with `_FAST` 3.8 s and 52 ms, 6.4 s and 70 ms. Not for larger ones: nin_fashion_mnist 3.3 s and 110 ms,
# 4.3 s and 94 ms.
_SMALL = {"xla_cpu_use_fusion_emitters": False}
SMALL_FLOPS = 4e9  # by XLA's count: a step of inception_fashion_mnist has 2e9, inference of nin_fashion_mnist 8e9

# XLA's own convolutions are faster on CPUs than those of YNNPACK, which it would take in their place (1.4 to 3 times in
# float32 on AVX-512, gradients of kernels most). What YNNPACK does better stays: bfloat16 products, and sums, which XLA
# would fuse with all that comes before them and work that out again for each sum.
_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
_FAST = {"float32": {_YNNPACK: "LIBRARY_FUSION_TYPE_REDUCE"}, "bfloat16": {}}

MAX_BYTES = 2**30  # of what is kept: some hundred networks; what was used longest ago goes first
_spelled = contextlib.ExitStack()  # what is open as long as the process
_directory: Path | None = None  # of programs, if this process keeps them


def keep_compiled() -> None:
  """Keeps what this process compiles for later ones, in `~/.cache/nin_jax/programs` (see `data.cache.directory`).

  To be called before JAX compiles anything. What the user has set for JAX stays (`JAX_COMPILATION_CACHE_DIR`,
  `JAX_ENABLE_COMPILATION_CACHE=0`). JAX's key to a program is all that it depends on: the program itself, how it is
  compiled, the versions, the devices and their instruction sets.
  """
  global _directory
  if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
    return
  directory = kept_programs.directory()
  if directory is None:
    return
  try:
    kept_programs.prepare(directory, MAX_BYTES)
    spelling = _spelled.enter_context(paths.literal("XDG_CACHE_HOME", directory))
  except (OSError, NotImplementedError, ConfigError) as error:  # NotImplementedError: a file system without locks
    cache.warn(directory.parent, "written", error)
    return
  jax.config.update("jax_compilation_cache_dir", str(spelling))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # the small ones take a quarter of a warm start
  if kept_programs.is_bounded(directory):
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
  kept_programs.replace_unreadable(directory)
  _directory = directory
  atexit.register(_seal)


def _seal() -> None:
  """Makes what has been compiled until now usable for later starts."""
  if _directory is not None:
    try:
      kept_programs.seal(_directory)
    except (OSError, NotImplementedError) as error:
      cache.warn(_directory.parent, "written", error)


@functools.cache
def quick(platform: str) -> dict[str, Any]:
  """Compiler options that compile faster; none for other platforms than "cpu", and as far as this XLA has them."""
  return _known(_QUICK) if platform == "cpu" else {}


def fast(platform: str, precision: str, flops: float) -> dict[str, Any]:
  """Compiler options for a step of so many FLOPs that runs often, as `quick`."""
  if platform != "cpu":
    return {}
  return _small() if flops < SMALL_FLOPS else _large(precision)


@functools.cache
def _small() -> dict[str, Any]:
  return _known(_SMALL)


@functools.cache
def _large(precision: str) -> dict[str, Any]:
  return _known(_FAST[precision])


def _known(options: dict[str, Any]) -> dict[str, Any]:
  """Those that this release has."""

  def known(name: str, value: Any) -> bool:
    try:
      jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(jnp.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
      return False
    return True

  return {name: value for name, value in options.items() if known(name, value)}


class Program:
  """A mapped function that is traced, and compiled with options, when it is first called with arguments of a shape.

  Args:
    mapped: what `jax.pmap` made.
    options: options of the compiler, given the program's FLOPs by XLA's count, a heuristic (`cost` has exact counts);
      infinite if unknown, as in jax 0.7.
    tracing: makes a context to trace in.
  """

  def __init__(
    self,
    mapped: Any,
    options: Callable[[float], dict[str, Any]],
    tracing: Callable[[], contextlib.AbstractContextManager[None]],
  ):
    self._mapped, self._options, self._tracing = mapped, options, tracing
    self._compiled: dict[Any, Any] = {}

  def __call__(self, *args: Any) -> Any:
    leaves, tree = jax.tree.flatten(args)
    key = (tree, *((leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else type(leaf) for leaf in leaves))
    if key not in self._compiled:
      with self._tracing():
        lowered = self._mapped.lower(*args)
      flops = (lowered.cost_analysis() or {}).get("flops", math.inf)
      self._compiled[key] = lowered.compile(compiler_options=self._options(flops))
      _seal()
    return self._compiled[key](*args)
