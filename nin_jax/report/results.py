"""A sweep's files, read: the plan, what each trial reached, and its curves."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from nin_jax import whole_files
from nin_jax.checks import MAX_INT, is_number
from nin_jax.errors import ConfigError, line, shown
from nin_jax.sweep.naming import is_trial_id
from nin_jax.train.workdir import is_accuracy, is_count, locate

DONE, FAILED, PRUNED, WAITING = "done", "failed", "pruned", "waiting"
PLANNED = ("params", "macs", "flops", "train_flops")  # known before a trial runs
_NUMBERS = {  # what is no number at all: its name → what is accepted, and whether a value is
  "test_accuracy": ("a number from 0 to 1", is_accuracy),
  "train_accuracy": ("a number from 0 to 1", is_accuracy),
  "steps": ("a whole number", lambda value: is_count(value) and value <= MAX_INT),
}
REACHED = ("test_accuracy", "test_loss", "train_accuracy", "images_per_second", "wall_seconds", "steps")


@dataclasses.dataclass(frozen=True)
class Result:
  """A trial of the plan, and what it has reached so far.

  Attributes:
    trial: its id, the name of its directory.
    overrides: what the sweep changed in the config for it.
    seed: its seed; None where neither file has it.
    status: "done", "failed", "pruned", or "waiting" where `results.jsonl` has no line on it yet.
    error: why it failed, one line; None otherwise.
    numbers: `PLANNED` and `REACHED`, None where unknown: accuracies from 0 to 1, loss in nats, costs of one image
      (MACs, FLOPs) or of the whole training (train_flops), images/s, seconds.
    versions: of Python and packages; empty where it has not run.
    device: what it ran on, and on how many of them; "" where it has not run.
  """

  trial: str
  overrides: dict[str, Any]
  seed: int | None
  status: str
  error: str | None
  numbers: dict[str, float | None]
  versions: dict[str, str]
  device: str

  @property
  def setting(self) -> dict[str, Any]:
    """Its overrides but for the seed: the trials of one setting differ in nothing else."""
    return {name: value for name, value in self.overrides.items() if name != "seed"}

  @property
  def accuracy(self) -> float | None:
    """On the test images, 0 to 1; None unless it is done."""
    return self.numbers["test_accuracy"] if self.status == DONE else None


@dataclasses.dataclass(frozen=True)
class Results:
  """A sweep's results.

  Attributes:
    workdir: of the sweep.
    sweep: its name; config: the config file, as it was given.
    trials: all that were planned, in plan order.
    written: when `results.jsonl` was written, in seconds since 1970.
  """

  workdir: Path
  sweep: str
  config: str
  trials: tuple[Result, ...]
  written: float

  def directory(self, result: Result) -> Path:
    """Where a trial keeps its files; it need not be there."""
    return self.workdir / "trials" / result.trial

  def count(self, *status: str) -> int:
    """The trials of any of these statuses."""
    return sum(result.status in status for result in self.trials)

  @property
  def progress(self) -> str:
    """How many trials there are, and how many came to nothing: "9 of 15 trials, 1 failed"."""
    planned, ended = len(self.trials), len(self.trials) - self.count(WAITING)
    said = f"{planned} trials" if ended == planned else f"{ended} of {planned} trials"
    parts = [f"{self.count(status)} {status}" for status in (FAILED, PRUNED) if self.count(status)]
    return ", ".join([said.replace("1 trials", "1 trial") if planned == 1 else said, *parts])


def read(workdir: str | Path) -> Results:
  """Reads `sweep.json` and `results.jsonl` of a sweep that has ended or still runs.

  Raises:
    ConfigError: there is no such sweep, a file of it isn't whole, or no trial of it is done yet.
  """
  directory = locate(workdir)
  if not directory.is_dir():
    raise ConfigError("--workdir", str(workdir), "the directory of a sweep (python -m experiments.sweep makes one)")
  plan_path, results_path = directory / "sweep.json", directory / "results.jsonl"
  if not plan_path.exists():
    raise ConfigError("--workdir", str(workdir), "the directory of a sweep, which has a sweep.json")
  plan = _parse(plan_path, _text(plan_path))
  planned = plan.get("trials")
  if not isinstance(planned, list) or not planned or not all(map(_is_planned, planned)):
    raise _not_whole(plan_path)
  ids = [trial["trial"] for trial in planned]
  if len(set(ids)) < len(ids):
    raise _not_whole(plan_path)
  reached = _lines(results_path, set(ids))
  trials = tuple(_result(trial, reached.get(trial["trial"], {"status": WAITING}), results_path) for trial in planned)
  if not any(result.accuracy is not None for result in trials):
    failed = sum(result.status == FAILED for result in trials)
    why = f" ({failed} of {len(trials)} trials failed)" if failed else ""
    raise ConfigError("--workdir", str(workdir), f"a sweep of which a trial is done; none is yet{why}")
  name, config = (line(value) if isinstance(value := plan.get(key), str) else "" for key in ("sweep", "config"))
  return Results(directory, name, config, trials, results_path.stat().st_mtime)


def metrics(path: Path) -> list[dict[str, Any]]:
  """The lines of a trial's `metrics.jsonl`; none where there is no file, and not a last line that is still written.

  Raises:
    ConfigError: another line is no JSON object with a step.
  """
  if not os.path.exists(path):  # not Path.exists, which raises where the trial's directory is closed to this user
    return []
  lines = _text(path).split("\n")[:-1]
  rows = [_parse(path, row) for row in lines]
  for row in rows:
    if not all(isinstance(row.get(key), int | float) for key in ("step", "epoch")):
      raise _not_whole(path)
  return rows


def _lines(path: Path, ids: set[str]) -> dict[str, dict]:
  """{trial: its line} of `results.jsonl`; none where no trial has ended yet."""
  reached = {}
  for number, text in enumerate(_text(path).split("\n") if path.exists() else [], 1):
    if text.strip():
      row = _parse(path, text, number)
      trial, status = row.get("trial"), row.get("status")
      if not isinstance(trial, str) or trial not in ids or status not in (DONE, FAILED, PRUNED):
        raise _not_whole(path, number)
      reached[trial] = row
  return reached


def _is_planned(trial: Any) -> bool:
  """Whether it has an id that names a directory and nothing above it, and overrides."""
  if not isinstance(trial, dict) or not isinstance(trial.get("overrides"), dict):
    return False
  return is_trial_id(trial.get("trial"))


def _result(planned: dict, reached: dict, path: Path) -> Result:
  numbers = {name: reached.get(name, planned.get(name)) for name in PLANNED}
  numbers |= {name: reached.get(name) for name in REACHED}
  for name, value in numbers.items():
    accepted, is_right = _NUMBERS.get(name, ("a number", is_number))
    if value is not None and not is_right(value):
      said = f"a sweep whose {path.name} has {accepted} or null as {name} of {planned['trial']}, not {shown(value)}"
      raise ConfigError("--workdir", str(path.parent), said)
  seed = reached.get("seed", planned.get("seed", planned["overrides"].get("seed")))
  versions, device, devices = reached.get("versions"), reached.get("device"), reached.get("devices")
  return Result(
    trial=planned["trial"],
    overrides=planned["overrides"],
    seed=seed if isinstance(seed, int) else None,
    status=reached["status"],
    error=line(str(reached["error"]), 1000) if reached.get("error") else None,
    numbers=numbers,
    versions={str(name): str(value) for name, value in versions.items()} if isinstance(versions, dict) else {},
    device=f"{devices} × {device}" if isinstance(devices, int) and devices > 1 else str(device or ""),
  )


def _text(path: Path) -> str:
  try:
    return whole_files.read(path).decode()
  except (OSError, ValueError) as error:
    raise _not_whole(path) from error


def _parse(path: Path, text: str, number: int | None = None) -> dict[str, Any]:
  try:
    values = whole_files.parse(text)
  except ValueError as error:
    raise _not_whole(path, number) from error
  if not isinstance(values, dict):
    raise _not_whole(path, number)
  return values


def _not_whole(path: Path, number: int | None = None) -> ConfigError:
  where = f" (line {number} is not)" if number else ""
  return ConfigError("--workdir", str(path.parent), f"the directory of a sweep, whose {path.name} is whole{where}")
