"""The streaming pipeline: the same images whoever reads them, and the resident pipeline's where both can."""

import contextlib
import itertools
import logging
import multiprocessing
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from nin_jax import config, data
from nin_jax.data import order, reading, source, stream
from nin_jax.data.folder import Folder
from nin_jax.errors import ConfigError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """Tiles of scikit-learn's two photographs, and digits: PNG and JPEG, grey and RGB, of many sizes."""
  root = tmp_path_factory.mktemp("pictures")
  rng = np.random.default_rng(0)
  for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
    (root / name).mkdir()
    for i in range(40):
      h, w = rng.integers(24, 90, 2)
      top, left = rng.integers(0, photo.shape[0] - h), rng.integers(0, photo.shape[1] - w)
      tile = Image.fromarray(photo[top : top + h, left : left + w])
      (tile.convert("L") if i % 5 == 0 else tile).save(root / name / f"{i}.{('jpg', 'png')[i % 2]}")
  (root / "digit").mkdir()
  for i, digit in enumerate(load_digits().images[:40]):
    size = (int(rng.integers(20, 50)),) * 2
    image = Image.fromarray((digit * 15.9).astype(np.uint8)).resize(size)
    image.save(root / "digit" / f"{i}.{('jpg', 'png')[i % 2]}")
  return root


@pytest.fixture
def opened(pictures, tmp_path, monkeypatch):
  monkeypatch.setattr(reading, "CHUNK", 5)

  def open_pictures(seed=0, process=(0, 1), **changes):
    section = config.default().data
    section.update({"name": f"folder:{pictures}", "image_size": 20, "batch_size": 24, "cache_dir": str(tmp_path)})
    section.update(changes)
    return data.open(section, seed, *process)

  return open_pictures


CROPS = {"random_resized_crop": (0.1, 1.0), "crop": 16}


def take(batches, n):
  with contextlib.closing(batches):
    return list(itertools.islice(batches, n))


def assert_same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_the_order_and_the_pixels_are_the_same_whatever_the_number_of_workers(opened, workers):
  alone, shared = opened(**CROPS), opened(**CROPS, workers=workers)
  expected = [alone.train_batch(step) for step in range(3, 11)]  # over the end of an epoch of 96
  assert expected[0]["images"].shape == (24, 16, 16, 3)
  assert expected[0]["images"].dtype == np.uint8
  assert expected[0]["labels"].dtype == np.int32
  assert_same(take(shared.train_batches(3), 8), expected)
  assert_same(take(shared.train_batches(6), 2), expected[3:5])  # resumed


def test_evaluation_is_the_same_with_workers(opened, monkeypatch):
  monkeypatch.setattr(reading, "_CHUNKS_A_WORKER", 1)
  for split in ("train", "test"):
    assert_same(list(opened(workers=2).eval_batches(split, 7)), list(opened().eval_batches(split, 7)))


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_parts_of_all_processes_are_the_whole_batch(opened, pipeline, processes):
  changes = CROPS if pipeline == "stream" else {}
  whole = opened(pipeline=pipeline, **changes)
  parts = [opened(process=(i, processes), pipeline=pipeline, **changes) for i in range(processes)]
  join = lambda batches: jax.tree.map(lambda *arrays: np.concatenate(arrays), *batches)
  assert_same(join([part.train_batch(5) for part in parts]), whole.train_batch(5))
  assert_same(join([take(part.train_batches(5), 1)[0] for part in parts]), whole.train_batch(5))
  assert_same(join([part.sample_batch(5) for part in parts]), whole.sample_batch(5))
  evaluated = [list(part.eval_batches("test", 20)) for part in parts]
  assert_same([join(batches) for batches in zip(*evaluated, strict=True)], list(whole.eval_batches("test", 20)))


def test_a_batch_that_the_processes_do_not_divide_is_refused(opened):
  with pytest.raises(ConfigError, match=r"data.batch_size=24: accepted is a multiple of the 5 processes"):
    opened(process=(0, 5))


def test_seeds_and_samples_have_orders_of_their_own(opened):
  first, other = opened(), opened(seed=1)
  assert not np.array_equal(first.train_batch(0)["images"], other.train_batch(0)["images"])
  assert not np.array_equal(first.train_batch(0)["images"], first.sample_batch(0)["images"])


@pytest.mark.parametrize("resize", ["crop", "warp"])
@pytest.mark.parametrize("kind", ["standardize", "gcn_zca"])
def test_both_pipelines_give_the_same_images(opened, resize, kind):
  changes = {"resize": resize, "normalize": kind, "crop": 16, "translate": 2, "flip": True, "contrast": 0.3}
  streaming, resident = (opened(pipeline=pipeline, **changes) for pipeline in ("stream", "resident"))
  assert isinstance(streaming, stream.Stream)
  assert isinstance(resident, data.Resident)
  assert streaming.spec == resident.spec
  assert (streaming.num_train, streaming.num_test) == (resident.num_train, resident.num_test) == (96, 24)
  assert streaming.steps_per_epoch == resident.steps_per_epoch == 4
  assert_same(streaming.arrays["statistics"], resident.arrays["statistics"])
  for name in ("train_batch", "sample_batch"):
    loaded = [
      jax.jit(p.load_train)(p.arrays, getattr(p, name)(6), np.arange(24), jax.random.key(3))
      for p in (streaming, resident)
    ]
    assert_same(*loaded)
  for split in ("train", "test"):
    loaded = []
    for p in (streaming, resident):
      batches = [p.load_eval(p.arrays, split, batch) for batch in p.eval_batches(split, 10)]
      images, labels, mask = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
      loaded.append((images[mask > 0], labels[mask > 0], mask))
    assert_same(*loaded)


def test_the_cache_knows_how_images_were_resized(opened):
  cropped, warped = (
    opened(pipeline="resident", resize=resize).arrays["train"]["images"] for resize in ("crop", "warp")
  )
  assert not np.array_equal(cropped, warped)


def test_only_the_first_images_are_evaluated_where_asked(opened):
  masks = [batch["mask"].sum() for batch in opened().eval_batches("train", 10, images=25)]
  assert masks == [10, 10, 5]


def test_statistics_of_a_large_set_are_of_a_sample(opened, monkeypatch):
  whole = opened(pipeline="resident")
  monkeypatch.setattr(stream, "STATISTICS_IMAGES", 30)
  sample = opened().arrays["statistics"]
  images = whole.arrays["train"]["images"][order.permutation(0, 0, 96)[:30]] / 255.0
  np.testing.assert_allclose(sample["mean"], images.mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(sample["std"], images.std((0, 1, 2)), rtol=1e-5)


def test_random_resized_crops_need_no_other_crop(opened):
  p = opened(**CROPS, normalize="scale")
  batch = p.train_batch(0)
  images, labels = p.load_train(p.arrays, batch, np.arange(24), jax.random.key(0))
  np.testing.assert_allclose(images, batch["images"] / 255.0, rtol=1e-6)
  np.testing.assert_array_equal(labels, batch["labels"])
  images, _, _ = p.load_eval(p.arrays, "test", next(p.eval_batches("test", 8)))
  assert images.shape == (8, *p.spec.image_shape) == (8, 16, 16, 3)


@pytest.fixture
def damaged(pictures, tmp_path):
  """A copy with one broken training image and one broken test image, and their paths."""
  root = tmp_path / "damaged"
  shutil.copytree(pictures, root)
  section = config.default().data
  section.update({"name": f"folder:{root}"})
  names = {}
  for field, index in (("train_split", 7), ("test_split", 2)):
    names[field] = Folder(section).records(field).name(index)
    with open(names[field], "r+b") as file:
      file.truncate(150)
  return root, names["train_split"], names["test_split"]


def test_a_broken_image_is_named(opened, damaged):
  root, train, test = damaged
  p = opened(name=f"folder:{root}", normalize="scale")
  with pytest.raises(ConfigError) as caught:
    take(p.train_batches(0), 4)
  assert str(caught.value).startswith("data.broken_images='error'")
  assert train in str(caught.value)
  with pytest.raises(ConfigError, match="accepted is skip"):
    list(p.eval_batches("test", 24))
  with pytest.raises(ConfigError) as caught:
    opened(name=f"folder:{root}", pipeline="resident")
  assert train in str(caught.value)
  assert test not in str(caught.value)


def test_a_worker_that_meets_a_broken_image_tells_its_parent_no_more(opened, damaged, capfd):
  p = opened(name=f"folder:{damaged[0]}", normalize="scale", workers=1)
  with pytest.raises(ConfigError) as caught:
    take(p.train_batches(0), 4)
  assert damaged[1] in str(caught.value)
  assert caught.value.__cause__ is None
  assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_broken_images_are_skipped_where_the_config_says_so(opened, damaged, pipeline, caplog):
  root, train, test = damaged
  caplog.set_level(logging.WARNING)
  p = opened(name=f"folder:{root}", broken_images="skip", pipeline=pipeline, normalize="scale")
  load = lambda batch: p.load_train(p.arrays, batch, np.arange(24), jax.random.key(0))
  images, labels = (np.concatenate(x) for x in zip(*map(load, take(p.train_batches(0), 4)), strict=True))
  visited = np.concatenate([order.batch(0, step, 24, 96) for step in range(4)])
  place, following = (int(np.flatnonzero(visited == i)[0]) for i in (7, 8))
  np.testing.assert_array_equal(images[place], images[following])
  assert labels[place] == labels[following]
  for _ in range(2):
    batches = [p.load_eval(p.arrays, "test", batch) for batch in p.eval_batches("test", 10)]
    mask = np.concatenate([mask for _, _, mask in batches])
    assert np.flatnonzero(mask == 0).tolist() == [2, *range(24, 30)]
  assert p.broken() == sorted([train, test])
  assert sum(train in record.getMessage() for record in caplog.records) == 1


def test_what_was_only_read_ahead_is_not_counted(opened, damaged):
  p = opened(name=f"folder:{damaged[0]}", broken_images="skip", normalize="scale")
  place = int(np.flatnonzero(np.concatenate([order.batch(0, step, 8, 96) for step in range(12)]) == 7)[0]) // 8
  p = opened(name=f"folder:{damaged[0]}", broken_images="skip", normalize="scale", batch_size=8)
  take(p.train_batches(0), place)
  assert p.broken() == []
  take(p.train_batches(0), place + 1)
  assert p.broken() == [damaged[1]]


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_a_split_of_broken_images_is_an_error(opened, damaged, pipeline):
  root = damaged[0]
  for path in root.rglob("*.*"):
    path.write_bytes(b"no picture")
  with pytest.raises(ConfigError, match=r"data.train_split='train': accepted is a split with readable images"):
    take(opened(name=f"folder:{root}", broken_images="skip", pipeline=pipeline, normalize="scale").train_batches(0), 1)


def test_records_that_cannot_be_read_are_the_directorys_fault(opened, monkeypatch):
  p = opened(name="digits", pipeline="stream", image_size=0, broken_images="skip")
  read = source.Records.__getitem__
  assert len(read(p._records["train"], 0)["image"]) > 50

  def fail(self, indices):
    raise source.DamagedRecords("chunk 3 of x.array_record")

  monkeypatch.setattr(source.Records, "__getitems__", fail)
  with pytest.raises(ConfigError, match=r"data.dir=''.*whole record files; chunk 3 of x.array_record"):
    p.train_batch(0)


def test_a_chunk_is_read_at_once_and_an_image_may_come_twice_in_it(opened, monkeypatch):
  read, at_once = source.Records.__getitems__, []
  monkeypatch.setattr(
    source.Records, "__getitems__", lambda self, indices: at_once.append(len(indices)) or read(self, indices)
  )
  p = opened(name="digits", pipeline="stream", image_size=0, train_split="train[:7]", batch_size=20)
  indices = order.batch(0, 1, 20, 7)
  assert len(set(indices)) == 7
  images = p.images(np.arange(7))
  at_once.clear()
  batch = p.train_batch(1)
  assert at_once == [5] * 4  # chunks
  np.testing.assert_array_equal(batch["images"], images[indices])
  assert batch["labels"].tolist() == [p._records["train"][int(index)]["label"] for index in indices]


def test_a_record_of_a_prepared_set_is_named_by_its_number(opened):
  p = opened(name="digits", pipeline="stream", image_size=0)
  assert p._records["test"].name(12) == "record 12 of digits test"


def test_which_pipeline(opened, monkeypatch):
  kind = lambda **changes: type(opened(**{"name": "digits", "image_size": 0, **changes})).__name__
  assert kind() == "Resident"
  assert kind(pipeline="stream") == "Stream"
  assert kind(random_resized_crop=(0.5, 1.0)) == "Stream"
  assert type(opened()).__name__ == "Stream"  # a folder
  monkeypatch.setattr("nin_jax.data.resident.MAX_BYTES", 1797 * 64 - 1)
  assert kind() == "Stream"


def test_grey_and_colour(opened, pictures):
  assert opened(channels=1).train_batch(0)["images"].shape == (24, 20, 20, 1)
  assert opened(channels=1).spec.image_shape == (20, 20, 1)
  digits = opened(name="digits", channels=3, image_size=0, pipeline="resident")
  assert digits.spec.image_shape == (8, 8, 3)
  images = digits.arrays["train"]["images"]
  assert images.shape[1:] == (8, 8, 3)
  assert (images == images[..., :1]).all()


def test_closing_early_ends_every_worker(opened):
  batches = opened(workers=2).train_batches(0)
  next(batches)
  assert len(multiprocessing.active_children()) >= 2
  batches.close()
  assert not multiprocessing.active_children()


@pytest.mark.parametrize("pipeline", ["stream", "resident"])
def test_a_file_that_cannot_be_opened_is_a_broken_image(opened, damaged, pipeline, monkeypatch):
  read = Folder.records(Folder(opened(name=f"folder:{damaged[0]}", normalize="scale")._config), "train_split")
  gone = read.name(20)
  original = type(read).__getitem__

  def vanish(self, index):
    if self.name(index) == gone:
      raise FileNotFoundError(2, "No such file or directory", gone)
    return original(self, index)

  monkeypatch.setattr(type(read), "__getitem__", vanish)
  p = opened(name=f"folder:{damaged[0]}", broken_images="skip", pipeline=pipeline, normalize="scale")
  take(p.train_batches(0), 4)
  assert gone in p.broken()
