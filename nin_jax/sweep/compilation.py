"""JAX's persistent compilation cache."""

import jax

from nin_jax.data import cache


def keep_compiled() -> None:
  """Keeps what this process compiles for later ones, in `~/.cache/nin_jax/compiled` (see `data.cache.directory`).

  What the user has set for JAX stays (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE=0`).
  """
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(cache.directory("") / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
