"""The training loop: config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

import collections
import importlib.metadata
import platform
from pathlib import Path

from ml_collections import ConfigDict

from nin_jax import models
from nin_jax.cost import roofline
from nin_jax.train import budget, steps, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.display import Display
from nin_jax.train.journal import Journal, write_json
from nin_jax.train.meter import Meter, TrainingStopped
from nin_jax.train.profile import Profile
from nin_jax.train.setup import set_up
from nin_jax.train.signals import Interrupted, StopRequest


def train_and_evaluate(
  config: ConfigDict,
  directory: str | Path,
  profile_steps: int = 0,
  overrides: dict | None = None,
  trial: str | None = None,
) -> dict:
  """Trains the network of a config and says what it reached; goes on where an earlier call in the directory stopped.

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
  """
  directory = workdir.locate(directory)
  if ended := workdir.result(directory):
    workdir.compare(directory, config)
    return ended
  setup = set_up(config)
  workdir.claim(directory, config)
  batch_size, total_steps = config.data.batch_size, setup.total_steps
  inference = budget.inference_cost(setup.network, setup.image_shape).total
  unmapped = models.build(config.model, setup.image_shape, config.precision)
  step_flops = budget.training_cost(unmapped, config.train, setup.image_shape).total["train_flops"] * batch_size
  device = roofline.current(config.precision)
  # A CPU's peak is measured with all its cores, however many devices JAX divides it into.
  peak = device and device.peak_flops * (1 if device.kind == "cpu" else len(setup.devices))

  train_step = steps.train_step(setup.network, setup.update, setup.pipeline, config, total_steps, setup.devices)
  state, progress = setup.first_state(), {"meter": None, "test": None, "best": None}
  with Checkpoints(directory, config.checkpoint.keep) as checkpoints, StopRequest() as stop:
    if checkpoints.latest is not None:
      state, progress = checkpoints.restore(state)
    start = int(state.step)
    meter = Meter(config.train.dead_steps, progress["meter"])
    with (
      Journal(directory, config.log, setup.pipeline.steps_per_epoch, start) as journal,
      Display(total_steps, start) as display,
      Profile(directory / "profile", start, profile_steps) as profile,
    ):

      def write(split: str, step: int, **numbers: float | None) -> None:
        wall = meter.state["wall_seconds"]
        display.show(journal.write(split, step, train_flops=step * step_flops, wall_seconds=wall, **numbers))

      def read(step: int, metrics: dict) -> None:
        """Takes in the metrics of a step that has ended, and logs."""
        numbers = {name: value.item() for name, value in metrics.items()}
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

      def evaluate(step: int) -> dict:
        display.doing("evaluating")
        test = setup.evaluate(setup.evaluated(state), "test")
        write("test", step, loss=test["loss"], accuracy=test["accuracy"])
        best = progress["best"]
        if best is None or test["accuracy"] >= best["accuracy"]:  # of equals the last, as Orbax keeps it
          best = {"step": step, "accuracy": test["accuracy"]}
        progress.update(test=test, best=best)
        return test

      running: collections.deque = collections.deque()
      for step in range(start + 1, total_steps + 1):
        profile.step(step)
        batch = steps.shard(setup.pipeline.train_batch(step - 1), setup.devices)
        state, metrics = train_step(state, setup.arrays, batch)
        running.append((step, metrics))
        evaluate_now = setup.due(step, config.eval.every_steps, config.eval.every_epochs)
        every = config.checkpoint.every_steps
        save_now = setup.due(step, every) if every else evaluate_now
        pause = evaluate_now or save_now or stop.signal
        while len(running) > (0 if pause else 1):  # the next step is under way before this one's metrics are read
          read(*running.popleft())
        if pause:
          meter.pause()
          test = evaluate(step) if evaluate_now else None
          meter.pause()
          checkpoints.save(state, {**progress, "meter": meter.state}, test and test["accuracy"])
          if stop.signal and step < total_steps:
            checkpoints.wait()
            raise Interrupted(stop.signal, step)
          meter.resume()
      display.doing("evaluating the training images")
      train = setup.evaluate(setup.evaluated(state), "train", config.eval.train_images)
    checkpoints.wait()

  outcome = {
    "trial": trial,
    "seed": config.seed,
    "overrides": overrides or {},
    "steps": total_steps,
    "test_accuracy": progress["test"]["accuracy"],
    "test_loss": progress["test"]["loss"],
    "test_images": progress["test"]["count"],
    "best_test_accuracy": progress["best"]["accuracy"],
    "best_step": progress["best"]["step"],
    "train_accuracy": train["accuracy"],
    "train_loss": train["loss"],
    "params": inference["params"],
    "macs": inference["macs"],
    "flops": inference["flops"],
    "train_flops": total_steps * step_flops,
    "images_per_second": meter.step_seconds and batch_size / meter.step_seconds,
    "wall_seconds": meter.state["wall_seconds"],
    "device": setup.devices[0].device_kind,
    "devices": len(setup.devices),
    "versions": versions(),
  }
  write_json(directory / "result.json", outcome)
  return outcome


def versions() -> dict[str, str]:
  """Of Python and of the packages that decide what comes out."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def evaluate_checkpoint(
  config: ConfigDict, directory: str | Path, split: str = "test", step: int | None = None
) -> dict:
  """Exact evaluation of a checkpoint.

  Args:
    config: of the run; its `eval` and `log` sections and its directories may differ.
    directory: the run's.
    split: "test" or "train".
    step: of the checkpoint; None: the newest.

  Returns:
    {"workdir", "step", "split", "loss" (nats), "accuracy" (0 to 1), "correct", "count"}.

  Raises:
    ConfigError: the user's mistake.
  """
  directory = workdir.locate(directory)
  workdir.compare(directory, config)
  setup = set_up(config, training=False)
  with Checkpoints(directory, config.checkpoint.keep, read_only=True) as checkpoints:
    state, _ = checkpoints.restore(setup.first_state(), step)
  measured = setup.evaluate(setup.evaluated(state), split)
  return {"workdir": str(directory), "step": int(state.step), "split": split, **measured}
