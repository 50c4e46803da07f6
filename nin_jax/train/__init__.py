"""config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

from nin_jax import allocator
from nin_jax.train.checkpoint_evaluation import evaluate_checkpoint
from nin_jax.train.loop import train_and_evaluate
from nin_jax.train.meter import TrainingStopped
from nin_jax.train.processes import PeerLost, first
from nin_jax.train.signals import Interrupted
from nin_jax.train.storage import WorkdirError
from nin_jax.train.workdir import read_config

__all__ = [
  "Interrupted",
  "PeerLost",
  "TrainingStopped",
  "WorkdirError",
  "evaluate_checkpoint",
  "first",
  "read_config",
  "train_and_evaluate",
]

allocator.set_up()  # here, so that it comes before JAX computes
