"""The run's record on disk: `metrics.jsonl`, TensorBoard, and whole JSON files."""

import json
import math
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

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
  line is one write, and is in the file when `write` returns; TensorBoard's files follow within 5 seconds. In a job of
  several processes, one of them has a journal.

  Made anew after a restart, it drops what the broken run wrote after the checkpoint that training goes on from, and a
  last line cut short, so that each step stands there once. For that, the lines of a step are to be written before the
  checkpoint of that step is, and not again after it was restored.

  Args:
    workdir: an existing directory on a file system that can append.
    config_log: the section `log` of a config; `tensorboard` says whether there is a `WORKDIR/tensorboard`.
    steps_per_epoch: the steps of one epoch.
    resume_step: the step of the checkpoint that was restored; 0 starts afresh, and drops all lines.
  """

  def __init__(self, workdir: str | Path, config_log: ConfigDict, steps_per_epoch: float, resume_step: int = 0):
    self._steps_per_epoch = steps_per_epoch
    path = Path(workdir) / "metrics.jsonl"
    _truncate(path, resume_step)
    self._file = path.open("ab", buffering=0)
    self._tensorboard = None
    if config_log.tensorboard:
      from tensorboardX import SummaryWriter  # here, for it takes 0.1 s to import

      # TensorBoard hides what older event files hold from purge_step on.
      purge_step = resume_step + 1 if resume_step else 0
      suffix = f".{os.getpid()}.{resume_step}"  # two files of the same second and name would overwrite each other
      self._tensorboard = SummaryWriter(
        str(Path(workdir) / "tensorboard"), purge_step=purge_step, flush_secs=5, filename_suffix=suffix
      )

  def write(self, split: str, step: int, **numbers: float | None) -> dict[str, Any]:
    """Writes a line, and returns it.

    Args:
      split: `train`, or the split that was evaluated (`test`).
      step: the number of updates made so far.
      **numbers: any of `NUMBERS`: Python numbers, NumPy or JAX scalars, or None.

    Raises:
      TypeError: for a number of another name.
      OSError: if the line could not be written whole.
    """
    if unknown := set(numbers) - set(NUMBERS):
      raise TypeError(f"no such number: {', '.join(sorted(unknown))}; there are {', '.join(NUMBERS)}")
    step = int(step)
    row = {"step": step, "epoch": step / self._steps_per_epoch, "split": split}
    row = _plain(row | {name: numbers.get(name) for name in NUMBERS})
    line = (json.dumps(row, allow_nan=False) + "\n").encode()
    if self._file.write(line) != len(line):
      raise OSError(f"{self._file.name}: a line could not be written whole; is the disk full?")
    if self._tensorboard:
      for name in NUMBERS:
        if row[name] is not None:
          self._tensorboard.add_scalar(f"{split}/{name}", row[name], step)
    return row

  def close(self) -> None:
    """Closes the files; may be called twice."""
    self._file.close()
    if self._tensorboard:
      self._tensorboard.close()
      self._tensorboard = None

  def __enter__(self) -> "Journal":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def write_json(path: str | Path, value: Any) -> None:
  """Writes a value as a JSON file that is there whole or not at all, whenever the process or the machine stops.

  Args:
    path: the file, in an existing directory. It is replaced if it exists.
    value: dicts, lists, tuples, strings, numbers (NumPy and JAX scalars too), booleans and None. Numbers that are not
      finite become null, which JSON has a word for.

  Raises:
    TypeError: for anything else.
  """
  _replace(Path(path), (json.dumps(_plain(value), indent=2, allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
  """The value in JSON's types; numbers that are not finite as None."""
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else None
  if isinstance(value, dict):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if getattr(value, "shape", None) == ():
    return _plain(value.item())
  raise TypeError(f"no place in JSON for {type(value).__name__}: {value!r}")


def _truncate(path: Path, step: int) -> None:
  """Drops the lines after a step (all of them at step 0), and what a write that was cut short left behind."""
  if not path.exists():
    return
  old = path.read_bytes()
  new = b"".join(line for line in old.splitlines(keepends=True) if step and 0 <= _step(line) <= step)
  if new != old:
    _replace(path, new)


def _step(line: bytes) -> int:
  """The step of a whole line, or -1."""
  try:
    return int(json.loads(line)["step"]) if line.endswith(b"\n") else -1
  except (ValueError, KeyError, TypeError):
    return -1


def _replace(path: Path, content: bytes) -> None:
  """Replaces a file's content at once: written beside it, synced, renamed."""
  beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with beside.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    beside.replace(path)
  finally:
    beside.unlink(missing_ok=True)
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)  # the rename itself
  finally:
    os.close(directory)
