"""Networks, built from `config.model`."""

from nin_jax.models.build import build, defaults, variable_shapes

__all__ = ["build", "defaults", "variable_shapes"]
