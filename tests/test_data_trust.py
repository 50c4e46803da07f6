"""A prepared set is data: its description must not choose what is imported."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from nin_jax import config, data
from nin_jax.data import cache, digits, set_files, trust
from nin_jax.errors import ConfigError

TEXT = "tensorflow_datasets.core.features.text_feature.Text"
FOREIGN = "foreign_module.Feature"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
  """A directory that holds a set, and a module that must not be imported."""
  (tmp_path / "modules").mkdir()
  (tmp_path / "modules" / "foreign_module.py").write_text("raise SystemError('imported')")
  monkeypatch.syspath_prepend(str(tmp_path / "modules"))

  def place(features, *below):
    directory = tmp_path.joinpath("sets", "photos", *below)
    directory.mkdir(parents=True)
    (directory / "features.json").write_text(features if isinstance(features, str) else json.dumps(features))
    (directory / "dataset_info.json").write_text(json.dumps({"name": "photos", "version": "1.0.0"}))
    return str(tmp_path / "sets")

  return place


DESCRIPTIONS = {
  "at the top": {"pythonClassName": FOREIGN},
  "protobuf's other name": {"python_class_name": FOREIGN},
  "an old set": {"type": FOREIGN, "content": {}},
  "nested": {"pythonClassName": TEXT, "featuresDict": {"features": {"x": {"pythonClassName": FOREIGN}}}},
  "in a list": {"a": [{"pythonClassName": FOREIGN}]},
  "text of JSON": {"pythonClassName": TEXT, "jsonFeature": {"json": json.dumps({"feature": {"type": FOREIGN}})}},
  "a look-alike": {"pythonClassName": "tensorflow_datasets_evil.Feature"},
}


@pytest.mark.parametrize("where", [("1.0.0",), ("variant", "1.0.0"), ()])
@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_foreign_classes_are_refused_and_not_imported(hostile, description, where):
  section = config.default().data
  section.update({"name": "photos", "dir": hostile(DESCRIPTIONS[description], *where)})
  for use in (lambda: data.spec(section), lambda: data.open(section, seed=0)):
    with pytest.raises(ConfigError) as caught:
      use()
    assert caught.value.field == "data.dir"
    assert "which would be imported" in str(caught.value)
  assert "foreign_module" not in sys.modules


def test_what_is_no_json_is_refused(hostile):
  section = config.default().data
  section.update({"name": "photos", "dir": hostile('{"a":', "1.0.0")})
  with pytest.raises(ConfigError, match=r"data.dir=.*features.json"):
    data.spec(section)


def test_the_digits_in_the_cache_are_checked_too(tmp_path):
  section = config.default().data
  section.update({"cache_dir": str(tmp_path)})
  data.open(section, seed=0)
  path = next((tmp_path / "tfds").rglob("features.json"))
  path.write_text(path.read_text().replace("tensorflow_datasets.core.features.features_dict", "foreign_module"))
  resealed = path.parent.rename(tmp_path / "resealed")  # checksums are no signature
  (resealed / cache.CHECKSUMS).unlink()
  cache.publish(resealed, path.parent, digits.KEY)
  with pytest.raises(ConfigError, match=r"foreign_module.*would be imported"):
    data.open(section, seed=0)
  assert "foreign_module" not in sys.modules


def test_tfds_own_features_pass(tmp_path):
  from etils import epath

  (tmp_path / "features.json").write_text(
    json.dumps({"pythonClassName": TEXT, "type": {"dtype": "x"}, "json": "words"})
  )
  trust.check(config.default().data, epath.Path(tmp_path))


def test_arrays_in_the_cache_are_not_unpickled(tmp_path):
  """A pickle in the place of a cached array is made anew: see also test_data_cache."""
  section = config.default().data
  section.update({"cache_dir": str(tmp_path)})
  first = data.open(section, seed=0)
  labels = next(tmp_path.glob("digits-*-train-*")) / "labels.npy"
  np.save(labels, np.array([{}], object), allow_pickle=True)
  np.testing.assert_array_equal(data.open(section, seed=0).arrays["train"]["labels"], first.arrays["train"]["labels"])


def a_pipe(path):
  os.mkfifo(path)


def a_device(path):
  path.symlink_to("/dev/zero")


def without_end(path):
  with path.open("wb") as file:
    file.truncate(2**33)


@pytest.mark.parametrize("make", [a_pipe, a_device, without_end])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "photos-train.array_record-00000-of-00001"])
def test_what_is_no_regular_file_in_a_set_is_named_and_not_waited_for(hostile, make, name):
  section = config.default().data
  section.update({"name": "photos", "dir": hostile({"pythonClassName": TEXT}, "1.0.0")})
  path = Path(section.dir) / "photos" / "1.0.0" / name
  path.unlink(missing_ok=True)
  make(path)
  if make is without_end and not name.endswith(".json"):
    set_files.check(section, Path(section.dir) / "photos")  # of which a record is read, not the whole
    return
  for use in (lambda: data.spec(section), lambda: data.open(section, seed=0)):
    with pytest.raises(ConfigError, match=f"data.dir=.*{name} (is a pipe|has 8,589,934,592 bytes)"):
      use()
