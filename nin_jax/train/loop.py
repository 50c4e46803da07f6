"""The training loop: config → trained state, `metrics.jsonl`, checkpoints, `result.json`."""

import collections
import importlib.metadata
import itertools
import platform
from pathlib import Path

import jax
from ml_collections import ConfigDict

from nin_jax import data, models
from nin_jax.config import validate
from nin_jax.cost import roofline
from nin_jax.errors import ConfigError
from nin_jax.train import averaging, budget, evaluation, steps, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.display import Display
from nin_jax.train.journal import Journal, write_json
from nin_jax.train.meter import Meter
from nin_jax.train.optimizer import optimizer
from nin_jax.train.profile import Profile
from nin_jax.train.signals import Interrupted, StopRequest

PROGRESS = {"meter": None, "test": None, "best": None}


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
  directory, devices = Path(directory), jax.local_devices()
  validate(config, len(devices))
  spec = data.spec(config.data)
  shape = spec.image_shape
  if config.model.num_classes != spec.num_classes:
    raise ConfigError("model.num_classes", config.model.num_classes, f"the {spec.num_classes} of {spec.name}")
  axis = steps.AXIS if config.train.sync_batch_norm else None
  network = models.build(config.model, shape, config.precision, axis)
  evaluated = budget.inference_cost(network, shape).total
  unbound = models.build(config.model, shape, config.precision)
  trained = budget.training_cost(unbound, config.train, shape).total
  step_flops = 2 * (trained["macs"] + trained["backward_macs"]) * config.data.batch_size

  pipeline = data.open(config.data, config.seed)
  per_epoch = pipeline.steps_per_epoch
  total_steps = config.train.steps or max(1, round(config.train.epochs * per_epoch))
  shapes = models.variable_shapes(network, shape)["params"]
  update, rate = optimizer(config.optimizer, shapes, total_steps, per_epoch)
  averaging.check(config.train)

  workdir.claim(directory, config)
  if ended := workdir.result(directory):
    return ended

  arrays = steps.replicate(pipeline.arrays, devices)
  train_step = steps.train_step(network, update, pipeline, config, total_steps, devices)
  eval_steps = {split: steps.eval_step(network, pipeline, split, devices) for split in ("train", "test")}
  eval_size = evaluation.batch_size(config.eval.batch_size or config.data.batch_size, devices)
  device = roofline.current(config.precision)
  peak = device.peak_flops * (1 if device.kind == "cpu" else len(devices)) if device else None

  def evaluate(split: str, images: int = 0) -> dict:
    batches = itertools.islice(pipeline.eval_batches(split, eval_size), -(-images // eval_size) or None)
    return evaluation.evaluate(eval_steps[split], state.evaluated, arrays, batches, devices)

  def due(step: int, every_steps: int, every_epochs: float = 0.0) -> bool:
    every = every_steps or round(every_epochs * per_epoch)
    return step == total_steps or bool(every) and step % every == 0

  state = steps.replicate(steps.init_state(network, update, config, shape), devices)
  with Checkpoints(directory, config.checkpoint.keep) as checkpoints, StopRequest() as stop:
    progress = dict(PROGRESS)
    if checkpoints.latest is not None:
      state, progress = checkpoints.restore(state)
    start = int(state.step)
    meter = Meter(config.train.dead_steps, progress["meter"])

    def spent(step: int) -> dict:
      return {"train_flops": step * step_flops, "wall_seconds": meter.state["wall_seconds"]}

    def read(step: int, metrics: dict) -> None:
      """Takes in the metrics of a step that has ended, and logs."""
      meter.add(step, **{name: value.item() for name, value in metrics.items()})
      display.advance(step)
      if due(step, config.log.every_steps):
        means = meter.means()
        seconds = means["step_seconds"]
        speed = {}
        if seconds:
          flops = step_flops / seconds
          speed = {"images_per_second": config.data.batch_size / seconds, "flops_per_second": flops}
          speed["mfu"] = flops / peak if peak else None
        row = journal.write("train", step, learning_rate=float(rate(step - 1)), **means, **speed, **spent(step))
        display.show(row)

    with (
      Journal(directory, config.log, per_epoch, start) as journal,
      Display(total_steps, start) as display,
      Profile(directory / "profile", start, profile_steps) as profile,
    ):
      running: collections.deque = collections.deque()
      for step in range(start + 1, total_steps + 1):
        profile.step(step)
        batch = steps.shard(pipeline.train_batch(step - 1), devices)
        state, metrics = train_step(state, arrays, batch)
        running.append((step, metrics))
        evaluate_now = due(step, config.eval.every_steps, config.eval.every_epochs)
        save_now = due(step, config.checkpoint.every_steps) if config.checkpoint.every_steps else evaluate_now
        pause = evaluate_now or save_now or stop.signal
        while len(running) > (0 if pause else 1):  # the next step is under way before this one's metrics are read
          read(*running.popleft())
        if not pause:
          continue
        meter.pause()
        test = None
        if evaluate_now:
          display.doing("evaluating")
          test = evaluate("test")
          display.show(journal.write("test", step, loss=test["loss"], accuracy=test["accuracy"], **spent(step)))
          best = progress["best"]
          if best is None or test["accuracy"] >= best["accuracy"]:  # of equals the last, as Orbax keeps it
            best = {"step": step, "accuracy": test["accuracy"]}
          progress |= {"test": test, "best": best}
        meter.resume()
        checkpoints.save(state, {**progress, "meter": meter.state}, test and test["accuracy"])
        if stop.signal and step < total_steps:
          checkpoints.wait()
          raise Interrupted(stop.signal, step)
        meter.resume()

      train = evaluate("train", config.eval.train_images)
    checkpoints.wait()

  speed = config.data.batch_size / meter.step_seconds if meter.step_seconds else None
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
    "params": evaluated["params"],
    "macs": evaluated["macs"],
    "flops": evaluated["flops"],
    "train_flops": total_steps * step_flops,
    "images_per_second": speed,
    "wall_seconds": meter.state["wall_seconds"],
    "device": devices[0].device_kind,
    "devices": len(devices),
    "versions": versions(),
  }
  write_json(directory / "result.json", outcome)
  return outcome


def versions() -> dict[str, str]:
  """Of Python and of the packages that decide what comes out."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
