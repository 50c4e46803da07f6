"""Means and speed between two log lines, and the watch over a run that has gone wrong."""

import math
import time
from collections.abc import Callable


class TrainingStopped(RuntimeError):
  """Training can't go on: the loss is not finite, or the network is dead."""


class Meter:
  """Takes in each step's metrics, in order.

  The clock leaves out the first step of a process, which compiles, what is skipped, and pauses. `state` is JSON and
  part of each checkpoint, so that a run that was broken off between two log lines goes on with the same means.

  Args:
    dead_steps: steps in a row with a spread of 0 after which the network is dead; 0: never.
    state: of a restored checkpoint.
    clock: seconds, for tests.
  """

  def __init__(self, dead_steps: int, state: dict | None = None, clock: Callable[[], float] = time.monotonic):
    self.state = state or {
      "steps": 0,  # since the last log line, as loss and accuracy are
      "loss": 0.0,
      "accuracy": 0.0,
      "dead": 0,  # steps in a row
      "seconds": 0.0,  # measured, of measured_steps, since the run began
      "measured_steps": 0,
      "wall_seconds": 0.0,
    }
    self._dead_steps, self._clock = dead_steps, clock
    self._began = clock() - self.state["wall_seconds"]
    self._ticked: float | None = None
    self._logged = (self.state["seconds"], self.state["measured_steps"])

  def add(self, step: int, loss: float, accuracy: float, spread: float, objective: float, ended: int = 1) -> None:
    """Takes in the metrics of a step (see `objective`), which has just ended.

    Args:
      step: its number.
      loss, accuracy, spread, objective: its metrics.
      ended: how many steps have ended since the last time: of a call of several, all with the first one, 0 with others.

    Raises:
      TrainingStopped: the objective is not finite, or the logits of each image have been equal for `dead_steps` steps.
    """
    state, now = self.state, self._clock()
    if ended:
      if self._ticked is not None:
        state["seconds"] += now - self._ticked
        state["measured_steps"] += ended
      self._ticked = now
    state["wall_seconds"] = now - self._began
    if not math.isfinite(objective):
      raise TrainingStopped(
        f"the loss is {objective} at step {step} (it was finite up to step {step - 1}): the parameters after step "
        f"{step - 1} overflow. Lower optimizer.learning_rate, add optimizer.warmup or set optimizer.clip_norm."
      )
    state["steps"] += 1
    state["loss"] += loss
    state["accuracy"] += accuracy
    state["dead"] = state["dead"] + 1 if spread == 0 else 0
    if self._dead_steps and state["dead"] >= self._dead_steps:
      raise TrainingStopped(
        f"the network is dead: in steps {step - state['dead'] + 1} to {step} the logits of each image were all equal, "
        f"and the loss is {loss:.6f}. A ReLU before the average has died: set model.last_relu=False or "
        "model.norm='batch', lower optimizer.learning_rate, or use another seed; train.dead_steps=0 goes on regardless."
      )

  def pause(self) -> None:
    """Brings the wall time up to now; the time from here to `resume` is not measured as a step's."""
    self.state["wall_seconds"] = self._clock() - self._began

  def resume(self) -> None:
    """Ends a pause."""
    self._ticked = None if self._ticked is None else self._clock()

  def skip(self) -> None:
    """Leaves out the steps that end next: they compile."""
    self._ticked = None

  def means(self) -> dict[str, float | None]:
    """{"loss", "accuracy", "step_seconds" (None where nothing was measured)} since the last call."""
    state = self.state
    seconds, steps = state["seconds"] - self._logged[0], state["measured_steps"] - self._logged[1]
    means = {
      "loss": state["loss"] / state["steps"],
      "accuracy": state["accuracy"] / state["steps"],
      "step_seconds": seconds / steps if steps else None,
    }
    state["steps"], state["loss"], state["accuracy"] = 0, 0.0, 0.0
    self._logged = (state["seconds"], state["measured_steps"])
    return means

  @property
  def step_seconds(self) -> float | None:
    """Mean over the whole run."""
    steps = self.state["measured_steps"]
    return self.state["seconds"] / steps if steps else None
