"""`result.json`: what a run reached."""

import importlib.metadata
import platform
from typing import Any

from nin_jax.train import processes
from nin_jax.train.costs import Costs
from nin_jax.train.setup import Setup


def outcome(setup: Setup, progress: dict, train: dict, costs: Costs, together: int, **more: Any) -> dict:
  """The object in `result.json`; all processes of a run call it.

  Args:
    setup: of the run.
    progress: of the last checkpoint: "meter", "test" and "best".
    train: the last evaluation of training images.
    costs: of the network and its steps.
    together: how many trainings the program has; images_per_second counts those of all.
    **more: further entries.
  """
  meter, steps = progress["meter"], setup.total_steps
  seconds, inference = meter["seconds"], costs.inference
  return more | {
    "seed": setup.config.seed,
    "steps": steps,
    "test_accuracy": progress["test"]["accuracy"],
    "test_loss": progress["test"]["loss"],
    "test_images": progress["test"]["count"],
    "best_test_accuracy": progress["best"]["accuracy"],
    "best_step": progress["best"]["step"],
    "train_accuracy": train["accuracy"],
    "train_loss": train["loss"],
    "broken_images": len({name for names in processes.from_all(setup.pipeline.broken()) for name in names}),
    "params": inference["params"],
    "macs": inference["macs"],
    "flops": inference["flops"],
    "train_flops": steps * costs.step_flops,
    "images_per_second": together * costs.batch_size * meter["measured_steps"] / seconds if seconds else None,
    "trained_together": together,
    "wall_seconds": meter["wall_seconds"],
    "device": setup.devices[0].device_kind,
    "devices": len(setup.devices),
    "versions": versions(),
  }


def versions() -> dict[str, str]:
  """Of Python and of the packages that decide what comes out."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
