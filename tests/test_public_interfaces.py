"""Only public interfaces: no module reaches into JAX's internals, and no program has a custom call."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from configs import nin_fashion_mnist
from nin_jax import models
from nin_jax.ops.lowering import AUTO, LOWERINGS, lowered_as

PACKAGE = Path(models.__file__).parent.parent
PRIVATE = re.compile(r"(jax\._src|jax\.interpreters|jaxlib|flax\.core\._|jax\.ffi|jax\.extend)\b")


def names(source: str) -> set[str]:
  """Dotted names that a module imports or reads."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Attribute):
      found.add(ast.unparse(node))
  return found


@pytest.mark.parametrize("floor", ["ops", "layers", "blocks", "models", "data", "train"])
def test_no_module_reaches_into_jax(floor):
  reached = {
    f"{path.relative_to(PACKAGE)}: {name}"
    for path in (PACKAGE / floor).rglob("*.py")
    for name in names(path.read_text(encoding="utf-8"))
    if PRIVATE.match(name)
  }
  assert reached == set()


def test_private_names_are_seen():
  source = "import jax\nfrom jax._src import core\nimport jaxlib.version\njax.ffi.ffi_call('x', None)"
  assert {name for name in names(source) if PRIVATE.match(name)} >= {"jax._src.core", "jaxlib.version", "jax.ffi"}


@pytest.mark.parametrize("precision", models.PRECISIONS)
@pytest.mark.parametrize("lowering", [AUTO, *LOWERINGS])
def test_a_training_step_has_no_calls_to_foreign_code(lowering, precision):
  shape = (28, 28, 1)
  network = models.build(nin_fashion_mnist.get_config().model, shape, precision)  # with batch norm and dropout
  images = jax.ShapeDtypeStruct((128, *shape), jnp.float32)
  variables = dict(jax.eval_shape(lambda images: network.init(jax.random.key(0), images, False), images))

  def loss(params, rest, images):
    rngs = {"dropout": jax.random.key(0)}
    variables = {**rest, "params": params}
    (logits, _), _ = network.apply(variables, images, True, jnp.arange(128), rngs=rngs, mutable=["batch_stats"])
    return logits.sum()

  with lowered_as(lowering):
    text = jax.jit(jax.grad(loss)).lower(variables.pop("params"), variables, images).as_text()
  assert "stablehlo.dot_general" in text
  assert "stablehlo.custom_call" not in text
