"""Values of the section data that cannot be."""

import numpy as np
import pytest
from PIL import Image

from nin_jax import config, data, models
from nin_jax.errors import ConfigError
from nin_jax.train.validation import validate

MISTAKES = {
  "pipeline": ({"pipeline": "both"}, "auto, resident, stream"),
  "workers": ({"workers": -1}, "0 for threads"),
  "broken_images": ({"broken_images": "warn"}, "error, skip"),
  "channels": ({"channels": 2}, "1 (grey), 3 (RGB)"),
  "resize": ({"resize": "pad"}, "crop, warp"),
  "random_resized_crop": ({"random_resized_crop": (0.0, 1.0)}, "0 < smallest"),
  "random_resized_crop ": ({"random_resized_crop": (0.5, 0.2)}, "0 < smallest"),
  "random_resized_crop  ": ({"random_resized_crop": (0.5, 1.2)}, "0 < smallest"),
  "random_resized_crop   ": ({"random_resized_crop": (0.5,)}, "0 < smallest"),
  "random_aspect": ({"random_aspect": (2.0, 0.5)}, "0 < smallest"),
  "random_aspect ": ({"random_aspect": (1.0, float("inf"))}, "0 < smallest"),
  "brightness": ({"brightness": 1.5}, "0 to 1"),
  "contrast": ({"contrast": -0.1}, "0 to 1"),
  "saturation": ({"saturation": float("nan")}, "0 to 1"),
  "pipeline ": ({"pipeline": "resident", "random_resized_crop": (0.5, 1.0)}, "stream or auto"),
  "normalize": ({"normalize": "gcn_zca", "random_resized_crop": (0.5, 1.0), "crop": 6}, "scale, standardize or gcn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_value_that_cannot_be_is_refused(mistake):
  changes, accepted = MISTAKES[mistake]
  section = config.default().data
  section.update(changes)
  with pytest.raises(ConfigError) as caught:
    data.spec(section)
  assert caught.value.field == f"data.{mistake.strip()}"
  assert accepted in caught.value.accepted


def test_all_mistakes_are_listed():
  section = config.default().data
  section.update({"workers": -1, "brightness": 2.0, "normalize": "none", "batch_size": 0, "crop": 9, "translate": 9})
  assert [error.field for error in data.mistakes(section)] == [
    "data.normalize",
    "data.batch_size",
    "data.workers",
    "data.brightness",
  ]
  assert [error.field for error in data.spec_mistakes(section, (8, 8, 1))] == ["data.crop", "data.translate"]


def folder(root, names, count=8):
  for name in names:
    (root / name).mkdir(parents=True)
    for i in range(count):
      Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(root / name / f"{i}.png")
  return f"folder:{root}"


def test_a_set_of_a_single_class_is_refused_before_training(tmp_path, monkeypatch):
  from nin_jax.data.tfds import tfds

  whole = config.default()
  whole.model = models.defaults("inception")
  whole.model.num_classes = 1
  whole.data.update({"name": folder(tmp_path / "set", ["only"]), "image_size": 8})
  for training in (True, False):
    with pytest.raises(ConfigError, match=r"data.name='folder:.*two classes or more, .* has 1") as caught:
      validate(whole, 1, training)
    assert len(caught.value.mistakes) == 1
  whole.data.name = "digits"
  monkeypatch.setattr(tfds.features.ClassLabel, "num_classes", 1)  # of a TFDS set
  with pytest.raises(ConfigError, match=r"data.name='digits'.*two classes or more"):
    validate(whole, 1)


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_training_images_of_a_single_class_are_refused(pipeline, tmp_path):
  def opened(**changes):
    section = config.default().data
    section.update({"cache_dir": str(tmp_path / "cache"), "image_size": 8, "pipeline": pipeline, "batch_size": 4})
    section.update(changes)
    return data.open(section, seed=0, training=True)

  name = folder(tmp_path / "set", "ab")
  assert opened(name=name).num_train == 12
  with pytest.raises(ConfigError, match=r"data.train_split='all\[:1\]'.*; its 1 are all of the class '[ab]'"):
    opened(name=name, train_split="all[:1]")
  with pytest.raises(ConfigError, match=r"data.train_split='train\[5:6\]'.*its 1 are all of the class '\d'"):
    opened(name="digits", train_split="train[5:6]")
  assert opened(name="digits", train_split="train[5:9]").num_train == 4


def test_the_labels_of_records_are_read_until_there_are_two():
  from nin_jax.data import faults

  class Records(list):
    def __getitems__(self, indices):
      read.extend(indices)
      return [{"label": self[index]} for index in indices]

  section, read = config.default().data, []
  faults.check_classes(section, Records([0] * 500 + [1] * 500), ())
  assert len(read) == 32
  read.clear()
  with pytest.raises(ConfigError, match=r"its 100 are all of the class 7"):
    faults.check_classes(section, Records([7] * 100), ())
  assert sorted(read) == list(range(100))
  faults.check_classes(section, Records([7] * 99 + [8]), ())
  faults.check_classes(section, Records([-1] * 9), ())  # without labels: told of elsewhere
