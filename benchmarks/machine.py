"""What was measured on: for the head of each benchmark's output."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
# What of a CPU's flags decides the speed of products: x86's vectors and matrix unit, ARM's.
_FLAGS = re.compile(r"\b(avx2|fma|avx512f|avx512_bf16|avx512_fp16|amx_\w+|asimd|sve2?|bf16|i8mm|sme)\b")
_VARIABLES = re.compile(r"(JAX|XLA|OMP|MKL|KMP|GOMP|ONEDNN|DNNL|TORCH|CUDA_VISIBLE|GLIBC_TUNABLES|MALLOC|LD_PRELOAD)")


def describe() -> dict:
  """{"cpu", "flags", "cores", "memory_gib", "huge_pages", "system", "python", "versions", "environment"}; JSON."""
  text = _read("/proc/cpuinfo")
  name = re.search(r"^(?:model name|Model|CPU part)\s*:\s*(.+)$", text, re.MULTILINE)
  huge = re.search(r"\[(\w+)\]", _read("/sys/kernel/mm/transparent_hugepage/enabled"))
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  versions = {package: _version(package) for package in PACKAGES}
  return {
    "cpu": name[1] if name else platform.processor() or platform.machine(),
    "flags": sorted(set(_FLAGS.findall(text))),
    "cores": cores,
    "memory_gib": _memory(),
    "huge_pages": huge[1] if huge else None,
    "system": f"{platform.system()} {platform.machine()}",
    "python": platform.python_version(),
    "versions": {package: version for package, version in versions.items() if version},
    "environment": {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.match(name)},
  }


def heading(machine: dict) -> str:
  """The same in a few lines."""
  memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
  lines = [
    f"{machine['cpu']}, {machine['cores']} cores{memory}; {' '.join(machine['flags'])}",
    f"{machine['system']}, transparent huge pages: {machine['huge_pages'] or 'unknown'}; Python {machine['python']}, "
    + ", ".join(f"{package} {version}" for package, version in machine["versions"].items()),
  ]
  if machine["environment"]:
    lines.append(" ".join(f"{name}={value}" for name, value in machine["environment"].items()))
  return "\n".join(lines)


def _read(path: str) -> str:
  try:
    return Path(path).read_text(encoding="utf-8")
  except OSError:
    return ""


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _memory() -> int | None:
  try:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
  except (AttributeError, ValueError, OSError):  # not on every system
    return None
