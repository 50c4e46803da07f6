"""The 1×1 as a matrix product on flattened positions, its two gradients, which are products too, and stacks of them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

PART = 4096  # positions that one part of a kernel's gradient has at least
LEAST_PARTED = 100_000_000  # multiply-accumulates


def forward(x: Float[Array, "p c"], kernel: Float[Array, "c d"]) -> Float[Array, "p d"]:
  """x · kernel, accumulated in float32."""
  return jnp.einsum("pc,cd->pd", x, kernel, preferred_element_type=jnp.float32)


def input_gradient(g: Float[Array, "p d"], kernel: Float[Array, "c d"]) -> Float[Array, "p c"]:
  """g · kernelᵀ, accumulated in float32."""
  return jnp.einsum("pd,cd->pc", g, kernel, preferred_element_type=jnp.float32)


def kernel_gradient(x: Float[Array, "p c"], g: Float[Array, "p d"]) -> Float[Array, "c d"]:
  """xᵀ · g, accumulated in float32.

  Its result is small and its sum long, where matrix products on a CPU are at their worst: they share out the result
  among the cores. Where it is large it is cut into sums of about `PART` positions, which are shared out instead.
  """
  positions, parts = x.shape[0], _parts(x.shape[0], x.shape[1] * g.shape[1])
  in_parts = (array.reshape(parts, positions // parts, array.shape[1]) for array in (x, g))
  return jnp.einsum("spc,spd->scd", *in_parts, preferred_element_type=jnp.float32).sum(0)


def _parts(positions: int, others: int) -> int:
  """The most equal parts of at least `PART` positions; 1 for small products, which gain nothing by it."""
  if positions * others < LEAST_PARTED:
    return 1
  return next(parts for parts in range(max(positions // PART, 1), 0, -1) if positions % parts == 0)


def each(x: Float[Array, "a p c"], kernel: Float[Array, "a c d"]) -> Float[Array, "a p d"]:
  """x · kernel for each of a stack, accumulated in float32."""
  return jnp.einsum("apc,acd->apd", x, kernel, preferred_element_type=jnp.float32)


def each_transposed(x: Float[Array, "a p c"], g: Float[Array, "a p d"]) -> Float[Array, "a c d"]:
  """xᵀ · g for each of a stack, accumulated in float32."""
  return jnp.einsum("apc,apd->acd", x, g, preferred_element_type=jnp.float32)
