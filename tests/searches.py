"""What tests of searches share: a search of a small network, and an engine that answers without training."""

import dataclasses
import json
import math
from pathlib import Path

from test_configs import load

from nin_jax.config import from_json
from nin_jax.sweep import events, plan_file, run, search, space, study
from nin_jax.sweep.record import Record
from nin_jax.train.storage import write_json

AXES = {
  "optimizer.learning_rate": space.log_uniform(1e-4, 1.0),
  "optimizer.weight_decay": space.uniform(0.0, 0.1),
  "model.inception_1a.reduce3x3": space.power_of_two(2, 64),
}

RESULT = {"steps": 30, "train_accuracy": 0.5, "params": 1, "macs": 2, "devices": 1, "device": "cpu"}


def base(changes=None):
  """The digits' network with the first module alone: ten evaluations in 100 steps."""
  config = load("inception_digits")
  with config.unlocked():
    for module in ("inception_1b", "inception_2a", "inception_2b"):
      del config.model[module]
  config.train.steps = 100
  config.eval.every_steps = 10
  config.update_from_flattened_dict(changes or {})
  return config


def accuracy(overrides: dict) -> float:
  """Best at a learning rate of 0.03, a decay of 0.02 and a width of 16; the seed adds a little."""
  distance = math.log10(overrides["optimizer.learning_rate"] / 0.03) ** 2
  distance += (30 * (overrides.get("optimizer.weight_decay", 0.02) - 0.02)) ** 2
  distance += (math.log2(overrides.get("model.inception_1a.reduce3x3", 16) / 16) / 3) ** 2
  return 1 / (1 + distance) - 0.001 * overrides.get("seed", 0)


RATES = {"optimizer.learning_rate": AXES["optimizer.learning_rate"]}


class Killed(BaseException):
  """The process was killed."""


class Silent:
  def show(self, event):
    pass


@dataclasses.dataclass
class Fake:
  """An engine: accuracy rises with the steps to what a function of the overrides says."""

  workers: int = 1
  accuracy: object = accuracy
  evaluations: int = 10
  fails: object = lambda overrides: None  # the error that a trial ends with, and whether it is final

  def __post_init__(self):
    self.running, self.trained, self.evaluated, self.told = [], [], 0, []

  def free(self):
    return self.workers - len(self.running)

  def submit(self, task):
    self.trained += [trial["trial"] for trial in task["trials"] if not trial["left_out"]]
    self.running.append([task, 0, True])

  def answer(self, trials, go):
    for group in self.running:
      if {trial["trial"] for trial in group[0]["trials"]} >= set(trials):
        group[2] = go

  def happened(self, timeout):
    told = []
    for group in list(self.running):
      task, done, go = group
      open_trials = [trial for trial in task["trials"] if not trial["left_out"]]
      ids = tuple(trial["trial"] for trial in open_trials)
      final = [self.accuracy(trial["overrides"]) for trial in open_trials]
      at = tuple(value * done / self.evaluations for value in final)
      if failure := self.fails(open_trials[0]["overrides"]):
        told += [events.Failed(trial, *failure) for trial in ids]
      elif not go:
        told.append(events.Pruned(ids, 10 * done, at))
      elif done == self.evaluations:
        told += [self.ended(trial, value) for trial, value in zip(open_trials, final, strict=True)]
      else:
        group[1] += 1
        self.evaluated += 1
        at = tuple(value * group[1] / self.evaluations for value in final)
        told.append(events.Evaluated(ids, 10 * group[1], at))
        continue
      self.running.remove(group)
    self.told += told
    return told

  def ended(self, trial, value):
    place, result = Path(trial["directory"]), {**RESULT, "test_accuracy": value, "trial": trial["trial"]}
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "config.json", from_json(json.dumps(trial["config"])).to_dict())
    write_json(place / "result.json", result)
    return events.Ended(trial["trial"], result)

  def stop(self):
    return []


def start(directory, sweep=None, storage=None, retries=1, changes=None, **options):
  """What a command does before it trains: (the plan, the record, the source)."""
  plan = search.plan(space.of(sweep or space.sample(20, AXES)), base(changes), "some", "configs/some.py", **options)
  plan = search.resume(plan, directory)
  directory = plan_file.write(plan, directory)
  record = Record(directory, plan.trials, retries)
  return plan, record, search.source(plan, directory, record, storage)


def searched(directory, sweep=None, engine=None, **options):
  """Runs a search to its end; returns (its engine, its source, the rows of its results)."""
  engine = engine or Fake()
  _, record, source = start(directory, sweep, **options)
  run.run(directory, source, record, engine, Silent())
  return engine, source, record.rows()


def trials(directory):
  """Optuna's trials in the journal of a workdir, as another program reads them."""
  name = plan_file.read(directory).search["study"]
  return study.open_study(str(directory / "search.journal"), name, True).get_trials()


def states(directory):
  return [trial.state.name for trial in trials(directory)]


def planned(directory):
  return [trial.overrides for trial in plan_file.read(directory).trials]
