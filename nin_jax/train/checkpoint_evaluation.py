"""The evaluation of a checkpoint, apart from the training that wrote it."""

from pathlib import Path

from ml_collections import ConfigDict

from nin_jax.errors import ConfigError
from nin_jax.train import processes, steps, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.checkpoint_contents import check_progress
from nin_jax.train.setup import set_up

# Besides what may change when a run goes on: what the network is evaluated in, and on which images of its classes.
FREE = ("precision", "lowering", "train.init_from", "data.name", "data.test_split", "data.pipeline")


@steps.released()
def evaluate_checkpoint(
  config: ConfigDict, directory: str | Path, split: str = "test", step: int | None = None
) -> dict:
  """Exact evaluation of a checkpoint, on whatever devices there are.

  Args:
    config: of the run; what is `FREE` may differ, and its `eval` and `log` sections and its directories.
    directory: the run's, wherever it lies now. It is only read.
    split: "test" or "train".
    step: of the checkpoint; None: the newest.

  Returns:
    {"workdir", "step", "split", "loss" (nats), "accuracy" (0 to 1), "correct", "count"}.

  Raises:
    ConfigError: the user's mistake.
    PeerLost: another process of the run has ended.
  """
  directory = workdir.locate(directory)
  with processes.watched():
    processes.on_first(lambda: workdir.compare(directory, config, also_free=FREE))
    setup = set_up(config, training=False, flags={"--split": split, "--step": step})
    with Checkpoints(directory, config.checkpoint.keep, read_only=True) as checkpoints:
      restored = checkpoints.restore(setup.first_state(), step, check_progress)
    if restored is None:
      raise ConfigError("--workdir", str(directory), "the directory of a run that has a checkpoint")
    state, progress = restored
    setup.check_data(progress["data"], resumes=False)
    measured = setup.evaluate(setup.replicate(state), split)
  return {"workdir": str(directory), "step": int(state.step), "split": split, **measured}
