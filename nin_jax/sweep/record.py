"""What has become of a sweep's trials: `results.jsonl`, made from the files of each trial."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nin_jax import whole_files
from nin_jax.sweep.trial import Trial
from nin_jax.sweep.work import directory
from nin_jax.train import workdir as workdirs
from nin_jax.train.storage import WorkdirError, plain, replace, write_json, writing

FILES = (workdirs.SWEEP, "search.journal")  # of the workdir, which `check` looks for
# What a row has of a trial that has no result.
MISSING = (
  "steps",
  "test_accuracy",
  "test_loss",
  "test_images",
  "best_test_accuracy",
  "best_step",
  "train_accuracy",
  "train_loss",
  "images_per_second",
  "wall_seconds",
  "device",
  "devices",
  "versions",
)


class Record:
  """The state of each trial, on disk.

  A trial is done when it has a `result.json`. One that has failed has a `failure.json`: {"error", "attempts", "final",
  "crashed", "step"}, and if it crashed in native code the "lowering" that it had; one that a search ended early a
  `pruned.json`: {"step", "test_accuracy"}.

  Args:
    workdir: the sweep's.
    trials: in the order of the plan.
    retries: how many times a failed trial is tried again. An attempt that came further than the one before, by the step
      of its newest checkpoint, counts as the first.
  """

  def __init__(self, workdir: Path, trials: Sequence[Trial], retries: int):
    self._workdir, self._trials, self._retries = workdir, list(trials), retries
    self._results: dict[str, dict] = {}
    self._failures: dict[str, dict] = {}
    self._pruned: dict[str, dict] = {}
    self._sizes: dict[Path, int] = {}
    self._seen: set[str] = set()  # the trials whose `result.json` was there at the last `write`
    for trial in self._trials:
      place = directory(workdir, trial.id)
      self._look(trial)
      failure = _read(place / "failure.json", trial.id, _is_failure)
      if all(known.get("lowering") in (None, trial.config.get("lowering")) for known in failure.values()):
        self._failures |= failure  # what crashed in native code is tried again with another lowering
      self._pruned |= _read(place / "pruned.json", trial.id, _is_pruned)

  def _look(self, trial: Trial) -> None:
    """Takes in the trial's result, where it has one."""
    if result := workdirs.result(directory(self._workdir, trial.id), trial.config):
      self._results[trial.id] = result

  def add(self, trial: Trial) -> None:
    """Takes in one more trial, at the end of the plan."""
    self._trials.append(trial)

  def ended(self, trial: str, result: dict) -> None:
    """A trial has come to its end."""
    self._results[trial] = result
    self.write()

  def failed(self, trial: str, error: str, final: bool, crashed: bool = False) -> None:
    """An attempt has failed.

    Args:
      trial: its id.
      error: one line.
      final: no further attempt would do better, in this start of the sweep or a later one; until the trial's
        `failure.json` is removed.
      crashed: its process crashed in native code: another lowering may do better.
    """
    known = next(known for known in self._trials if known.id == trial)
    self._look(known)
    if self.done(trial):  # it had come to its end, and could not tell
      self.write()
      return
    step, before = self.step(trial), self._failures.get(trial)
    attempts = before["attempts"] + 1 if before and step <= before["step"] else 1
    failure = {"error": error, "attempts": attempts, "final": final, "crashed": crashed, "step": step}
    if crashed:
      failure["lowering"] = known.config.get("lowering")
    self._failures[trial] = failure
    self._write(trial, "failure.json", failure)
    self.write()

  def pruned(self, trial: str, step: int, accuracy: float) -> None:
    """A search has ended a trial early."""
    self._pruned[trial] = {"step": step, "test_accuracy": accuracy}
    self._write(trial, "pruned.json", self._pruned[trial])
    self.write()

  def done(self, trial: str) -> bool:
    """Whether it has a result."""
    return trial in self._results

  def given_up(self, trial: str) -> bool:
    """Whether it has failed for good."""
    failure = self._failures.get(trial)
    return bool(failure) and trial not in self._results and (failure["final"] or failure["attempts"] > self._retries)

  def is_open(self, trial: str) -> bool:
    """Whether it is still to be trained."""
    return not (self.done(trial) or self.given_up(trial) or trial in self._pruned)

  def any_done(self) -> bool:
    """Whether there is a result."""
    return bool(self._results)

  def over(self) -> list[str]:
    """The trials that have a result, or were ended early."""
    return [trial.id for trial in self._trials if self.done(trial.id) or trial.id in self._pruned]

  def failures(self) -> dict[str, str]:
    """{trial: error} of those that are given up."""
    return {trial.id: self._failures[trial.id]["error"] for trial in self._trials if self.given_up(trial.id)}

  def faults(self) -> list[str]:
    """Those given up for a fault of the program or the machine, not for what they are."""
    failures = {trial: self._failures[trial] for trial in self.failures()}
    return [trial for trial, failure in failures.items() if failure.get("crashed") or not failure["final"]]

  def step(self, trial: str) -> int:
    """The step of its newest checkpoint; −1: none yet."""
    checkpoints = directory(self._workdir, trial) / "checkpoints"
    steps = [int(path.name) for path in checkpoints.glob("*") if path.name.isdecimal()]
    return max(steps, default=-1)

  def check(self) -> None:
    """Checks that no file that a sweep is resumed from is missing, or shorter than at the last call.

    Raises:
      WorkdirError: one is.
    """
    for path in (self._workdir / name for name in FILES):
      before = self._sizes.get(path)
      try:
        self._sizes[path] = path.stat().st_size
      except OSError as error:
        if before is not None:
          raise WorkdirError(f"{path} is gone ({error.strerror})") from error
      else:
        if before and self._sizes[path] < before:
          raise WorkdirError(
            f"{path} has been changed by another program: it has {self._sizes[path]} of {before} bytes"
          )

  def rows(self) -> list[dict[str, Any]]:
    """The rows of `results.jsonl`, in the order of the plan, of those that are no longer open."""
    return [self._row(trial) for trial in self._trials if not self.is_open(trial.id)]

  def write(self) -> None:
    """Writes `results.jsonl` at once.

    Raises:
      WorkdirError: it can't be written; or a trial's `result.json` was removed, whose row is then left out.
    """
    path = self._workdir / "results.jsonl"
    seen = {trial for trial in self._results if (directory(self._workdir, trial) / "result.json").exists()}
    # Only what was seen before: a result from another node may be visible here a minute later (NFS caches lookups).
    gone = sorted(self._seen - seen)
    self._seen = seen
    for trial in gone:
      del self._results[trial]
    with writing(path):
      replace(path, "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in self.rows()).encode())
    if gone:
      more = f", and that of {len(gone) - 1} more" if gone[1:] else ""
      raise WorkdirError(f"{directory(self._workdir, gone[0]) / 'result.json'} is gone{more}")

  def _row(self, trial: Trial) -> dict[str, Any]:
    failure = self._failures.get(trial.id)
    row = {
      "trial": trial.id,
      "status": "done",
      "error": None,
      "attempts": (failure["attempts"] if failure else 0) + self.done(trial.id),
      "seed": trial.seed,
      "overrides": trial.overrides,
    }
    if self.done(trial.id):
      return self._results[trial.id] | row
    planned = {"params": trial.params, "macs": trial.macs, "flops": 2 * trial.macs, "train_flops": trial.train_flops}
    row |= dict.fromkeys(MISSING) | planned
    if trial.id in self._pruned:
      pruned = self._pruned[trial.id]
      return row | {"status": "pruned", "steps": pruned["step"], "test_accuracy": pruned["test_accuracy"]}
    return row | {"status": "failed", "error": failure["error"]}

  def _write(self, trial: str, name: str, value: dict) -> None:
    place = directory(self._workdir, trial)
    with writing(place / name):
      place.parent.mkdir(exist_ok=True)  # not the sweep's workdir, if that has been moved
      place.mkdir(exist_ok=True)
      write_json(place / name, value)


def _read(path: Path, trial: str, is_whole: Callable[[dict], bool]) -> dict[str, dict]:
  """{trial: the object in a file}; {} where there is none that is whole."""
  try:
    value = whole_files.read_json(path)
  except (OSError, ValueError):
    return {}
  return {trial: value} if isinstance(value, dict) and is_whole(value) else {}


def _is_failure(value: dict) -> bool:
  return (
    isinstance(value.get("error"), str)
    and workdirs.is_count(value.get("attempts"))
    and isinstance(value.get("final"), bool)
    and isinstance(value.get("step"), int)
    and isinstance(value.get("lowering"), str | None)
  )


def _is_pruned(value: dict) -> bool:
  return workdirs.is_count(value.get("step")) and workdirs.is_accuracy(value.get("test_accuracy"))
