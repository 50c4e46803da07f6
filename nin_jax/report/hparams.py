"""What TensorBoard's HParams tab shows of each trial."""

import os
from pathlib import Path
from typing import Any

from nin_jax.printable import printable
from nin_jax.report.results import DONE, FAILED, PRUNED, Result, Results
from nin_jax.report.statistics import spelled

NAME = "events.out.tfevents.hparams"  # read after the run's own files, which it sorts after; replaced when made again
# TensorBoard's tag → the number of a trial. The first two are the tags that the run itself writes over its steps.
METRICS = {
  "test/accuracy": "test_accuracy",
  "test/loss": "test_loss",
  "result/train_accuracy": "train_accuracy",
  "result/images_per_second": "images_per_second",
  "cost/params": "params",
  "cost/macs": "macs",
  "cost/train_flops": "train_flops",
}


def write(results: Results) -> list[Path]:
  """Writes an event file to `trials/ID/tensorboard` of each trial that has ended, where its directory is; gives paths.

  Raises:
    OSError: one can't be written.
  """
  ended = [result for result in results.trials if result.status in (DONE, FAILED, PRUNED)]
  return [_write(results, result) for result in ended if results.directory(result).is_dir()]


def _write(results: Results, result: Result) -> Path:
  from tensorboardX.proto.event_pb2 import Event  # here, for it takes 0.1 s to import
  from tensorboardX.record_writer import RecordWriter
  from tensorboardX.summary import hparams, scalar

  shown = {printable(name): _shown(value) for name, value in result.overrides.items()} | {"seed": result.seed}
  measured = {tag: result.numbers[name] for tag, name in METRICS.items() if result.numbers[name] is not None}
  experiment, start, end = hparams(shown, METRICS)
  if result.status == FAILED:
    _fail(end)
  step = int(result.numbers["steps"] or 0)
  events = [Event(file_version="brain.Event:2"), *(Event(summary=summary) for summary in (experiment, start, end))]
  events += [Event(step=step, summary=scalar(tag, value)) for tag, value in measured.items()]
  directory = results.directory(result) / "tensorboard"
  directory.mkdir(exist_ok=True)
  beside = directory / f".{NAME}.{os.getpid()}.tmp"
  try:
    writer = RecordWriter(str(beside))
    for event in events:
      event.wall_time = results.written
      writer.write(event.SerializeToString())
    writer.close()
    beside.replace(directory / NAME)
  finally:
    beside.unlink(missing_ok=True)
  return directory / NAME


def _fail(end: Any) -> None:
  """Makes the summary of a session's end, which says success, say failure."""
  from tensorboardX.proto.api_pb2 import Status
  from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

  plugin = end.value[0].metadata.plugin_data
  content = HParamsPluginData.FromString(plugin.content)
  content.session_end_info.status = Status.Value("STATUS_FAILURE")
  plugin.content = content.SerializeToString()


def _shown(value: object) -> object:
  """A value that the tab has a column for: numbers, truth values and text."""
  return (
    value if isinstance(value, int | float | bool) else printable(value if isinstance(value, str) else spelled(value))
  )
