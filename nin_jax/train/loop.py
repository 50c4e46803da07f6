"""The training loop: config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from nin_jax import streams
from nin_jax.train import checkpoint, processes, signals, steps, workdir
from nin_jax.train.costs import Costs
from nin_jax.train.evaluation import BrokenOff
from nin_jax.train.meter import TrainingStopped
from nin_jax.train.profile import Profile
from nin_jax.train.program import Alone, Together
from nin_jax.train.run import Run
from nin_jax.train.setup import set_up
from nin_jax.train.signals import Interrupted, StopRequest
from nin_jax.train.watch import Pruned, Watch


@steps.released()
def train_and_evaluate(
  config: ConfigDict,
  directory: str | Path,
  profile_steps: int = 0,
  overrides: dict | None = None,
  trial: str | None = None,
) -> dict:
  """Trains the network of a config and says what it reached; goes on where an earlier call in the directory stopped.

  In a run of several processes (see `processes.join`) all of them call it, and the first one writes.

  Args:
    config: see `nin_jax.config`.
    directory: the workdir; `config.json`, `metrics.jsonl`, `checkpoints/`, `tensorboard/` and `result.json` go there.
    profile_steps: write a trace of so many steps to `profile/`.
    overrides: what was changed in the config file, for the result.
    trial: the name of the sweep's trial, for the result.

  Returns:
    The object in `result.json`: that of the earlier call if that one came to its end.

  Raises:
    ConfigError: the user's mistake.
    TrainingStopped: the loss is not finite, or the network is dead.
    Interrupted: SIGTERM, SIGINT or SIGHUP; the state is saved.
    WorkdirError: the workdir can't be written to any more; what it holds is whole.
    PeerLost: another process of the run has ended.
  """
  directory = workdir.locate(directory)
  about = {"trial": trial, "overrides": overrides or {}}
  with processes.watched():
    if ended := processes.on_first(lambda: workdir.result(directory, config)):
      return ended
    setup = set_up(config, begins=processes.first() and not (directory / "checkpoints").exists())
    if processes.first():
      _tell_of_calls(config.train.steps_per_call, setup.between_pauses())
    run = Run(setup, directory, Costs(setup), about=about, display=True)
    _train(Alone(setup), {0: run}, Watch(), profile_steps)
    if run.stopped:
      raise run.stopped
    return run.result


def _tell_of_calls(steps_per_call: int, most: int) -> None:
  """Says so where no call can make several steps."""
  if steps_per_call > most:
    said = f"steps are made one by one, as there are at most {most} between evaluations, checkpoints and the end"
    streams.note(f"train.steps_per_call={steps_per_call}: {said}")


@dataclasses.dataclass(frozen=True)
class Seed:
  """One of several trainings that differ in their seed alone.

  Attributes:
    config: see `nin_jax.config`.
    directory: its own workdir.
    overrides, trial: as in `train_and_evaluate`.
    left_out: it has stopped before, and only keeps its place in the program.
  """

  config: ConfigDict
  directory: Path
  overrides: dict
  trial: str
  left_out: bool = False


@steps.released()
def train_seeds(seeds: Sequence[Seed], watch: Watch, wait_seconds: float = 0.0) -> dict[int, dict]:
  """Trains several networks at once that differ in their seed alone, by one program; each as `train_and_evaluate`.

  Each has the losses that it has alone, to float tolerance, and its own workdir. They are in step: where some have come
  further than others, these go back to the newest checkpoint that all of them have. What has ended before stays as it
  is. One that can't go on is told to the watch, and does not stop the others.

  Args:
    seeds: the trainings. The same ones at each call: the program is made for all of them.
    watch: is told how it goes.
    wait_seconds: how long another run that is at one of the workdirs is waited for: one that is being ended, say.

  Returns:
    {place among the seeds: its result}, of those that came to their end.

  Raises:
    As `train_and_evaluate`, but for TrainingStopped; Pruned: the watch ended it.
  """
  results = {lane: workdir.result(seed.directory, seed.config) for lane, seed in enumerate(seeds)}
  for lane, result in results.items():
    if result:
      watch.ended(lane, result)
  open_lanes = [lane for lane, seed in enumerate(seeds) if not results[lane] and not seed.left_out]
  if open_lanes:
    begins = not any((seeds[lane].directory / "checkpoints").exists() for lane in open_lanes)
    first = set_up(seeds[0].config, begins=begins)
    setups = [first, *(first.of_seed(seed.config) for seed in seeds[1:])]
    cost, count = Costs(first), len(seeds)

    def run(lane: int) -> Run:
      seed = seeds[lane]
      about = {"trial": seed.trial, "overrides": seed.overrides}
      return Run(setups[lane], seed.directory, cost, count, about, wait_seconds=wait_seconds)

    runs = {lane: run(lane) for lane in open_lanes}
    _train(Together(setups) if count > 1 else Alone(first), runs, watch)
    results |= {lane: run.result for lane, run in runs.items()}
  return {lane: result for lane, result in results.items() if result}


def _train(program: Alone | Together, runs: dict[int, Run], watch: Watch, profile_steps: int = 0) -> None:
  """Trains to the end, or until none can go on.

  Args:
    program: of the trainings.
    runs: those of them that have not ended, by their place in the program.
    watch: is told how it goes.
    profile_steps: see `train_and_evaluate`.
  """
  setup = program.setup
  config, total_steps = setup.config, setup.total_steps
  # In a run of several processes SIGTERM belongs to JAX's notice of preemption, which tells the others.
  noted = signals.SIGNALS if jax.process_count() == 1 else signals.SIGNALS[1:]
  with contextlib.ExitStack() as stack:
    for run in runs.values():
      stack.enter_context(run)
    stop = stack.enter_context(StopRequest(noted, checkpoint.preempted))
    start = _begin(list(runs.values()))
    state = program.place({lane: run.state for lane, run in runs.items()})
    for run in runs.values():
      run.open()
      run.state = None
    directory = next(iter(runs.values())).directory / "profile"
    profile = stack.enter_context(Profile(directory, start, profile_steps if processes.first() else 0))
    watch.begins(start, total_steps)

    def going() -> dict[int, Run]:
      return {lane: run for lane, run in runs.items() if not run.stopped}

    def read(first: int, metrics: Any) -> int:
      """Takes in the metrics of a call that has ended, its steps from the first on; returns the signal it was given."""
      asked, of_steps = 0, program.numbers(metrics)
      for number, numbers in enumerate(of_steps):
        step, ended = first + number, 0 if number else len(of_steps)
        for lane, run in going().items():
          asked = numbers[lane].pop("stop")
          try:
            run.read(step, numbers[lane], ended)
          except TrainingStopped as stopped:
            watch.stopped(lane, stopped)
        if going():
          watch.stepped(step)
      return asked

    def due(step: int) -> tuple[bool, bool]:
      """Whether the test images are evaluated after a step, and whether it is saved."""
      evaluate_now = setup.due(step, config.eval.every_steps, config.eval.every_epochs)
      every = config.checkpoint.every_steps
      return evaluate_now, setup.due(step, every) if every else evaluate_now

    def together(step: int) -> int:
      """How many steps the call after a step makes: all that it may, or one where less are left before a pause."""
      most = config.train.steps_per_call
      return 1 if any(any(due(step + number)) for number in range(1, most)) else most

    def evaluate(step: int, lanes: dict[int, Run]) -> None:
      """Evaluates the test images into the runs' progress; broken off, it leaves that for the next start."""
      for run in lanes.values():
        run.doing("evaluating")
        run.progress["to_evaluate"] = True
      for lane, run in lanes.items():
        run.evaluated(step, run.setup.evaluate(program.replicated(state, lane), "test", poll=stop.poll))

    def pause(step: int, to_evaluate: dict[int, Run], save: bool = True, asked: int = 0) -> None:
      """What is done between two steps; ends the training where a signal asks for it."""
      for run in runs.values():
        run.meter.pause()
      try:
        evaluate(step, to_evaluate)
      except BrokenOff as broken_off:
        asked = broken_off.signal
      for run in runs.values():
        run.meter.pause()
      if save:
        for lane, run in going().items():
          run.save(program.take(state, lane))
      if asked:
        for run in runs.values():
          run.wait()
        raise Interrupted(asked, step)
      if to_evaluate and not watch.evaluated(step, [run.progress["test"]["accuracy"] for run in going().values()]):
        raise Pruned(step)
      for run in runs.values():
        run.meter.resume()

    late = {lane: run for lane, run in runs.items() if run.progress["to_evaluate"]}
    if late:
      # The checkpoint of this step stays as it is: for as long as it is the newest, this is done at each start.
      pause(start, late, save=False)
    running: collections.deque = collections.deque()
    batches = stack.enter_context(program.batches(start))
    step = start
    while step < total_steps:
      profile.step(step + 1)
      given = list(itertools.islice(batches, together(step)))
      asked = 0
      if program.compiles(len(given)):
        while running:
          asked = read(*running.popleft()) or asked
        for run in runs.values():
          run.meter.skip()
      signal = stop.poll()
      state, metrics = program.step(state, given, signal)
      running.append((step + 1, metrics))
      first = step == start
      if first:
        _ = next(iter(runs.values())).costs.step_flops  # of all runs; counted while the steps are under way
      step += len(given)
      evaluate_now, save_now = due(step)
      asked = asked or (signal if jax.process_count() == 1 else 0)  # several processes wait until all have read it
      # The next call is under way before this one's metrics are read, but for the first and a pause.
      while running and (len(running) > 1 or evaluate_now or save_now or asked or first):
        asked = read(*running.popleft()) or asked
      if not going():
        return
      if first:
        for run in runs.values():
          run.settle()
      if evaluate_now or save_now or asked:
        pause(step, going() if evaluate_now else {}, asked=asked)
    for lane, run in going().items():
      run.doing("evaluating the training images")
      try:
        state_of_run = program.replicated(state, lane)
        train = run.setup.evaluate(state_of_run, "train", config.eval.train_images, stop.poll)
      except BrokenOff as broken_off:
        for other in runs.values():
          other.wait()
        raise Interrupted(broken_off.signal, total_steps) from None
      run.wait()
      run.finish(train)
      watch.ended(lane, run.result)


def _begin(runs: list[Run]) -> int:
  """Brings all to the newest step that each has a whole checkpoint of, or to the beginning; returns the step."""
  while True:
    found = {run: run.restore() for run in runs}
    if len(set(found.values())) == 1:
      break
    lowest = None if None in found.values() else min(found.values())
    for run in runs:
      run.forget_after(lowest)
  step = found[runs[0]]
  if step is None:
    for run in runs:
      run.begin()
  return step or 0
