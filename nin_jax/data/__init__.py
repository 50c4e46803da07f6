"""Data sets by name → batches that are a function of (seed, step)."""

from nin_jax.data.examples import training_images
from nin_jax.data.faults import TWO_CLASSES
from nin_jax.data.metadata import Spec, mistakes, spec, spec_mistakes
from nin_jax.data.opening import open
from nin_jax.data.pipeline import Pipeline
from nin_jax.data.preparation import prepare
from nin_jax.data.resident import Resident

__all__ = [
  "TWO_CLASSES",
  "Pipeline",
  "Resident",
  "Spec",
  "mistakes",
  "open",
  "prepare",
  "spec",
  "spec_mistakes",
  "training_images",
]
