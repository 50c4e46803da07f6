"""A training releases the files, mappings and programs that it made: a worker or a notebook runs hundreds of them."""

import collections
import contextlib
import gc
import os
import tempfile
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from test_train_loop import tiny_nin

from nin_jax.train import TrainingStopped, evaluate_checkpoint, steps, train_and_evaluate
from nin_jax.train.loop import Seed, train_seeds
from nin_jax.train.watch import Watch

pytestmark = [
  pytest.mark.usefixtures("quick_compilation", "two_devices"),
  pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what a process holds is in Linux's /proc"),
]
CODE = 60  # mappings that come and go with what JAX compiles and with arenas; a training has 100 or more


def config(rate, **data):
  config = tiny_nin()
  config.optimizer.learning_rate = rate
  config.train.steps = 1
  config.checkpoint.every_steps = 0
  config.eval.train_images = 16
  config.log.tensorboard = True
  config.data.update(data)
  return config


def held():
  """The files and pipes that this process has open, those that it maps, its mappings, and JAX's arrays."""
  opened = collections.Counter()
  for number in os.listdir("/proc/self/fd"):
    with contextlib.suppress(OSError):  # that of the listing
      opened[os.readlink(f"/proc/self/fd/{number}").split(":[")[0]] += 1
  rows = Path("/proc/self/maps").read_text().splitlines()
  mapped = collections.Counter(row.split(None, 5)[5] for row in rows if "/" in row and ".so" not in row)
  return opened, mapped, len(rows), len(jax.live_arrays())


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
  """A directory for temporary files of this test's own: others run at the same time."""
  directory = tmp_path / "temporary"
  directory.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(directory))


def assert_nothing_stays(train):
  """Trains twice, so that what is made once is there, and then again."""
  for number in range(2):
    train(number)
  gc.collect()
  before, temporary = held(), os.listdir(tempfile.gettempdir())
  for number in range(2, 5):
    train(number)
  gc.collect()
  for what, was, now in zip(("opened", "mapped"), before, held(), strict=False):
    assert (what, now - was) == (what, collections.Counter())
  (*_, mappings, arrays), (*_, were_mappings, were_arrays) = held(), before
  assert mappings < were_mappings + CODE
  assert arrays <= were_arrays
  assert os.listdir(tempfile.gettempdir()) == temporary


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
  for name in ("a", "b"):
    (root / name).mkdir()
    for number in range(20):
      Image.fromarray(draw.integers(0, 255, (8, 8), dtype=np.uint8)).save(root / name / f"{number}.png")
  return {"name": f"folder:{root}", "pipeline": "stream", "image_size": 8, "channels": 1}


def rate(number):
  return 0.1 + 0.01 * number


def test_nothing_of_a_training_stays(tmp_path):
  """A resident set, read from the cache."""
  assert_nothing_stays(lambda number: train_and_evaluate(config(rate(number)), tmp_path / str(number)))


def test_nothing_of_a_streaming_training_stays(pictures, tmp_path):
  def train(number):
    chosen = config(rate(number), workers=number % 2, **pictures)  # in threads and in processes
    chosen.model.num_classes = 2
    train_and_evaluate(chosen, tmp_path / str(number))

  assert_nothing_stays(train)


def test_nothing_of_several_seeds_stays(tmp_path):
  def train(number):
    of_seed = [config(rate(number)), config(rate(number))]
    of_seed[1].seed = 1
    places = [tmp_path / str(number) / str(seed) for seed in range(2)]
    for place in places:
      place.mkdir(parents=True)
    assert train_seeds([Seed(one, place, {}, "") for one, place in zip(of_seed, places, strict=True)], Watch())

  assert_nothing_stays(train)


def test_nothing_of_an_evaluation_stays(tmp_path):
  train_and_evaluate(config(0.1), tmp_path)
  assert_nothing_stays(lambda _: evaluate_checkpoint(config(0.1), tmp_path))


def test_nothing_of_a_training_that_stopped_stays(tmp_path):
  chosen = config(1e30)
  chosen.train.steps = 3

  def stops(number):
    chosen.seed = number
    with pytest.raises(TrainingStopped):  # which refers to what it was raised in, until it is caught
      train_and_evaluate(chosen, tmp_path / str(number))
    gc.collect()
    with steps.released():
      pass

  assert_nothing_stays(stops)


def test_other_programs_are_kept_while_a_step_is_in_use():
  """A notebook's own programs are compiled again only if a training left something to free."""
  traced = []

  @jax.jit
  def other(x):
    traced.append(1)
    return x + 1

  other(1.0)
  with steps.released():
    pass
  other(1.0)
  assert len(traced) == 1


def test_a_step_goes_with_its_last_reference():
  """By counting alone, so that what it has open is closed when a training returns."""

  class Data:
    pass

  data = Data()
  gone = weakref.ref(data)
  step = steps._map(lambda x, data=data: x + 1, jax.devices(), in_axes=0)
  step(np.zeros(len(jax.devices()), np.float32))
  gc.disable()
  try:
    with steps.released():
      del step, data
    assert gone() is None
  finally:
    gc.enable()
