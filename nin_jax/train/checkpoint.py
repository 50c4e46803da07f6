"""Checkpoints: the only file that knows Orbax."""

import contextlib
import errno
import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nin_jax import paths
from nin_jax.errors import ConfigError, line
from nin_jax.train import checkpoint_contents, processes
from nin_jax.train.storage import WorkdirError
from nin_jax.train.update import TrainState

VARIABLES = ("params", "batch_stats", "average")  # of a state: what a network is
NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.ESTALE)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
DAMAGED = "damaged_checkpoints"  # where a training moves those that it could not read


class Checkpoints:
  """`WORKDIR/checkpoints/STEP`, each written atomically: the last few and the one of the best test accuracy.

  Each holds the state and the run's progress, a JSON object: what else it takes to go on as if nothing had happened;
  and checksums of both, so that none is gone on from that a disk has changed. The files are TensorStore arrays and
  JSON: nothing is unpickled.

  In a run of several processes the first one alone reads and writes, and tells the others: the workdir may be on its
  own disk.

  Args:
    workdir: an existing directory.
    keep: how many of the last ones stay.
    read_only: leaves the directory as it is, with what a training that is under way has half written.
  """

  def __init__(self, workdir: Path, keep: int, read_only: bool = False):
    self._workdir, self._read_only = Path(workdir).absolute(), read_only
    self._policy, self._manager = _Kept(keep), None
    _tell_once()
    directory = self._workdir / "checkpoints"
    if not processes.first() or (read_only and not directory.is_dir()):
      return
    for path in checkpoint_contents.special_files(directory):  # Orbax would read it here
      raise ConfigError("--workdir", str(workdir), f"a directory with checkpoints; {path} is no regular file")
    try:
      import orbax.checkpoint as ocp  # here and below: a quarter of the time that it takes to import this package

      directory.mkdir(exist_ok=True)
      options = ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        create=False,
        cleanup_tmp_directories=not read_only,
        multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}),
      )
      with contextlib.ExitStack() as opened:
        spelling = opened.enter_context(paths.literal("--workdir", self._workdir))
        self._manager = ocp.CheckpointManager(spelling / "checkpoints", options=options)
        self._spelled = opened.pop_all()  # closed after the manager, which goes by this spelling
    except OSError as error:
      verb = "read" if read_only else "written"
      raise WorkdirError(f"{directory} can't be {verb}: {error.strerror or error}") from error
    except ConfigError:
      raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of a value of another type in a checkpoint's
      accepted = f"a directory with checkpoints whose _CHECKPOINT_METADATA is whole ({type(error).__name__}: {error})"
      raise ConfigError("--workdir", str(workdir), accepted) from error

  @property
  def steps(self) -> list[int]:
    """The steps that there are checkpoints of, on the first process."""
    return sorted(self._manager.all_steps()) if self._manager else []

  def save(self, state: TrainState, progress: dict) -> None:
    """Begins to write a checkpoint; the state may be donated, and progress changed, as soon as this returns.

    Args:
      state: replicated. There is no checkpoint of its step yet.
      progress: a JSON object; the checkpoint of progress["best"]["step"] is kept however old it gets.

    Raises:
      WorkdirError: this or an earlier one can't be written, or the one before is no longer there.
    """
    if not self._manager:
      return
    step = int(state.step)
    host = jax.tree.map(lambda x: np.array(x), state)
    record = checkpoint_contents.sealed({"progress": progress, "state": checkpoint_contents.checksums(host)})
    self._policy.best = progress["best"] and progress["best"]["step"]
    with self._writing():
      import orbax.checkpoint as ocp

      items = ocp.args.Composite(state=ocp.args.StandardSave(host), record=ocp.args.JsonSave(record))
      self._manager.wait_until_finished()  # of the one before, as Orbax's `save` would
      self._check()
      self._manager.save(step, args=items, force=True)

  def restore(
    self, like: TrainState, step: int | None = None, check: Callable[[dict], None] | None = None
  ) -> tuple[TrainState, dict] | None:
    """The state, in arrays of NumPy, and the progress of a step.

    Args:
      like: a state with the same shapes.
      step: None: the newest that is whole, with a warning for each that is not; a training moves these aside, and
        removes older ones that a process was killed in removing.
      check: raises ValueError where the progress is none that can be resumed from: then it is not whole either.

    Returns:
      None where there are no checkpoints and `step` is None.

    Raises:
      ConfigError: there is no such checkpoint, it is damaged, or all are.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)
    found: list = []  # on the first process, what the others are told of

    def choose() -> dict | None:
      found.extend(self._choose(shapes, step, check))
      if found and step is None and not self._read_only:
        self._remove_old(found[1]["best"] and found[1]["best"]["step"])
      return found[1] if found else None

    progress = processes.on_first(choose)
    if progress is None:
      return None
    return processes.arrays_of_first(found[0] if found else None, shapes), progress

  def forget_after(self, step: int | None) -> None:
    """Takes out the checkpoints after a step, which is that of one, or None: all of them."""
    for later in self.steps:
      if step is None or later > step:
        with self._writing():
          self._manager.delete(later)

  def variables(self) -> dict:
    """`VARIABLES` of the newest checkpoint that is whole, as nested dicts of NumPy arrays; on the first process.

    Raises:
      ConfigError: there is none.
    """
    found = self._choose(None, None)
    if not found:
      raise ConfigError("--workdir", str(self._workdir), "the directory of a run that has a checkpoint")
    return found[0]

  def wait(self) -> None:
    """Returns when all is on disk.

    Raises:
      WorkdirError: it can't be written, or is no longer there.
    """
    if self._manager:
      with self._writing():
        self._manager.wait_until_finished()
        self._check()

  def _check(self) -> None:
    """Checks that the newest one has not been removed: Orbax would make the directory anew, and say nothing."""
    for step in self.steps[-1:]:
      if not (path := self._workdir / "checkpoints" / str(step)).is_dir():
        raise WorkdirError(f"{path} is gone, a checkpoint of this run")

  def _choose(self, shapes: TrainState | None, step: int | None, check: Callable | None = None) -> Sequence:
    """(state, progress) of a step, or of the newest that is whole; () where there are none."""
    steps = self.steps
    if step is not None:
      if step not in steps:
        there = ", ".join(map(str, steps)) or "none yet"
        raise ConfigError("--step", step, f"the step of a checkpoint in the workdir: {there}")
      steps = [step]
    damaged: dict[int, str] = {}
    for candidate in reversed(steps):
      try:
        found = self._load(candidate, shapes)
        if check:
          check(found[1])
      except Exception as error:  # whatever a damaged file leads to
        if isinstance(error, OSError) and error.errno in NOT_DAMAGE:
          raise WorkdirError(f"{self._workdir / 'checkpoints'} can't be read: {error.strerror}") from error
        damaged[candidate] = line(f"{type(error).__name__}: {error}", 300)
        continue
      for other, reason in damaged.items():
        logging.warning("The checkpoint of step %d is damaged (%s); that of step %d is used.", other, reason, candidate)
        if not self._read_only:
          self._set_aside(other)
      return found
    if damaged:
      of, reason = next(iter(damaged.items()))
      accepted = f"a directory with a checkpoint that is whole; that of step {of} is not ({reason})"
      raise ConfigError("--workdir", str(self._workdir), accepted)
    return ()

  def _remove_old(self, best: int | None) -> None:
    """Removes what the last save would have, had the process not been killed: no other may follow that would."""
    self._policy.best = best
    steps = self.steps
    with self._writing():
      for step, stays in zip(steps, self._policy.preserved(steps), strict=True):
        if not stays:
          self._manager.delete(step)

  def _load(self, step: int, shapes: TrainState | None) -> tuple[Any, dict]:
    import orbax.checkpoint as ocp

    directory = Path(self._manager.directory) / str(step)
    stored = checkpoint_contents.file_bytes(directory)
    claimed = ocp.StandardCheckpointHandler().metadata(directory / "state").tree
    checkpoint_contents.check_arrays(claimed, shapes, stored)
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), record=ocp.args.JsonRestore())
    restored = self._manager.restore(step, args=items)
    state, contents = restored.state, checkpoint_contents.opened(restored.record)
    written = contents["state"]
    if shapes is None:
      state = {name: state[name] for name in VARIABLES if name in state}
      written = {path: checksum for path, checksum in written.items() if path.split("/")[0] in VARIABLES}
    if checkpoint_contents.checksums(state) != written:
      raise ValueError("the state does not match its checksums")
    return state, contents["progress"]

  def _set_aside(self, step: int) -> None:
    """Out of the way of the checkpoint that is going to be written of the same step."""
    target = self._workdir / DAMAGED / str(step)
    try:
      target.parent.mkdir(exist_ok=True)
      shutil.rmtree(target, ignore_errors=True)
      (self._workdir / "checkpoints" / str(step)).rename(target)
    except OSError as error:
      raise WorkdirError(f"{target} can't be written: {error.strerror or error}") from error
    self._manager.reload()

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except WorkdirError:
      raise
    except Exception as error:  # TensorStore has its own types for a full disk
      if not self._workdir.is_dir():
        raise WorkdirError(f"{self._workdir} is gone") from error
      known = next((os.strerror(number) for number in DISK if os.strerror(number) in str(error)), None)
      reason = known or line(str(error).rstrip("."), 300)  # TensorStore's are long, and say it somewhere
      raise WorkdirError(f"a checkpoint can't be written to {self._workdir / 'checkpoints'}: {reason}") from error

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind: type | None, *_: Any) -> None:
    if self._manager:
      # Where an error is on its way out already, the same one from here would hide it.
      with self._spelled, contextlib.suppress(Exception) if kind else self._writing():
        self._manager.close()


class _Kept:
  """Orbax's preservation policy: the last `keep`, and the best."""

  def __init__(self, keep: int):
    self._keep, self.best = keep, None

  def should_preserve(self, checkpoints: Sequence, *, context: Any) -> Sequence[bool]:
    del context
    return self.preserved([info.step for info in checkpoints])

  def preserved(self, steps: Sequence[int]) -> list[bool]:
    """Which of the steps' checkpoints stay."""
    oldest = len(steps) - self._keep
    return [number >= oldest or step == self.best for number, step in enumerate(steps)]


def preempted(call: int) -> bool:
  """Whether the cloud's notice of preemption asks all processes to stop at this call: Orbax's hook, over SIGTERM.

  Args:
    call: the number of the call, the same in all processes.
  """
  if jax.process_count() == 1:
    return False
  import orbax.checkpoint as ocp

  return ocp.utils.reached_preemption(call)


@functools.cache
def _tell_once() -> None:
  """What goes wrong is raised, and told by whoever catches it: the tracebacks that its threads print are left out."""
  shown = sys.unraisablehook

  def show(what: Any) -> None:
    if str(what.exc_value) != "Event loop is closed":  # of the reads still under way when one of them failed
      shown(what)

  sys.unraisablehook = show
  of_orbax = lambda record: bool(record.exc_info) and f"{os.sep}orbax{os.sep}" in record.pathname
  logging.getLogger("absl").addFilter(lambda record: not of_orbax(record))
