"""How programs are compiled, and where what was compiled is kept."""

import contextlib
import functools
import importlib.util
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from nin_jax.data import cache

# Half of the time of compilation for the same speed of the steps: 9.5 → 5.3 s for three seeds of inception_digits,
# whose step took 89 ms with both; for inception_fashion_mnist 9.6 → 4.9 s, 449 → 427 ms.
_QUICK = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}

MAX_BYTES = 2**30  # of what is kept: some hundred networks; what was used longest ago goes first
_ABANDONED_SECONDS = 60


def keep_compiled() -> None:
  """Keeps what this process compiles for later ones, in `~/.cache/nin_jax/programs` (see `data.cache.directory`).

  To be called before JAX compiles anything. What the user has set for JAX stays (`JAX_COMPILATION_CACHE_DIR`,
  `JAX_ENABLE_COMPILATION_CACHE=0`). JAX's key to a program is all that it depends on: the program itself, how it is
  compiled, the versions, the devices and their instruction sets.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  directory = cache.directory("") / "programs"
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # the small ones take a quarter of a warm start
  if importlib.util.find_spec("filelock"):  # JAX's lock, which its bound on the size takes
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    _mend(directory)


def _mend(directory: Path) -> None:
  """Takes out what a killed process has left half written.

  JAX would warn of it at each start, and never write it anew: a program comes first, and then the time of its use, for
  which it looks in vain.
  """
  for program in directory.glob("*-cache"):
    with contextlib.suppress(OSError):  # another process does the same
      used = program.with_name(program.name.removesuffix("-cache") + "-atime")
      whole = used.exists() and used.stat().st_size == 8
      if not whole and time.time() - program.stat().st_mtime > _ABANDONED_SECONDS:
        program.unlink()
        used.unlink(missing_ok=True)


@functools.cache
def quick(platform: str) -> dict | None:
  """Compiler options that compile faster; None for other platforms than "cpu", and as far as this XLA has them."""
  return {name: value for name, value in _QUICK.items() if _known(name, value)} if platform == "cpu" else None


def _known(name: str, value: bool | int) -> bool:
  try:
    jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(jnp.float32(0)).compile()
  except jax.errors.JaxRuntimeError:  # no such option in this release
    return False
  return True
