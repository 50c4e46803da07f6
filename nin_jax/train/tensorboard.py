"""TensorBoard's event files."""

import os
import time
from collections.abc import Mapping
from pathlib import Path


class Events:
  """Scalars by step, in a new event file, which is made for the first of them, or before.

  Written by the caller's thread: `tensorboardX.SummaryWriter` has one of its own, and where that dies of a full disk,
  the next calls block without end.

  Args:
    directory: where to; it is made.
    resume_step: TensorBoard hides what older files of the directory hold of the steps after it; 0: of all steps.
  """

  def __init__(self, directory: Path, resume_step: int):
    self._directory, self._resume_step, self._writer = directory, resume_step, None

  def open(self) -> None:
    """Makes the file, where it has not been made."""
    if self._writer:
      return
    from tensorboardX.event_file_writer import EventsWriter  # here: it imports torch where there is one, for a second
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    self._event = Event
    self._directory.mkdir(parents=True, exist_ok=True)
    suffix = f".{os.getpid()}.{self._resume_step}"  # two files of the same second and name would overwrite each other
    self._writer = EventsWriter(str(self._directory / "events"), suffix)
    purge_step = self._resume_step + 1 if self._resume_step else 0
    start = SessionLog(status=SessionLog.START)
    self._writer.write_event(Event(wall_time=time.time(), step=purge_step, session_log=start))
    self._writer.flush()

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars by their tag; they are in the file when this returns."""
    self.open()
    from tensorboardX.summary import scalar

    for tag, value in scalars.items():
      self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
    self._writer.flush()

  def close(self) -> None:
    """Closes the file."""
    if self._writer:
      self._writer.close()
