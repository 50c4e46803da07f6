"""The input pipelines alone against the training of the networks that they feed, in turns.

python -m benchmarks.input [--json=FILE] [--data_dir=DIR] [--only=resident|stream] [--rounds=5]

Resident: the batches of Network in Network, on the device, as the train step makes them of the indices: gathered,
normalised, augmented. Without --data_dir the images are random, as many as there are in the real set. Target: 20 times
the training. Streaming: 100 kB JPEGs in a folder, read and decoded by threads and by two processes, cropped at random
and resized to 224, then normalised and flipped on the device, against GoogLeNet. Target: 3 times the training. Both run
on one device.
"""

import argparse
import contextlib
import copy
import importlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from benchmarks import made_up, output
from nin_jax import data, models, streams
from nin_jax.train import steps
from nin_jax.train.compilation import keep_compiled
from nin_jax.train.optimizer import optimizer

RESIDENT, STREAM = ("nin_cifar10", "nin_fashion_mnist"), "googlenet_torchvision"
TARGETS = {"resident": 20.0, "stream": 3.0}
AUGMENTED = {"translate": 4, "flip": True}
WORKERS = (0, 2)
PICTURES = 400
PRECISIONS = ("float32", "bfloat16")
SECONDS = 1.0  # of a turn, at least: of a pipeline, or of two steps of training

Turn = Callable[[], float]  # works for about a second, and returns images a second


def config_of(file: str, **changes) -> ConfigDict:
  """The config of a file, with fields of its section data changed."""
  config = importlib.import_module(f"configs.{file}").get_config()
  config.data.update(changes)
  return config


def rate(step: Callable[[], jax.Array], batch_size: int, first: int = 1) -> float:
  """Images a second of at least `SECONDS` and two steps, each dispatched before the one before it is awaited.

  Args:
    step: dispatches one, and returns something of what it makes.
    batch_size: images a step.
    first: steps before the clock starts.
  """
  for _ in range(first):
    last = jax.block_until_ready(step())
  began, count = time.perf_counter(), 0
  while count < 2 or time.perf_counter() - began < SECONDS:
    made = step()
    jax.block_until_ready(last)
    last, count = made, count + 1
  jax.block_until_ready(last)
  return count * batch_size / (time.perf_counter() - began)


def of_input(pipeline: data.Pipeline, config: ConfigDict, batches: Iterator, first: int) -> Turn:
  """A pipeline's batches on the device, as the train step has them: see `steps.train_step`."""

  @jax.jit
  def load(arrays, batch, number):
    positions = jnp.arange(jax.tree.leaves(batch)[0].shape[0])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 1), number)
    return pipeline.load_train(arrays, batch, positions, jax.random.split(key)[0])

  arrays, numbers = jax.device_put(pipeline.arrays), itertools.count()
  step = lambda: load(arrays, next(batches), np.int32(next(numbers)))[0]
  return lambda: rate(step, config.data.batch_size, first)


def of_training(pipeline: data.Pipeline, config: ConfigDict) -> Turn:
  """The whole train step on one batch of the pipeline."""
  devices, shape = jax.devices()[:1], pipeline.spec.image_shape
  network = models.build(config.model, shape, config.precision, steps.AXIS)
  params = models.variable_shapes(network, shape)["params"]
  update, _ = optimizer(config.optimizer, params, 1_000_000, pipeline.steps_per_epoch)
  step = steps.train_step(network, update, pipeline, config, 1_000_000, devices)
  arrays = steps.replicate(pipeline.arrays, devices)
  state = steps.replicate(steps.init_state(network, update, config.train, shape)(config.seed), devices)
  batch, stop = steps.shard(pipeline.train_batch(0), devices), steps.stop_flags(0, devices)

  def one() -> jax.Array:
    nonlocal state
    state, metrics = step(state, arrays, batch, stop)
    return metrics["loss"]

  return lambda: rate(one, config.data.batch_size)


def in_turns(turns: dict[str, Turn], rounds: int) -> dict[str, float]:
  """Returns the median of each one's turns, after one that compiles it."""
  found: dict[str, list[float]] = {name: [] for name in turns}
  for number in range(rounds + 1):
    for name, turn in turns.items():
      speed = turn()
      if number:
        found[name].append(speed)
  return {name: statistics.median(speeds) for name, speeds in found.items()}


def compared(kind: str, name: str, pipelines: dict[str, Turn], training: dict[str, Turn], rounds: int) -> list[dict]:
  """Measures pipelines and trainings, and returns a row for each pair of them."""
  speeds = in_turns(pipelines | training, rounds)
  return [
    {
      "pipeline": kind,
      "config": name,
      "reader": reader,
      "precision": precision,
      "input_images_per_second": speeds[reader],
      "training_images_per_second": speeds[precision],
      "ratio": speeds[reader] / speeds[precision],
      "target": TARGETS[kind],
    }
    for reader, precision in itertools.product(pipelines, training)
  ]


def with_precision(config: ConfigDict, precision: str) -> ConfigDict:
  """A copy of a config that computes in another type."""
  changed = copy.deepcopy(config)
  changed.precision = precision
  return changed


def resident(name: str, data_dir: str | None, rounds: int) -> list[dict]:
  """The rows of a network with a resident set; `data_dir` as the flag."""
  config = config_of(name, **({"dir": data_dir} if data_dir else {}))
  pipeline = data.open(config.data, config.seed) if data_dir else made_up.resident(config)
  augmented = copy.deepcopy(config)
  augmented.data.update(AUGMENTED)
  more = data.open(augmented.data, augmented.seed) if data_dir else made_up.augmented(pipeline, augmented)
  with contextlib.ExitStack() as stack:
    pipelines = {}
    for words, read in ((config.data.normalize, pipeline), ("the same, shifted, flipped", more)):
      batches = stack.enter_context(contextlib.closing(read.train_batches(0)))
      pipelines[words] = of_input(read, config, batches, 1)
    training = {precision: of_training(pipeline, with_precision(config, precision)) for precision in PRECISIONS}
    return compared("resident", name, pipelines, training, rounds)


def stream(name: str, rounds: int) -> list[dict]:
  """The rows of a network at 224 with a folder of JPEGs."""
  with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
    size = made_up.folder(Path(directory) / "pictures", PICTURES)
    print(f"{PICTURES} JPEGs of {size / 1000:.0f} kB")
    changes = {
      "name": f"folder:{Path(directory) / 'pictures'}",
      "cache_dir": str(Path(directory) / "cache"),
      "pipeline": "stream",
    }
    changes |= {"test_split": "test", "batch_size": 16, "random_resized_crop": (0.08, 1.0)}
    pipelines = {}
    for workers in WORKERS:
      config = config_of(name, workers=workers, **changes)
      pipeline = data.open(config.data, config.seed)
      batches = stack.enter_context(contextlib.closing(pipeline.train_batches(0)))
      # What was read ahead during the turns of the others comes first, before the clock starts.
      first = 8 * max(1, workers)
      pipelines[f"{workers} processes" if workers else "threads"] = of_input(pipeline, config, batches, first)
    training = {precision: of_training(pipeline, with_precision(config, precision)) for precision in PRECISIONS}
    return compared("stream", name, pipelines, training, rounds)


def table(rows: list[dict]) -> Table:
  """The rows for people."""
  shown = Table("config", "input", "images/s", "training", "images/s", "ratio", "target")
  for column in (2, 4, 5, 6):
    shown.columns[column].justify = "right"
  for row in rows:
    speeds = [f"{row[f'{what}_images_per_second']:,.0f}" for what in ("input", "training")]
    words = [row["config"], row["reader"], speeds[0], row["precision"], speeds[1]]
    style = None if row["ratio"] >= row["target"] else "red"
    shown.add_row(*words, f"{row['ratio']:.1f}", f"≥ {row['target']:g}", style=style)
  return shown


def main() -> None:
  streams.set_up()
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=Path, help="a file that the rows are written to, with the machine")
  parser.add_argument("--data_dir", help="where TFDS has cifar10 and fashion_mnist prepared; none: random images")
  parser.add_argument("--only", choices=list(TARGETS))
  parser.add_argument("--rounds", type=int, default=5)
  asked = parser.parse_args()
  console, about = output.begin("input", sys.argv[1:])
  keep_compiled()
  rows = []
  if asked.only != "stream":
    for name in RESIDENT:
      rows += resident(name, asked.data_dir, asked.rounds)
  if asked.only != "resident":
    rows += stream(STREAM, asked.rounds)
  console.print(table(rows))
  output.write(asked.json, about, {"device": jax.devices()[0].device_kind, "rounds": asked.rounds, "rows": rows})


if __name__ == "__main__":
  main()
