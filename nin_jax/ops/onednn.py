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

from nin_jax.ops import patches
from nin_jax.ops.geometry import Geometry

CALL = "__onednn$"  # how the names of such calls begin, in the text of a program too
RELEASES = ((0, 10), (0, 13))  # of jaxlib: from, below
FEW_CHANNELS, LANES, LARGEST_MAP = 8, 16, 16  # see `kernel_gradient`


def available(dtype: DTypeLike = jnp.float32) -> bool:
  """Whether this process's XLA makes such calls on its CPU, with maps of this type.

  bfloat16 takes a processor that multiplies it: on others oneDNN has no such primitives, and ends the process.
  """
  if jax.default_backend() != "cpu" or not _built_in():
    return False
  return jnp.dtype(dtype) != jnp.bfloat16 or _multiplies_bfloat16()


@functools.cache
def _built_in() -> bool:
  release = tuple(map(int, jaxlib.version.__version_info__[:2]))
  known = RELEASES[0] <= release < RELEASES[1]
  if not (known and sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")):
    return False
  a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
  try:
    with not_kept(), jax.ensure_compile_time_eval():
      product = np.asarray(jax.jit(_product, static_argnums=2)(a, b, False))
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


def _product(a: Array, b: Array, transposed: bool) -> Array:
  """a · b, or aᵀ · b, in float32."""
  rows = a.shape[1] if transposed else a.shape[0]
  config = {"onednn_matmul_config": {"transpose_a": transposed, "transpose_b": False}}
  return _call("matmul", config, (rows, b.shape[1]), jnp.float32, a, b)


def product_kernel_gradient(x: Float[Array, "p c"], g: Float[Array, "p d"]) -> Float[Array, "c d"]:
  """xᵀ · g in float32: the kernel's gradient of a 1×1."""
  return _product(x, g, transposed=True)


def forward(
  x: Float[Array, "n h w c"],
  kernel: Float[Array, "kh kw c d"],
  geometry: Geometry,
  bias: Float[Array, " d"] | None = None,
  relu: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Float[Array, "n h2 w2 d"]:
  """relu(x * kernel + bias), accumulated in float32 and rounded once, to dtype."""
  return _convolution(x, kernel, geometry, "nhwc", "hwio", bias, relu, dtype)


def _convolution(
  x: Array,
  kernel: Array,
  geometry: Geometry,
  maps: str,
  taps: str,
  bias: Array | None = None,
  relu: bool = False,
  dtype: DTypeLike = jnp.float32,
) -> Array:
  """As `forward`, where `maps` and `taps` say what the axes of x and kernel are; the result is nhwc."""
  size = x.shape[maps.index("h")], x.shape[maps.index("w")]
  window = kernel.shape[taps.index("h")], kernel.shape[taps.index("w")]
  shape = (x.shape[maps.index("n")], *geometry.outputs(size, window), kernel.shape[taps.index("o")])

  def layout(axes: str, **names: str) -> dict:
    return {field: axes.index(name) for field, name in names.items()} | {
      "spatial_dims": [axes.index("h"), axes.index("w")]
    }

  config = {
    "dims": 4,
    "input": {"dims": 4, "data": layout(maps, batch_dim="n", feature_dim="c")},
    "kernel": {"dims": 4, "filter": layout(taps, input_feature_dim="i", output_feature_dim="o")},
    "output": {"dims": 4, "data": layout("nhwc", batch_dim="n", feature_dim="c")},
    "window": {
      "size": list(window),
      "pad_left": [low for low, _ in geometry.pads],
      "pad_right": [high for _, high in geometry.pads],
      "strides": list(geometry.strides),
      "window_dilations": list(geometry.dilation),
    },
    "feature_groups": 1,
  }
  fused = ["BIAS"] * (bias is not None) + ["RELU"] * relu
  if fused:
    config["fusions"] = {"ops": fused}
  operands = (x, kernel) if bias is None else (x, kernel, bias)
  return _call("convolution", {"onednn_conv_config": config}, shape, dtype, *operands)


def kernel_gradient(x: Array, g: Array, kernel_shape: tuple[int, ...], geometry: Geometry) -> Array:
  """The gradient of a kernel of that shape, from that of the result, in float32.

  With few channels it is a product of patches. On small maps it is a convolution over the batch, whose channels are the
  images and whose kernel is the result's gradient; elsewhere a product for each tap. (Where such a convolution had
  larger kernels, strides, or channels that are no multiple of 16, oneDNN gave wrong sums in bfloat16.)
  """
  kh, kw, channels, features = kernel_shape
  if channels < FEW_CHANNELS:
    return _product(patches.taps(x, (kh, kw), geometry), g.reshape(-1, features), transposed=True).reshape(kernel_shape)
  if geometry.dense and x.shape[0] % LANES == 0 and max(g.shape[1:3]) <= LARGEST_MAP:
    images = _convolution(jnp.transpose(x, (3, 1, 2, 0)), g, geometry, "nhwc", "ihwo")
    return jnp.transpose(images, (1, 2, 0, 3))
  flat = g.reshape(-1, features)
  products = [
    _product(seen.reshape(-1, channels), flat, transposed=True) for seen in patches.each(x, (kh, kw), geometry)
  ]
  return jnp.stack(products).reshape(kernel_shape)
