"""config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

from nin_jax.train.loop import evaluate_checkpoint, train_and_evaluate
from nin_jax.train.meter import TrainingStopped
from nin_jax.train.signals import Interrupted
from nin_jax.train.workdir import read_config

__all__ = ["Interrupted", "TrainingStopped", "evaluate_checkpoint", "read_config", "train_and_evaluate"]
