"""The evaluation of a checkpoint, apart from the training that wrote it."""

from pathlib import Path

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError
from nin_jax.train import processes, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.setup import set_up


def evaluate_checkpoint(
  config: ConfigDict, directory: str | Path, split: str = "test", step: int | None = None
) -> dict:
  """Exact evaluation of a checkpoint, on whatever devices there are.

  Args:
    config: of the run; its precision, its `eval` and `log` sections and its directories may differ.
    directory: the run's, wherever it lies now. It is only read.
    split: "test" or "train".
    step: of the checkpoint; None: the newest.

  Returns:
    {"workdir", "step", "split", "loss" (nats), "accuracy" (0 to 1), "correct", "count"}.

  Raises:
    ConfigError: the user's mistake.
  """
  directory = workdir.locate(directory)
  processes.on_first(lambda: workdir.compare(directory, config, also_free=("precision", "train.init_from")))
  setup = set_up(config, training=False)
  with processes.watched(), Checkpoints(directory, config.checkpoint.keep, read_only=True) as checkpoints:
    restored = checkpoints.restore(setup.first_state(), step)
    if restored is None:
      raise ConfigError("--workdir", str(directory), "the directory of a run that has a checkpoint")
    state, _ = restored
    measured = setup.evaluate(setup.replicate(state), split)
  return {"workdir": str(directory), "step": int(state.step), "split": split, **measured}
