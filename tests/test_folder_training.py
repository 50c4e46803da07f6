"""A directory of pictures, as a user has one, through the command line: it trains, and says which picture is broken."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from test_commands import run

SIZES = [(8, 8), (16, 16), (11, 17), (24, 15)]
FORMATS = [("png", "L", {}), ("jpg", "RGB", {"quality": 95}), ("png", "RGB", {}), ("JPEG", "L", {"quality": 95})]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """scikit-learn's digits, split as the data set `digits` is: PNG and JPEG, grey and RGB, of several sizes."""
  root = tmp_path_factory.mktemp("pictures")
  digits = load_digits()
  indices = np.arange(len(digits.target))
  train, test = train_test_split(indices, test_size=360, stratify=digits.target, random_state=0)
  for split, chosen in (("train", train), ("test", test)):
    for index in chosen:
      suffix, mode, options = FORMATS[index % 4]
      picture = Image.fromarray(np.rint(digits.images[index] * (255 / 16)).astype(np.uint8))
      picture = picture.resize(SIZES[index // 4 % 4], Image.Resampling.BICUBIC).convert(mode)
      directory = root / split / str(digits.target[index])
      directory.mkdir(parents=True, exist_ok=True)
      picture.save(directory / f"{index:04}.{suffix}", **options)
  return root


FLAGS = [
  "--config=configs/inception_digits.py",
  "--config.data.channels=1",
  "--config.data.image_size=8",
  "--config.data.resize=warp",
  "--config.log.tensorboard=False",
  "--config.log.every_steps=1",
]


def rows(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_folder_trains_to_the_accuracy_that_its_pictures_allow(folder, tmp_path):
  """The demo reaches 99 % in 20 epochs from the original pictures; these are cropped, and there are 6."""
  done = run(
    "train",
    *FLAGS,
    f"--config.data.name=folder:{folder}",
    "--config.data.random_resized_crop=(0.8,1.0)",
    "--config.data.brightness=0.2",
    "--config.data.workers=1",
    "--config.train.epochs=6",
    "--config.eval.every_epochs=3",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["test_images"] == 360
  assert result["broken_images"] == 0
  assert result["test_accuracy"] > 0.93
  measured = run("evaluate", f"--workdir={tmp_path}", "--config.data.workers=0")
  assert json.loads(measured.stdout)["accuracy"] == result["test_accuracy"]


def test_training_is_the_same_for_any_number_of_workers(folder, tmp_path):
  losses = []
  for workers in (0, 2):
    workdir = tmp_path / str(workers)
    done = run(
      "train",
      *FLAGS,
      f"--config.data.name=folder:{folder}",
      "--config.data.random_resized_crop=(0.5,1.0)",
      f"--config.data.workers={workers}",
      "--config.train.steps=4",
      "--config.eval.train_images=64",
      f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    losses.append([(row["step"], row["loss"], row["accuracy"]) for row in rows(workdir)])
  assert losses[0] == losses[1]
  assert len(losses[0]) == 5


def test_a_broken_picture_is_named_or_skipped_and_counted(folder, tmp_path):
  pictures = tmp_path / "pictures"
  for split in ("train", "test"):
    for digit in ("3", "7"):
      (pictures / split / digit).mkdir(parents=True)
      for path in sorted((folder / split / digit).iterdir())[:20]:
        (pictures / split / digit / path.name).write_bytes(path.read_bytes())
  torn = [pictures / "train" / "7" / "torn.jpg", pictures / "test" / "3" / "torn.jpg"]
  whole = io.BytesIO()
  Image.effect_noise((64, 64), 50).save(whole, "jpeg")
  for path in torn:
    path.write_bytes(whole.getvalue()[:600])
  workdir = tmp_path / "run"
  flags = [
    *FLAGS,
    f"--config.data.name=folder:{pictures}",
    "--config.model.num_classes=2",
    "--config.data.batch_size=8",
    "--config.train.epochs=1",
    f"--workdir={workdir}",
  ]
  done = run("train", *flags)
  assert done.returncode == 2
  assert "Traceback" not in done.stderr
  assert done.stderr.splitlines()[-1].startswith("error: data.broken_images='error'")
  assert str(torn[0]) in done.stderr or str(torn[1]) in done.stderr

  done = run("train", *flags, "--config.data.broken_images=skip")  # goes on in the same workdir
  assert done.returncode == 0, done.stderr
  for path in torn:
    assert done.stderr.count(str(path)) == 1
  result = json.loads((workdir / "result.json").read_text())
  assert (result["broken_images"], result["test_images"]) == (2, 40)

  # Met before the checkpoint that is gone on from, they count all the same.
  newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
  assert int(newest.name) == result["steps"]
  (workdir / "result.json").unlink()
  skipping = "--config.data.broken_images=skip"
  assert run("train", *flags, skipping).returncode == 0
  assert json.loads((workdir / "result.json").read_text())["broken_images"] == 2

  # A class of another name would be another label: the network has not learned that.
  for split in ("train", "test"):
    (pictures / split / "3").rename(pictures / split / "8")
  for done in (run("evaluate", f"--workdir={workdir}"), run("evaluate", f"--workdir={workdir}", skipping)):
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: data.name=")
    assert "class '3' is '7' in this one" in done.stderr
