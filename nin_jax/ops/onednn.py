"""Convolutions and products by oneDNN, the library that XLA has within it on x86.

XLA has no bfloat16 convolution on the CPU: it widens both operands, which leaves the processor's bfloat16 units (AMX,
AVX512-BF16) idle. Its own calls into oneDNN have no such detour, and can be made from here. They are XLA's internals:
they are made only in releases they were tried with (`RELEASES`), after a trial that asks XLA whether it has them, and a
program with such a call in it must not go into the persistent compilation cache, whose writer takes it for something
else (`jaxlib` 0.10 to 0.12).
"""

import contextlib
import functools
import json
import math
import os
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from nin_jax.ops.geometry import Geometry

CALL = "__onednn$"  # how the names of such calls begin, in the text of a program too
RELEASES = ((0, 10), (0, 13))  # of jaxlib: from, below
MANY_POSITIONS = 4096  # from which on a float32 product is 1.06 times faster for a kernel that is transposed before


def available(dtype: DTypeLike = jnp.float32) -> bool:
  """Whether this process's XLA makes such calls on its CPU, with maps of this type.

  bfloat16 takes a processor that multiplies it: on others oneDNN has no such primitives, and ends the process.
  """
  dtype = jnp.dtype(dtype)
  if dtype not in (jnp.float32, jnp.bfloat16) or jax.default_backend() != "cpu" or not _built_in():
    return False
  return dtype != jnp.bfloat16 or _multiplies_bfloat16()


@functools.cache
def _built_in() -> bool:
  release = tuple(map(int, jaxlib.version.__version_info__[:2]))
  known = RELEASES[0] <= release < RELEASES[1]
  if not (known and sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")):
    return False
  a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
  try:
    with not_kept(), jax.ensure_compile_time_eval():
      product = np.asarray(jax.jit(_product)(a, b))
  except jax.errors.JaxRuntimeError:  # built without it
    return False
  return bool((product == 4).all())


@functools.cache
def _multiplies_bfloat16() -> bool:
  if any(name in os.environ for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")):
    return False  # what is left of the instruction set is oneDNN's to know
  try:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
  except (OSError, StopIteration):
    return False
  return {"avx512bw", "avx512vl", "avx512dq"} <= set(flags) and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


@contextlib.contextmanager
def not_kept() -> Iterator[None]:
  """Nothing that is compiled within it, by any thread, is written to the persistent compilation cache."""
  name = "jax_persistent_cache_min_compile_time_secs"
  with _not_kept:
    least = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
      yield
    finally:
      jax.config.update(name, least)


_not_kept = threading.RLock()


def _call(target: str, config: dict, shape: tuple[int, ...], dtype: DTypeLike, *operands: Array) -> Array:
  call = jax.ffi.ffi_call(
    CALL + target,
    jax.ShapeDtypeStruct(shape, dtype),
    vmap_method="sequential",
    custom_call_api_version=2,
    legacy_backend_config=json.dumps(config),
  )
  return call(*operands)


def _product(
  a: Array,
  b: Array,
  transposed: tuple[bool, bool] = (False, False),
  bias: Array | None = None,
  relu: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Array:
  """relu(a · b + bias), either operand transposed first; or the products of two stacks of matrices."""
  rows, columns = a.shape[-1 if transposed[0] else -2], b.shape[-2 if transposed[1] else -1]
  config = {"transpose_a": transposed[0], "transpose_b": transposed[1]} | _fused(bias, relu)
  # oneDNN wants one axis for each of the result's.
  operands = (a, b) if bias is None else (a, b, bias.astype(jnp.float32)[None])
  return _call("matmul", {"onednn_matmul_config": config}, (*a.shape[:-2], rows, columns), dtype, *operands)


def _fused(bias: Array | None, relu: bool) -> dict:
  """What comes after a call's sums, before they are rounded. oneDNN's ReLU makes NaN 0, where JAX's leaves it."""
  ops = ["BIAS"] * (bias is not None) + ["RELU"] * relu
  return {"fusions": {"ops": ops}} if ops else {}


def product(
  x: Float[Array, "*a p c"],
  kernel: Float[Array, "*a c d"],
  bias: Float[Array, " d"] | None = None,
  relu: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*a p d"]:
  """relu(x · kernel + bias), accumulated in float32 and rounded once, to dtype: a 1×1 on flattened positions.

  Without a bias also of each of a stack.
  """
  return _product(x, kernel, bias=bias, relu=relu, dtype=dtype)


def product_input_gradient(g: Float[Array, "p d"], kernel: Float[Array, "c d"]) -> Float[Array, "p c"]:
  """g · kernelᵀ in g's type, accumulated in float32: the input's gradient of a 1×1."""
  if g.dtype == jnp.float32 and g.shape[0] >= MANY_POSITIONS:
    return _product(g, kernel.T)
  return _product(g, kernel, (False, True), dtype=g.dtype)


def product_kernel_gradient(x: Float[Array, "*a p c"], g: Float[Array, "*a p d"]) -> Float[Array, "*a c d"]:
  """xᵀ · g in float32, or of each of a stack: the kernel's gradient of a 1×1."""
  return _product(x, g, (True, False))


def forward(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "kh kw c_per_group d"],
  geometry: Geometry,
  bias: Float[Array, " d"] | None = None,
  relu: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Float[Array, "n h2 w2 d"]:
  """relu(x * kernel + bias), accumulated in float32 and rounded once, to dtype."""
  height, width = geometry.outputs(x.shape[1:3], kernel.shape[:2])
  maps = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
  config = {
    "dims": 4,
    "input": maps,
    "kernel": {"dims": 4, "filter": {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}},
    "output": maps,
    "window": {
      "size": list(kernel.shape[:2]),
      "pad_left": [low for low, _ in geometry.pads],
      "pad_right": [high for _, high in geometry.pads],
      "strides": list(geometry.strides),
      "window_dilations": list(geometry.dilation),
    },
    "feature_groups": geometry.groups,
  }
  operands = (x, kernel) if bias is None else (x, kernel, bias.astype(jnp.float32))
  shape = (x.shape[0], height, width, kernel.shape[3])
  return _call("convolution", {"onednn_conv_config": config | _fused(bias, relu)}, shape, dtype, *operands)
