"""Data sets by name → batches that are a function of (seed, step)."""

from nin_jax.data.metadata import Spec, spec
from nin_jax.data.preparation import prepare
from nin_jax.data.resident import Resident, open

__all__ = ["Resident", "Spec", "open", "prepare", "spec"]
