"""A count that is kept between starts, beside the compiled programs: tracing a network takes longer than reading it."""

import contextlib
import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import jax

import nin_jax
from nin_jax import whole_files
from nin_jax.data import cache
from nin_jax.train.storage import replace

NAME = "counts.json"
MOST = 1024  # the newest are kept


def kept(key: Mapping[str, object], count: Callable[[], int]) -> int:
  """What `count` returns, or what it returned for an equal key in an earlier process with the same code.

  Kept in JAX's persistent compilation cache's directory; where there is none, or none that can be read and written,
  it is counted.

  Args:
    key: what the count is a function of, besides the code; values in JSON, or as they print themselves.
    count: returns a whole number more than 0.
  """
  directory = jax.config.jax_compilation_cache_dir
  if not directory or "://" in directory or not jax.config.jax_enable_compilation_cache:
    return count()
  path = Path(directory) / NAME
  name = hashlib.sha256(json.dumps([_code(), key], sort_keys=True, default=str).encode()).hexdigest()[:32]
  if name in (found := _read(path)):
    return found[name]
  made = count()
  others = {other: number for other, number in _read(path).items() if other != name}  # other processes write too
  newest = dict([*others.items(), (name, made)][-MOST:])
  with contextlib.suppress(OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not path.is_file():
      cache.remove(path)
    rows = {name: [number, _checksum(name, number)] for name, number in newest.items()}
    replace(path, (json.dumps(rows, indent=0) + "\n").encode())
  return made


def _read(path: Path) -> dict[str, int]:
  """The counts that match their checksums."""
  try:
    rows = whole_files.read_json(path)
  except (OSError, ValueError):
    return {}
  return {name: row[0] for name, row in rows.items() if _is_sound(name, row)} if isinstance(rows, dict) else {}


def _is_sound(name: str, row: object) -> bool:
  is_count = isinstance(row, list) and len(row) == 2 and type(row[0]) is int and row[0] > 0
  return is_count and row[1] == _checksum(name, row[0])


def _checksum(name: str, number: int) -> int:
  return zlib.crc32(json.dumps([name, number]).encode())


@functools.cache
def _code() -> str:
  """Of all that a count depends on besides its key: this package's sources, and the libraries that trace."""
  digest = hashlib.sha256(" ".join(version(name) for name in ("jax", "jaxlib", "flax")).encode())
  root = Path(nin_jax.__file__).parent
  for path in sorted(root.rglob("*.py")):
    digest.update(f"{path.relative_to(root)}\n".encode())
    digest.update(path.read_bytes())
  return digest.hexdigest()
