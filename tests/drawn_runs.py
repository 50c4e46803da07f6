"""Configs of small runs, drawn at random, for `campaign.py`: none that a test or an experiment uses."""

import dataclasses
import random
from pathlib import Path

import numpy as np
from PIL import Image

HEAD = """
from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config


def get_config():
  config = default()
"""
INCEPTION = """
  config.model = models.defaults("inception")
  for name in ("inception_1b", "inception_2a", "inception_2b"):
    del config.model[name]
  config.model.stem_features = (4,)
  config.model.inception_1a = width_config(2, 2, 4, 0, 2, 2)
  config.model.dropout = 0.2
"""
NIN = """
  config.model = models.defaults("nin")
  config.model.last_relu = False
  config.model.block1 = block_config((4, 3), kernel=3, padding=1, pool="max", dropout=0.3)
  config.model.block2 = block_config((4,), kernel=3, padding=1)
  del config.model["block3"]
"""
CLASSES = ("rose [1]", "tulip é", "-x", "%s {0}")
SUFFIXES = (".png", ".jpg", ".gif", ".webp", ".bmp")


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A config that was drawn.

  Attributes:
    file: of the config.
    devices: that it runs on.
    words: what it has, in short.
  """

  file: Path
  devices: int
  words: str


def draw(chance: random.Random, directory: Path, sweep: str = "") -> Drawn:
  """Writes a config of a run of about a hundred steps into a directory, with a data set where it has one of its own.

  Args:
    chance: decides.
    directory: an existing one.
    sweep: functions that the file is to have besides.
  """
  values, words = {}, []

  def choose(field: str, *choices) -> object:
    values[field] = chance.choice(choices)
    return values[field]

  body = chance.choice([INCEPTION, NIN])
  words.append("nin" if body is NIN else "inception")
  choose("model.norm", "none", "batch")
  words.append(choose("precision", "float32", "float32", "bfloat16"))
  choose("seed", 0, 1, 4_294_967_295)
  devices = 1 if sweep else chance.choice([1, 1, 2, 4])
  words.append(f"{devices} device{'s'[: devices > 1]}")
  words += _data(chance, choose, values, directory, bool(sweep))
  _optimizer(chance, choose)
  parts = choose("train.accumulate_steps", 1, 1, 2, 4)
  values["data.batch_size"] = devices * parts * chance.choice([2, 3, 4])
  calls = choose("train.steps_per_call", 1, 1, 2, 5)
  averaging = choose("train.averaging", "none", "ema", "polyak")
  choose("train.ema_decay", 0.9, 0.999)
  choose("train.average_from", 0.0, 0.5)
  choose("train.sync_batch_norm", True, False)
  choose("train.remat", False, False, True)
  choose("train.label_smoothing", 0.0, 0.1)
  choose("train.dead_steps", 0, 1000)
  choose("train.steps", *((60, 83) if sweep else (150, 211, 300)))
  choose("eval.every_steps", 10, 21, 50)
  choose("eval.batch_size", 0, 0, 5 * devices)
  choose("eval.train_images", 1, 33)
  choose("checkpoint.every_steps", 0, 1, 5, 12, 25)
  choose("checkpoint.keep", 1, 2, 3)
  choose("log.every_steps", 1, 2, 3)
  choose("log.tensorboard", True, False)
  words += [f"{parts} parts"] * (parts > 1) + [f"{calls} steps per call"] * (calls > 1) + [averaging]
  lines = "".join(f"  config.{field} = {value!r}\n" for field, value in values.items())
  file = directory / "drawn.py"
  file.write_text(f"{HEAD}{body}{lines}  return config\n\n\n{sweep}", encoding="utf-8")
  return Drawn(file, devices, ", ".join(words))


def _data(chance: random.Random, choose, values: dict, directory: Path, sweep: bool) -> list[str]:
  """Chooses the data set and its augmentation; returns words on it."""
  kind = chance.choice(["resident", "stream", "folder", "folder"])
  if kind == "folder":
    broken = choose("data.broken_images", "error", "skip") == "skip"
    pictures(directory / "pictures", chance.randint(0, 2**32), broken)
    values["data.name"] = f"folder:{directory / 'pictures'}"
    values["model.num_classes"] = len(CLASSES)
    choose("data.image_size", 8, 9)
    choose("data.resize", "crop", "warp")
    choose("data.channels", 1, 3)
  else:
    values["data.pipeline"] = kind
    # A part of the training images, and others of them to evaluate on: what a validation split is.
    choose("data.train_split", "train", "train[:80%]", "train[:200]")
    choose("data.test_split", "test[:50]", "train[80%:]")
  if kind == "resident":
    choose("data.normalize", "scale", "standardize", "gcn", "gcn_zca")
  else:
    choose("data.workers", 0, 0, 1, *[] if sweep else [2])
    choose("data.normalize", "scale", "standardize", "gcn")
    if choose("data.random_resized_crop", (), (0.3, 1.0)):
      values["data.image_size"] = 8
  choose("data.crop", 0, 7)
  choose("data.translate", 0, 1)
  choose("data.flip", True, False)
  for field in ("brightness", "contrast", "saturation"):
    choose(f"data.{field}", 0.0, 0.3)
  workers = values.get("data.workers", 0)
  return [kind + (f" with {workers} workers" if workers else "")]


def _optimizer(chance: random.Random, choose) -> None:
  choose("optimizer.name", "sgd", "adamw")
  choose("optimizer.learning_rate", 0.01, 0.003)
  choose("optimizer.nesterov", True, False)
  choose("optimizer.clip_norm", 0.0, 1.0)
  choose("optimizer.bias_learning_rate_factor", 1.0, 2.0)
  choose("optimizer.unit", "epochs", "steps")
  choose("optimizer.warmup", 0.0, 0.5)
  if choose("optimizer.schedule", "constant", "staircase", "polynomial", "cosine") == "staircase":
    choose("optimizer.every", 0.5, 2.0)


def pictures(directory: Path, seed: int, broken: bool) -> None:
  """Writes a folder of small pictures of varying sizes, formats and modes, about twenty a class.

  Args:
    directory: to make.
    seed: of the pixels.
    broken: whether some of them can't be read.
  """
  random_state = np.random.default_rng(seed)
  for number, name in enumerate(CLASSES):
    (directory / name / "below").mkdir(parents=True)
    for index in range(20):
      size = random_state.integers(9, 20, 2)
      pixels = random_state.integers(0, 256, (*size, 3), dtype=np.uint8) // 2 + 30 * number
      picture = Image.fromarray(pixels.astype(np.uint8)).convert(("RGB", "L")[index % 2])
      folder = directory / name / ("below" if index % 5 == 0 else "")
      picture.save(folder / f"{index} ü{SUFFIXES[index % len(SUFFIXES)]}")
    if broken:
      (directory / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
