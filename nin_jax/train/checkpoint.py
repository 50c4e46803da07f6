"""Checkpoints: the only file that knows Orbax."""

import copy
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from nin_jax.errors import ConfigError
from nin_jax.train.steps import TrainState


class Checkpoints:
  """`WORKDIR/checkpoints/STEP`, each written atomically: the last few and the one of the best test accuracy.

  Each holds the state and a JSON object, the run's progress: what else it takes to go on as if nothing had happened.

  Args:
    workdir: an existing directory.
    keep: how many of the last ones stay.
    read_only: leaves the directory as it is, with what a training that is under way has half written.
  """

  def __init__(self, workdir: Path, keep: int, read_only: bool = False):
    policy = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep),
        preservation_policy.BestN(
          get_metric_fn=lambda metrics: metrics["accuracy"], n=1, keep_checkpoints_without_metrics=False
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      Path(workdir).absolute() / "checkpoints",
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy, create=not read_only, cleanup_tmp_directories=not read_only
      ),
    )

  @property
  def latest(self) -> int | None:
    """The step of the newest checkpoint."""
    return self._manager.latest_step()

  @property
  def steps(self) -> list[int]:
    """The steps that there are checkpoints of."""
    return sorted(self._manager.all_steps())

  def save(self, state: TrainState, progress: dict, accuracy: float | None) -> None:
    """Begins to write a checkpoint; the state may be donated, and progress changed, as soon as this returns.

    Args:
      state: replicated.
      progress: a JSON object.
      accuracy: on the test split at this step; None where it was not evaluated.
    """
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(copy.deepcopy(progress)))
    metrics = None if accuracy is None else {"accuracy": accuracy}
    self._manager.save(int(state.step), args=items, metrics=metrics, force=True)

  def restore(self, like: TrainState, step: int | None = None) -> tuple[TrainState, dict]:
    """The state, laid out as `like` is, and the progress of a step.

    Args:
      like: a state with the same shapes, on the devices that the restored one is to be on.
      step: None: the newest.

    Raises:
      ConfigError: there is no such checkpoint.
    """
    step = self.latest if step is None else step
    if step is None or step not in self.steps:
      there = ", ".join(map(str, self.steps)) or "none yet"
      raise ConfigError("--step", step, f"the step of a checkpoint in the workdir: {there}")
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore())
    restored = self._manager.restore(step, args=items)
    return restored.state, restored.progress

  def wait(self) -> None:
    """Returns when all is on disk."""
    self._manager.wait_until_finished()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: Any) -> None:
    self._manager.close()
