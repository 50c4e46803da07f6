"""What the loop does for one training: its progress, its clock, its files."""

import contextlib
from pathlib import Path
from typing import Any

from nin_jax import streams
from nin_jax.errors import line
from nin_jax.train import fine_tuning, processes, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.checkpoint_contents import check_progress
from nin_jax.train.costs import Costs
from nin_jax.train.display import Display
from nin_jax.train.journal import Journal
from nin_jax.train.meter import Meter, TrainingStopped
from nin_jax.train.outcome import outcome
from nin_jax.train.setup import Setup
from nin_jax.train.storage import WorkdirError, write_json, writing
from nin_jax.train.update import TrainState


class Run(contextlib.ExitStack):
  """One training in its workdir, which it claims on entering.

  Attributes:
    setup: of the training.
    state: that training goes on from, until the loop has placed it.
    progress: what else of it a checkpoint holds.
    stopped: why it can't go on, or None.
    result: the object in `result.json`, once it has ended.
    costs: of its network and its steps.

  Args:
    setup: see `set_up`.
    directory: the workdir.
    costs: see above.
    together: how many trainings the program has; speeds are those of the program.
    about: further entries of the result.
    display: whether to show it on standard error.
    wait_seconds: how long another run that is at the workdir is waited for.
  """

  def __init__(
    self,
    setup: Setup,
    directory: Path,
    costs: Costs,
    together: int = 1,
    about: dict | None = None,
    display: bool = False,
    wait_seconds: float = 0.0,
  ):
    super().__init__()
    self.setup, self.directory, self.stopped = setup, directory, None
    self.result: dict[str, Any] | None = None
    self.state: TrainState | None = None
    self.progress: dict = {}
    self.costs, self._together, self._about, self._displays = costs, together, about or {}, display
    self._wait_seconds = wait_seconds
    self._journal: Journal | None = None
    self._display: Display | None = None

  def __enter__(self) -> "Run":
    super().__enter__()
    with contextlib.ExitStack() as opened:  # what was opened is closed again where the next can't be
      claim = workdir.claim(self.directory, self.setup.config, self._wait_seconds)
      processes.on_first(lambda: opened.enter_context(claim))
      self._checkpoints = opened.enter_context(Checkpoints(self.directory, self._keep()))
      self.push(opened.pop_all().__exit__)
    return self

  def _keep(self) -> int:
    """How many checkpoints stay: of several trainings two, so that all have one of the same step whenever they end."""
    return max(self.setup.config.checkpoint.keep, 2 if self._together > 1 else 1)

  def restore(self) -> int | None:
    """Takes up the newest checkpoint that is whole, and returns its step; None where there is none."""
    self.state = self.setup.first_state()
    restored = self._checkpoints.restore(self.state, check=check_progress)
    if not restored:
      return None
    self.setup.check_data(restored[1]["data"], resumes=True)
    self.setup.pipeline.register(restored[1]["broken"])
    self.state, self.progress = restored
    return int(self.state.step)

  def forget_after(self, step: int | None) -> None:
    """Takes out the checkpoints after a step; None: all of them."""
    self._checkpoints.forget_after(step)

  def begin(self) -> None:
    """Takes up the state before the first step."""
    self.progress = {
      "meter": None,
      "test": None,
      "best": None,
      "to_evaluate": False,
      "broken": [],
      "data": self.setup.described(),
    }
    config = self.setup.config
    if config.train.init_from:
      self.state, fresh = fine_tuning.start(self.state, config)
      if processes.first() and self._displays:
        kept = f", but for {', '.join(fresh)}" if fresh else ""
        streams.note(f"the network is that of {line(config.train.init_from)}{kept}")
      self._checkpoints.save(self.state, self.progress)  # the other run may go on: what was begun with stays

  def open(self) -> None:
    """Opens the record of the steps after that of `state`."""
    start, config = int(self.state.step), self.setup.config
    self.meter = Meter(config.train.dead_steps, self.progress["meter"])
    if processes.first():
      evaluated, per_epoch = not self.progress["to_evaluate"], self.setup.pipeline.steps_per_epoch
      self._journal = self.enter_context(Journal(self.directory, config.log, per_epoch, start, evaluated))
      if self._displays:
        self._display = self.enter_context(Display(self.setup.total_steps, start))

  def write(self, split: str, step: int, **numbers: float | None) -> None:
    """Writes a line of metrics."""
    if self._journal:
      wall, flops = self.meter.state["wall_seconds"], step * self.costs.step_flops
      row = self._journal.write(split, step, train_flops=flops, wall_seconds=wall, **numbers)
      if self._display:
        self._display.show(row)

  def doing(self, what: str) -> None:
    """Shows what is done between two steps."""
    if self._display:
      self._display.doing(what)

  def read(self, step: int, numbers: dict[str, float], ended: int) -> None:
    """Takes in the metrics of a step, and logs.

    Args:
      step: its number.
      numbers: its metrics.
      ended: see `Meter.add`.

    Raises:
      TrainingStopped: it can't go on.
    """
    if self._display:
      self._display.advance(step)
    rate = numbers.pop("learning_rate")
    try:
      self.meter.add(step, **numbers, ended=ended)
    except TrainingStopped as stopped:
      self.stopped = stopped
      self.write("train", step, loss=numbers["loss"], accuracy=numbers["accuracy"])
      raise
    if self.setup.due(step, self.setup.config.log.every_steps):
      means = self.meter.means()
      if seconds := means["step_seconds"]:
        means |= self.costs.speed(seconds / self._together)
      self.write("train", step, learning_rate=rate, **means)

  def settle(self) -> None:
    """What needn't come before the first steps, and is not to come into the time of later ones: nothing runs now."""
    self.meter.pause()
    _ = self.costs.inference, self.costs.peak
    if self._journal:
      self._journal.settle()
    self.meter.resume()

  def evaluated(self, step: int, test: dict) -> None:
    """Takes in an evaluation of the test images."""
    self.write("test", step, loss=test["loss"], accuracy=test["accuracy"])
    best = self.progress["best"]
    if best is None or test["accuracy"] >= best["accuracy"]:  # of equals the last
      best = {"step": step, "accuracy": test["accuracy"]}
    self.progress.update(test=test, best=best, to_evaluate=False)

  def save(self, state: TrainState) -> None:
    """Begins to write a checkpoint."""
    self._sync()
    broken = {name for names in processes.from_all(self.setup.pipeline.broken()) for name in names}
    self._checkpoints.save(state, {**self.progress, "broken": sorted(broken), "meter": self.meter.state})

  def wait(self) -> None:
    """Returns when all is on disk; in a run of several processes, in the first one's time."""
    processes.on_first(self._checkpoints.wait)  # the others stay: JAX ends a process whose peers have gone

  def finish(self, train: dict) -> None:
    """Writes `result.json`.

    Args:
      train: the evaluation of the training images.
    """
    self.progress["meter"] = self.meter.state
    self.result = outcome(self.setup, self.progress, train, self.costs, self._together, **self._about)
    self._sync()
    if processes.first():
      with writing(self.directory / "result.json"):
        write_json(self.directory / "result.json", self.result)

  def _sync(self) -> None:
    """Syncs the journal; raises WorkdirError if it or `config.json` is gone. (`Checkpoints` checks its own files.)"""
    if self._journal:
      path = self.directory / "config.json"
      try:
        path.stat()
      except OSError as error:
        raise WorkdirError(f"{path} is gone ({error.strerror})") from error
      self._journal.sync()
