"""Name stacks: which layer an equation belongs to, and in which direction it runs.

Linen wraps each module in `jax.named_scope`, and JAX's transformations wrap the names in turn:
`jvp(NIN)/block1/conv` is block 1's convolution on the way forward, `transpose(jvp(NIN))/block1/conv` its gradient, and
`rematted_computation/…` forward work done again inside the backward pass.
"""

import dataclasses
import functools
import re

FORWARD, BACKWARD, RECOMPUTE = "forward", "backward", "recompute"

METHOD = "nin_jax:method"  # within it: the scope around it is a module's name and a method, `block1.features`
_MODULE = re.compile(r"nin_jax:module\((.*)\)", re.DOTALL)

_TRANSFORM = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_TRANSFORMS = {"jvp", "transpose", "vmap", "pmap", "jit", "pjit", "linearize", "remat", "checkpoint", "shard_map"}
_RECOMPUTED = "rematted_computation"
_EINSUM = re.compile(r"[\w,.]*->[\w.]*")  # jnp.einsum names its own scope by its subscripts


def module(path: str) -> str:
  """The name of a scope that says a module's whole path, whatever scopes are around it."""
  return f"nin_jax:module({path})"


@dataclasses.dataclass(frozen=True)
class Scope:
  """A parsed name stack: the scopes' names from the outside in, and what was done to them."""

  parts: tuple[str, ...] = ()
  transposed: bool = False
  recomputed: bool = False

  @property
  def direction(self) -> str:
    """`forward`, `backward`, or `recompute`: forward work that the backward pass does again."""
    return RECOMPUTE if self.recomputed else BACKWARD if self.transposed else FORWARD

  def enter(self, inner: "Scope") -> "Scope":
    """The stack of an equation whose own stack, `inner`, is relative to this one."""
    return Scope(self.parts + inner.parts, self.transposed or inner.transposed, self.recomputed or inner.recomputed)

  def undoubled(self) -> "Scope":
    """Transposing a rematerialised call writes its path twice (`transpose(jvp(A))/b/jvp(A)/b`); this is it once."""
    half = len(self.parts) // 2
    doubled = half and self.parts[:half] == self.parts[half:]
    return dataclasses.replace(self, parts=self.parts[:half]) if doubled else self

  @functools.cached_property
  def modules(self) -> tuple[str, ...]:
    """The module's path: `parts` without the methods that Linen appends: `NIN/NIN.features/conv` is `NIN/conv`."""
    modules: list[str] = []
    for part in self.parts:
      whole = _MODULE.fullmatch(part)
      if whole:
        modules = _split(whole[1])
      elif part != METHOD:
        modules.append(part)
      elif modules:
        name = modules.pop().rpartition(".")[0]
        modules += [name] if modules[-1:] != [name] else []
    return tuple(modules)


@functools.lru_cache(maxsize=4096)
def parse(stack: str) -> Scope:
  """A name stack as JAX prints it, read into a `Scope`."""
  parts, transposed, recomputed = [], False, False
  pending = _split(stack)[::-1]
  while pending:
    part = pending.pop()
    wrapped = _TRANSFORM.fullmatch(part)
    if wrapped and wrapped[1] in _TRANSFORMS:
      transposed |= wrapped[1] == "transpose"
      pending.extend(_split(wrapped[2])[::-1])
    elif part == _RECOMPUTED:
      recomputed = True
    elif not _EINSUM.fullmatch(part):
      parts.append(part)
  return Scope(tuple(parts), transposed, recomputed)


def _split(stack: str) -> list[str]:
  """The parts between slashes that stand outside parentheses; empty ones are left out."""
  parts, depth, start = [], 0, 0
  for i, character in enumerate(stack):
    depth += (character == "(") - (character == ")")
    if character == "/" and depth == 0:
      parts.append(stack[start:i])
      start = i + 1
  parts.append(stack[start:])
  return [part for part in parts if part]
