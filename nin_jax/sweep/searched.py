"""The groups of a search: each is asked for when there is room for it, and told of when it has ended."""

import copy
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nin_jax import data
from nin_jax.errors import ConfigError
from nin_jax.sweep import distributions, events, overriding, plan_file, planning, search, space, study
from nin_jax.sweep.naming import short_names, short_value, trial_id
from nin_jax.sweep.plan import Plan, identity, points
from nin_jax.sweep.record import Record
from nin_jax.sweep.run import Group
from nin_jax.sweep.trial import Trial
from nin_jax.train.validation import total_steps

MOST_REJECTED = 100  # points one after the other that can't be trained, or were before: then the search is at its end
STUCK = 10  # such points one after the other, after which another sampler has its turn


class Searched:
  """A search as the source of a run's groups, each a point with all of its seeds.

  The study and the workdir are joined by the configs: two points never have the same, and a trial of the study that is
  running is that of the group with its config. So whenever the process is killed, each point counts once: `sweep.json`
  has it before it is trained, and what the study was not yet told of is told when the search goes on.

  Args:
    plan: with what has been asked for so far; `search` says what is searched.
    directory: the sweep's workdir.
    record: of the plan's trials; new ones are added.
    opened: the study.

  Attributes:
    added: called with each new group, before it is trained.

  Raises:
    ConfigError: the study does not have the plan's trials.
  """

  asks = True

  def __init__(self, plan: Plan, directory: Path, record: Record, opened: optuna.Study):
    self._plan, self._directory, self._record, self._study = plan, directory, record, opened
    self._ranges = search.ranges(plan)
    self._distributions = distributions.of(self._ranges)
    self.added: Callable[[Group], None] = lambda group: None
    self._groups = {identity(group[0].config, seed=False): group for group in points(plan.trials)}
    self._keys = {trial.id: key for key, group in self._groups.items() for trial in group}
    self._known: dict[str, int] = {}  # the number of the trial that the study knows a config by
    self._running: dict[str, optuna.Trial] = {}
    self._interrupted: list[optuna.Trial] = []  # asked for, and nothing came of it yet
    self._steps: dict[str, int] = {}  # of a group's whole training
    self._drawn = self._rejected = self._repeated = self._refused = 0  # points; the last three one after the other
    self._least: dict[str, int] = {}  # that points which cost too much would have needed
    self._mistake: ConfigError | None = None
    for trial in opened.get_trials(deepcopy=False):
      self._take_up(trial)
    if not self._groups.keys() <= self._known.keys() | self._running.keys():
      accepted = "the one that this search was begun with: this one does not have all of its trials"
      raise ConfigError("--storage", plan.search["study"], accepted)
    # A group of which files were taken away is trained again, though the study knows it.
    self._waiting = [group for group in self._groups.values() if any(record.is_open(trial.id) for trial in group)]
    for key in list(self._running):
      if self._groups[key] not in self._waiting:
        self.settled(self._groups[key], record)

  @property
  def points(self) -> int:
    """How many it is to train."""
    return self._plan.search["points"]

  @property
  def to_come(self) -> int:
    """How many trials are still to be asked for; 0 where nothing new is found any more."""
    left = 0 if self._rejected >= MOST_REJECTED else max(0, self.points - len(self._groups))
    return left * len(self._plan.search["seeds"] or [None])

  def next(self) -> Group | None:
    """The next group to train; None where there is none now.

    Raises:
      ConfigError: no point can be trained.
    """
    if self._waiting:
      return self._waiting.pop(0)
    while len(self._groups) < self.points and self._rejected < MOST_REJECTED:
      group = self._admit(self._interrupted.pop(0) if self._interrupted else self._ask())
      if group:
        self._rejected = self._repeated = self._refused = 0
        return group
      self._rejected += 1
    if not self._groups:
      raise self._nothing()
    return None

  def goes_on(self, event: events.Evaluated) -> bool:
    """Whether a group that was evaluated is to go on: not where it is no better than what has ended, nor where one of
    its seeds has failed."""
    key = self._keys[event.trials[0]]
    trial = self._running.get(key)
    if trial is None or event.step >= self._total_steps(key):
      return True
    if any(self._record.given_up(trial.id) for trial in self._groups[key]):
      return False
    percent = round(100 * event.step / self._total_steps(key))  # which trainings of other lengths have too
    if percent not in self._frozen(trial.number).intermediate_values:
      trial.report(statistics.fmean(event.accuracies), percent)
    seen = copy.copy(self._frozen(trial.number))  # one that went back to a checkpoint has reports from after it
    seen.intermediate_values = {at: value for at, value in seen.intermediate_values.items() if at <= percent}
    return not self._study.pruner.prune(self._study, seen)

  def settled(self, group: Group, record: Record) -> None:
    """Tells the study what became of a group; one with open trials waits to be trained on."""
    if any(record.is_open(trial.id) for trial in group):
      self._waiting.append(group)
      return
    key = self._keys[group[0].id]
    trial = self._running.pop(key, None)
    if trial is None:
      return
    ids = [trial.id for trial in group]
    rows = [row for row in record.rows() if row["trial"] in ids]
    for error in [row["error"] for row in rows if row["status"] == "failed"][:1]:
      trial.set_user_attr("error", error)
    if all(row["status"] == "done" for row in rows):
      self._study.tell(trial, statistics.fmean(row["test_accuracy"] for row in rows))
    elif set(ids) & set(record.faults()):
      self._study.tell(trial, state=TrialState.FAIL)  # which says nothing of the point
    else:
      self._study.tell(trial, state=TrialState.PRUNED)  # for a sampler, a training that can't go on is a bad one
    self._known[key] = trial.number

  def summary(self) -> str:
    """What it found, for a user: the best point, and what became of those that were drawn."""
    told = self._study.get_trials(deepcopy=False)
    done = [trial for trial in told if trial.state == TrialState.COMPLETE and "trials" in trial.user_attrs]
    drawn = f"{len(self._groups)} points trained of {self._drawn} drawn"
    if self._rejected >= MOST_REJECTED:
      drawn += f"; the last {MOST_REJECTED} had been tried before or can't be trained"
    if not done:
      return drawn
    best = max(done, key=lambda trial: trial.value)
    point = distributions.point(self._ranges, best.params)
    names = short_names(point)
    values = "  ".join(f"{names[field]}={short_value(value)}" for field, value in point.items())
    return f"best: test accuracy {100 * best.value:.2f} %  {values}  ({drawn})"

  def _take_up(self, trial: FrozenTrial) -> None:
    """Takes in a trial that the study has."""
    if trial.params.keys() != self._distributions.keys():  # killed while it was drawn
      if not trial.state.is_finished():
        self._study.tell(trial.number, state=TrialState.FAIL)
      return
    self._drawn += 1
    key = self._key(distributions.point(self._ranges, trial.params))
    if trial.state.is_finished():
      self._known.setdefault(key, trial.number)
      return
    resumed = optuna.Trial(self._study, trial._trial_id)
    if key in self._groups and key not in self._known and key not in self._running:
      self._running[key] = resumed
    else:
      self._interrupted.append(resumed)

  def _ask(self) -> optuna.Trial:
    """Draws a point: at random at first, and where the other sampler gives nothing but what was tried before."""
    first = len(self._groups) < min(10, max(1, self.points // 3)) and self._refused < STUCK
    self._study.sampler = study.sampler(self._plan.base.seed, self._drawn, first or self._repeated >= STUCK)
    self._drawn += 1
    return self._study.ask(self._distributions)

  def _admit(self, trial: optuna.Trial) -> Group | None:
    """The group of a point; None where it is not to be trained, which the study is told of."""
    point = distributions.point(self._ranges, trial.params)
    key = self._key(point)
    if key in self._known or key in self._groups:
      self._repeat(trial, self._known.get(key))
      return None
    self._repeated = 0
    try:
      trials = self._planned(point)
    except ConfigError as error:
      self._mistake = error
      trial.set_user_attr("error", str(error))
      self._constrain(trial, {"possible": 1.0})
    else:
      limits = {"macs": self._plan.max_macs, "params": self._plan.max_params}
      of = {name: getattr(trials[0], name) for name, most in limits.items() if most}
      self._constrain(trial, {name: value / limits[name] - 1 for name, value in of.items()})
      over = {name: value for name, value in of.items() if value > limits[name]}
      if not over:
        return self._start(key, trial, trials)
      self._least |= {name: min(value, self._least.get(name, value)) for name, value in over.items()}
    self._study.tell(trial, state=TrialState.PRUNED)  # the sampler takes it for bad, by how far it is over its limits
    self._known[key] = trial.number
    self._refused += 1
    return None

  def _start(self, key: str, trial: optuna.Trial, trials: Sequence[Trial]) -> Group:
    """Takes a point into the plan."""
    names, first = short_names(trials[0].overrides), len(self._plan.trials)
    group = tuple(
      dataclasses.replace(one, id=trial_id(first + place, one.overrides, names)) for place, one in enumerate(trials)
    )
    plan = dataclasses.replace(self._plan, trials=(*self._plan.trials, *group))
    plan_file.rewrite(plan, self._directory)
    self._plan, self._groups[key], self._running[key] = plan, group, trial
    for one in group:
      self._keys[one.id] = key
      self._record.add(one)
    trial.set_user_attr("trials", [one.id for one in group])
    self.added(group)
    return group

  def _repeat(self, trial: optuna.Trial, known: int | None) -> None:
    """Tells the study what it knows of a point already; known: the number that it does by, None: it is running."""
    self._repeated += 1
    before = None if known is None else self._frozen(known)
    if before is None or before.state == TrialState.FAIL:
      self._study.tell(trial, state=TrialState.FAIL)
    elif before.state == TrialState.COMPLETE:
      self._study.tell(trial, before.value)
    else:
      self._constrain(trial, before.constraints)
      if before.last_step is not None and not self._frozen(trial.number).intermediate_values:
        trial.report(before.intermediate_values[before.last_step], before.last_step)
      self._study.tell(trial, state=TrialState.PRUNED)

  def _constrain(self, trial: optuna.Trial, constraints: dict[str, float]) -> None:
    """Sets a trial's constraints, kept where 0 or less; an earlier start of the search may have set some."""
    for name, value in constraints.items():
      if name not in trial.constraints:
        trial.set_constraint(name, value)

  def _planned(self, point: dict[str, Any]) -> tuple[Trial, ...]:
    """The trials of a point, checked and counted; raises ConfigError where they are impossible."""
    seeds = self._plan.search["seeds"]
    settings = [point] if seeds is None else [{**point, "seed": seed} for seed in seeds]
    return planning.make(space.of(settings), self._plan.base, begins=True, prepared=True).trials

  def _total_steps(self, key: str) -> int:
    if key not in self._steps:
      config = self._groups[key][0].config
      images = data.training_images(config.data, True)
      self._steps[key] = total_steps(config.train, images / config.data.batch_size)
    return self._steps[key]

  def _key(self, point: dict[str, Any]) -> str:
    return identity(overriding.resolve(self._plan.base, point), seed=False)

  def _frozen(self, number: int) -> FrozenTrial:
    return self._study.get_trials(deepcopy=False)[number]

  def _nothing(self) -> ConfigError:
    """Why no point can be trained."""
    for name, least in self._least.items():
      flag, most = f"--max_{name}", getattr(self._plan, f"max_{name}")
      return ConfigError(flag, most, f"{least} or more, the least of {self._rejected} points that were drawn")
    return self._mistake or ConfigError("--search", "optuna", "ranges with points that can be trained")
