"""The run's record on disk: `metrics.jsonl`, and the same numbers for TensorBoard."""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from nin_jax import errors, whole_files
from nin_jax.train.storage import WorkdirError, plain, replace, writing
from nin_jax.train.tensorboard import Events

NUMBERS = (
  "loss",  # mean over images, nats
  "accuracy",  # 0 to 1
  "learning_rate",
  "images_per_second",
  "step_seconds",
  "train_flops",  # spent since step 0
  "flops_per_second",
  "mfu",  # 0 to 1
  "wall_seconds",  # of training since step 0
)


class Journal:
  """Appends one object a line to `metrics.jsonl`, and the same numbers to TensorBoard.

  Each line has the keys `step`, `epoch`, `split` and `NUMBERS`, null where a number was not given or is not finite. A
  line is one write, and is in the file when `write` returns. In a job of several processes, one of them has a journal.

  Made anew after a restart, it drops what the broken run wrote after the checkpoint that training goes on from, and a
  last line cut short, so that each step stands there once. For that, the lines of a step are to be written before the
  checkpoint of that step is, and not again after it was restored.

  A file that is removed, truncated or replaced while the run has it open would take no more lines: each line is read
  back, and the last one before each checkpoint.

  Args:
    workdir: an existing directory on a file system that can append.
    config_log: the section `log` of a config; `tensorboard` says whether there is a `WORKDIR/tensorboard`.
    steps_per_epoch: the steps of one epoch.
    resume_step: the step of the checkpoint that was restored; 0 starts afresh, and drops all lines.
    evaluated: whether that checkpoint was written after the evaluation of its step; if not, it is to be done again.

  Raises:
    WorkdirError: the file can't be written, or is no longer there, here and in the methods.
  """

  def __init__(
    self,
    workdir: str | Path,
    config_log: ConfigDict,
    steps_per_epoch: float,
    resume_step: int = 0,
    evaluated: bool = True,
  ):
    self._steps_per_epoch = steps_per_epoch
    self._path = Path(workdir) / "metrics.jsonl"
    with writing(self._path):
      _truncate(self._path, resume_step, evaluated)
      self._file = self._path.open("ab", buffering=0)
      self._last, self._end = b"", self._file.seek(0, os.SEEK_END)  # the last line, and where it ends
    self._tensorboard = Events(Path(workdir) / "tensorboard", resume_step) if config_log.tensorboard else None

  def write(self, split: str, step: int, **numbers: float | None) -> dict[str, Any]:
    """Writes a line, and returns it.

    Args:
      split: `train`, or the split that was evaluated (`test`).
      step: the number of updates made so far.
      **numbers: any of `NUMBERS`: Python numbers, NumPy or JAX scalars, or None.

    Raises:
      TypeError: for a number of another name.
    """
    if unknown := set(numbers) - set(NUMBERS):
      raise TypeError(f"no such number: {', '.join(sorted(unknown))}; there are {', '.join(NUMBERS)}")
    step = int(step)
    row = {"step": step, "epoch": step / self._steps_per_epoch, "split": split}
    row = plain(row | {name: numbers.get(name) for name in NUMBERS})
    line = (json.dumps(row, allow_nan=False) + "\n").encode()
    with writing(self._path):
      if self._file.write(line) != len(line):
        raise OSError("a line could not be written whole, as on a full disk")
      self._last, self._end = line, max(self._end + len(line), self._file.tell())
    self.check()
    if self._tensorboard:
      scalars = {f"{split}/{name}": row[name] for name in NUMBERS if row[name] is not None}
      self._tensorboard.write(step, scalars)
    return row

  def check(self) -> None:
    """Raises WorkdirError if the file of that name doesn't have the last line that was written."""
    # Not by the file's inode: on some network and shared file systems that changes.
    try:
      with self._path.open("rb") as file:
        file.seek(self._end - len(self._last))
        there = file.read(len(self._last)) == self._last and file.seek(0, os.SEEK_END) >= self._end
    except OSError as error:
      raise WorkdirError(f"{self._path} is gone ({error.strerror}), with what this run has written to it") from error
    if not there:
      raise WorkdirError(f"{self._path} has been changed by another program, and lacks what this run has written to it")

  def settle(self) -> None:
    """Makes TensorBoard's file, which takes a while, where none is there yet."""
    if self._tensorboard:
      self._tensorboard.open()

  def sync(self) -> None:
    """Returns when all lines would survive a power cut: to be called before a checkpoint that says they are there."""
    with writing(self._path):
      os.fsync(self._file.fileno())
    self.check()

  def close(self) -> None:
    """Closes the files; may be called twice."""
    with contextlib.suppress(OSError):  # all is written; what is left is a full disk's complaint
      self._file.close()
      if self._tensorboard:
        self._tensorboard.close()
    self._tensorboard = None

  def __enter__(self) -> "Journal":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _truncate(path: Path, step: int, evaluated: bool) -> None:
  """Drops the lines after a step (all of them at step 0), and what a write that was cut short left behind."""
  if not path.exists():
    if step > 0:
      logging.warning("%s is missing: it begins anew after step %d", errors.line(str(path)), step)
    return
  old = whole_files.read(path, most=sys.maxsize)
  new = b"".join(line for line in old.splitlines(keepends=True) if _stays(line, step, evaluated))
  if new != old:
    replace(path, new)


def _stays(line: bytes, last: int, evaluated: bool) -> bool:
  try:
    row = whole_files.parse(line)
    step, split = int(row["step"]), row.get("split")
  except (ValueError, KeyError, TypeError, AttributeError):
    return False
  done = step < last or (step == last and (evaluated or split == "train"))
  return last > 0 and step >= 0 and done and line.endswith(b"\n")
