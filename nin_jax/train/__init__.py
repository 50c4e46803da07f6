"""config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

from nin_jax.train.loop import train_and_evaluate
from nin_jax.train.meter import TrainingStopped
from nin_jax.train.signals import Interrupted

__all__ = ["Interrupted", "TrainingStopped", "train_and_evaluate"]
