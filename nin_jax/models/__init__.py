"""Networks, built from `config.model`."""

from nin_jax.models.build import (
  PRECISIONS,
  build,
  defaults,
  field_mistakes,
  init,
  map_shapes,
  mistakes,
  variable_shapes,
)

__all__ = ["PRECISIONS", "build", "defaults", "field_mistakes", "init", "map_shapes", "mistakes", "variable_shapes"]
