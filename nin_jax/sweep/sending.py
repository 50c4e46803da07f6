"""A trial's files on their way from a node that has no file system in common with the sweep's workdir."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from nin_jax.train.storage import replace, write_json, writing

METRICS, EVENTS = "metrics.jsonl", "events"
EVENT_FILE = "events.out.tfevents.0.sent"


def packed(directory: Path) -> dict[str, bytes]:
  """The small files that training has left in a workdir: its metrics and TensorBoard's events.

  Checkpoints stay where they are: they are large, and nobody goes on from them once the trial has ended.
  """
  files = {}
  if (directory / METRICS).exists():
    files[METRICS] = (directory / METRICS).read_bytes()
  if events := sorted((directory / "tensorboard").glob("*tfevents*")):
    files[EVENTS] = b"".join(path.read_bytes() for path in events)  # they are records, one after the other
  return files


def unpack(files: Mapping[str, bytes], directory: Path, config: dict, result: dict | None) -> None:
  """Writes a trial's files into its workdir, each whole or not at all, the result last.

  Which files those are, and where, is decided here, whatever names have come.

  Args:
    files: of `packed`.
    directory: the trial's, of the sweep's workdir.
    config: of the trial.
    result: the object for `result.json`; None: the trial has none.

  Raises:
    WorkdirError: they can't be written.
  """
  with writing(directory):
    directory.parent.mkdir(exist_ok=True)  # not the sweep's workdir, if that has been moved
    directory.mkdir(exist_ok=True)
    if result:  # what an earlier attempt has left, on a node that could write here, is not of this training
      shutil.rmtree(directory / "checkpoints", ignore_errors=True)
      shutil.rmtree(directory / "tensorboard", ignore_errors=True)
    write_json(directory / "config.json", config)
    if METRICS in files:
      replace(directory / METRICS, files[METRICS])
    if EVENTS in files:
      (directory / "tensorboard").mkdir(exist_ok=True)
      replace(directory / "tensorboard" / EVENT_FILE, files[EVENTS])
    if result:
      write_json(directory / "result.json", result)
