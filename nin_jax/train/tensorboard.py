"""TensorBoard's event files."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path


class Events:
  """Scalars by step, in a new event file, which is made for the first of them, or before.

  Written by the caller's thread: `tensorboardX.SummaryWriter` has one of its own, and where that dies of a full disk,
  the next calls block without end. If they can't be written any more (a full disk, a directory that is removed), a
  warning says so once, and nothing more is written: `metrics.jsonl` has the same numbers.

  Args:
    directory: where to; it is made.
    resume_step: TensorBoard hides what older files of the directory hold of the steps after it; 0: of all steps.
  """

  def __init__(self, directory: Path, resume_step: int):
    self._directory, self._resume_step, self._writer = directory, resume_step, None
    self._suffix = f".{os.getpid()}.{resume_step}"  # two files of the same second and name would overwrite each other
    self._failed = False

  def open(self) -> None:
    """Makes the file, where it has not been made."""
    with self._warning():
      self._open()

  def _open(self) -> None:
    if self._writer or self._failed:
      return
    from tensorboardX.event_file_writer import EventsWriter  # here: it imports torch where there is one, for a second
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    self._event = Event
    self._directory.mkdir(parents=True, exist_ok=True)
    self._writer = EventsWriter(str(self._directory / "events"), self._suffix)
    purge_step = self._resume_step + 1 if self._resume_step else 0
    start = SessionLog(status=SessionLog.START)
    self._writer.write_event(Event(wall_time=time.time(), step=purge_step, session_log=start))
    self._writer.flush()

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars by their tag; they are in the file when this returns."""
    from tensorboardX.summary import scalar

    with self._warning():
      self._open()
      if self._failed:
        return
      for tag, value in scalars.items():
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
      self._writer.flush()
      if not any(self._directory.glob(f"events*{self._suffix}")):
        raise FileNotFoundError("the file has been removed")

  def close(self) -> None:
    """Closes the file."""
    if self._writer:
      with contextlib.suppress(OSError):  # all is written; what is left is a full disk's complaint
        self._writer.close()

  @contextlib.contextmanager
  def _warning(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      self._failed = True
      reason = error.strerror or error
      logging.warning(
        "%s can't be written (%s): TensorBoard will not see the rest of this run.", self._directory, reason
      )
