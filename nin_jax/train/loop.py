"""The training loop: config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

import collections
import contextlib
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from nin_jax import models
from nin_jax.cost import roofline
from nin_jax.train import budget, checkpoint, fine_tuning, processes, signals, steps, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.display import Display
from nin_jax.train.evaluation import BrokenOff
from nin_jax.train.journal import Journal
from nin_jax.train.meter import Meter, TrainingStopped
from nin_jax.train.outcome import outcome
from nin_jax.train.profile import Profile
from nin_jax.train.setup import Setup, set_up
from nin_jax.train.signals import Interrupted, StopRequest
from nin_jax.train.storage import write_json, writing


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
    Interrupted: SIGTERM or SIGINT; the state is saved.
    WorkdirError: the workdir can't be written to any more; what it holds is whole.
    PeerLost: another process of the run has ended.
  """
  directory = workdir.locate(directory)
  with processes.watched(), contextlib.ExitStack() as stack:
    if ended := processes.on_first(lambda: workdir.result(directory, config)):
      return ended
    setup = set_up(config, begins=processes.first() and not (directory / "checkpoints").exists())
    processes.on_first(lambda: stack.enter_context(workdir.claim(directory, config)))
    return _train(setup, directory, profile_steps, {"trial": trial, "overrides": overrides or {}})


def _train(setup: Setup, directory: Path, profile_steps: int, about: dict) -> dict:
  config, batch_size, total_steps = setup.config, setup.config.data.batch_size, setup.total_steps
  inference = budget.inference_cost(setup.network, setup.image_shape).total
  unmapped = models.build(config.model, setup.image_shape, config.precision)
  step_flops = budget.training_cost(unmapped, config.train, setup.image_shape).total["train_flops"] * batch_size
  device = roofline.current(config.precision)
  # A CPU's peak is measured with all its cores, however many devices JAX divides it into.
  peak = device and device.peak_flops * (jax.process_count() if device.kind == "cpu" else len(setup.devices))

  train_step = steps.train_step(setup.network, setup.update, setup.pipeline, config, total_steps, setup.devices)
  # In a run of several processes SIGTERM belongs to JAX's notice of preemption, which tells the others.
  noted = signals.SIGNALS if jax.process_count() == 1 else signals.SIGNALS[1:]
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(Checkpoints(directory, config.checkpoint.keep))
    stop = stack.enter_context(StopRequest(noted, checkpoint.preempted))
    state, progress = _beginning(setup, checkpoints)
    start = int(state.step)
    state = setup.replicate(state)
    meter = Meter(config.train.dead_steps, progress["meter"])
    journal = display = None
    if processes.first():
      evaluated, per_epoch = not progress["to_evaluate"], setup.pipeline.steps_per_epoch
      journal = stack.enter_context(Journal(directory, config.log, per_epoch, start, evaluated))
      display = stack.enter_context(Display(total_steps, start))
    profile = stack.enter_context(Profile(directory / "profile", start, profile_steps if processes.first() else 0))

    def write(split: str, step: int, **numbers: float | None) -> None:
      wall = meter.state["wall_seconds"]
      if journal:
        display.show(journal.write(split, step, train_flops=step * step_flops, wall_seconds=wall, **numbers))

    def read(step: int, metrics: dict) -> int:
      """Takes in the metrics of a step that has ended, and logs; returns the signal that it was given."""
      numbers = {name: value.item() for name, value in metrics.items()}
      asked = numbers.pop("stop")
      if display:
        display.advance(step)
      try:
        meter.add(step, **numbers)
      except TrainingStopped:
        write("train", step, loss=numbers["loss"], accuracy=numbers["accuracy"])
        raise
      if setup.due(step, config.log.every_steps):
        means = meter.means()
        if seconds := means["step_seconds"]:
          means |= {"images_per_second": batch_size / seconds, "flops_per_second": step_flops / seconds}
          means["mfu"] = peak and step_flops / seconds / peak
        write("train", step, learning_rate=float(setup.rate(step - 1)), **means)
      return asked

    def evaluate(step: int) -> None:
      """Evaluates the test images into `progress`; broken off, it leaves that for the next start."""
      if display:
        display.doing("evaluating")
      progress["to_evaluate"] = True
      test = setup.evaluate(state, "test", poll=stop.poll)
      write("test", step, loss=test["loss"], accuracy=test["accuracy"])
      best = progress["best"]
      if best is None or test["accuracy"] >= best["accuracy"]:  # of equals the last
        best = {"step": step, "accuracy": test["accuracy"]}
      progress.update(test=test, best=best, to_evaluate=False)

    def pause(step: int, evaluate_now: bool, save: bool = True, asked: int = 0) -> None:
      """What is done between two steps; ends the run where a signal asks for it."""
      meter.pause()
      try:
        if evaluate_now:
          evaluate(step)
      except BrokenOff as broken_off:
        asked = broken_off.signal
      meter.pause()
      if save:
        if journal:
          journal.sync()
        progress["broken"] = sorted({name for names in processes.from_all(setup.pipeline.broken()) for name in names})
        checkpoints.save(state, {**progress, "meter": meter.state})
      if asked:
        processes.on_first(checkpoints.wait)  # the others stay: JAX ends a process whose peers have gone
        raise Interrupted(asked, step)
      meter.resume()

    if progress["to_evaluate"]:
      # The checkpoint of this step stays as it is: for as long as it is the newest, this is done at each start.
      pause(start, evaluate_now=True, save=False)
    running: collections.deque = collections.deque()
    batches = stack.enter_context(contextlib.closing(setup.pipeline.train_batches(start)))
    for step in range(start + 1, total_steps + 1):
      profile.step(step)
      batch = steps.shard(next(batches), setup.devices)
      signal = stop.poll()
      state, metrics = train_step(state, setup.arrays, batch, steps.stop_flags(signal, setup.devices))
      running.append((step, metrics))
      evaluate_now = setup.due(step, config.eval.every_steps, config.eval.every_epochs)
      every = config.checkpoint.every_steps
      save_now = setup.due(step, every) if every else evaluate_now
      asked = signal if jax.process_count() == 1 else 0  # several processes wait until all have read it
      # The next step is under way before this one's metrics are read, but for a pause.
      while running and (len(running) > 1 or evaluate_now or save_now or asked):
        asked = read(*running.popleft()) or asked
      if evaluate_now or save_now or asked:
        pause(step, evaluate_now, asked=asked)
    if display:
      display.doing("evaluating the training images")
    try:
      train = setup.evaluate(state, "train", config.eval.train_images, stop.poll)
    except BrokenOff as broken_off:
      processes.on_first(checkpoints.wait)
      raise Interrupted(broken_off.signal, total_steps) from None
    processes.on_first(checkpoints.wait)
  progress["meter"] = meter.state
  result = outcome(setup, progress, train, inference, step_flops, **about)
  if processes.first():
    with writing(directory / "result.json"):
      write_json(directory / "result.json", result)
  return result


def _beginning(setup: Setup, checkpoints: Checkpoints) -> tuple[steps.TrainState, dict]:
  """The state and the progress that training goes on from."""
  state = setup.first_state()
  if restored := checkpoints.restore(state):
    setup.check_data(restored[1]["data"], resumes=True)
    setup.pipeline.register(restored[1]["broken"])
    return restored
  progress = {"meter": None, "test": None, "best": None, "to_evaluate": False, "broken": [], "data": setup.described()}
  if setup.config.train.init_from:
    state, fresh = fine_tuning.start(state, setup.config)
    if processes.first():
      kept = f", but for {', '.join(fresh)}" if fresh else ""
      print(f"the network is that of {setup.config.train.init_from}{kept}", file=sys.stderr)
    checkpoints.save(state, progress)  # the other run may go on: what was begun with stays
  return state, progress
