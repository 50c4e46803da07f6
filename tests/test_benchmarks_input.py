"""The benchmark of the input pipelines: what it feeds them, and how it counts."""

import jax
import numpy as np
from PIL import Image

from benchmarks import input, made_up
from nin_jax import data


def test_pictures_are_as_large_as_those_of_imagenet(tmp_path):
  size = made_up.folder(tmp_path / "pictures", 10)
  assert 70_000 < size < 140_000
  files = sorted((tmp_path / "pictures").rglob("*.jpg"))
  assert [file.stat().st_size for file in files] != [files[0].stat().st_size] * 10
  assert {Image.open(file).size for file in files} == {(500, 375)}
  config = input.config_of("googlenet_torchvision", name=f"folder:{tmp_path / 'pictures'}", cache_dir=str(tmp_path))
  assert data.spec(config.data).class_names == ("a", "b")


def test_made_up_resident_images_are_as_many_and_whitened_as_the_real_ones_are():
  config = input.config_of("nin_fashion_mnist", cache_dir="unused")
  pipeline = made_up.resident(config)
  assert (pipeline.num_train, pipeline.arrays["train"]["images"].shape) == (60_000, (60_000, 28, 28, 1))
  load = jax.jit(pipeline.load_train)
  images, labels = load(pipeline.arrays, pipeline.train_batch(0), np.arange(128), jax.random.key(0))
  assert images.shape == (128, 28, 28, 1)
  assert abs(float(images.mean())) < 0.05
  assert abs(float(images.std()) - 1) < 0.05
  assert set(np.asarray(labels)) == set(range(10))


def test_a_rate_counts_the_steps_that_were_timed(monkeypatch):
  times = iter([10.0, 10.4, 10.8, 11.2, 11.3])  # the start, before each step from the third on, the end
  monkeypatch.setattr(input.time, "perf_counter", lambda: next(times))
  calls = []
  speed = input.rate(lambda: calls.append(1) or np.zeros(()), 16, first=3)
  timed = len(calls) - 3
  assert timed == 4
  np.testing.assert_allclose(speed, timed * 16 / 1.3)


def test_turns_alternate_and_the_first_round_is_left_out():
  order = []

  def turn(name, speeds):
    return lambda: order.append(name) or next(speeds)

  turns = {"a": turn("a", iter([1.0, 30.0, 20.0, 40.0])), "b": turn("b", iter([1.0, 2.0, 2.0, 5.0]))}
  assert input.in_turns(turns, 3) == {"a": 30.0, "b": 2.0}
  assert order == ["a", "b"] * 4


def test_each_pipeline_is_compared_with_each_training():
  fast, slow = (lambda: 300.0), (lambda: 10.0)
  rows = input.compared("stream", "net", {"threads": fast, "2 processes": slow}, {"float32": slow}, 1)
  assert [(row["reader"], row["ratio"], row["target"]) for row in rows] == [
    ("threads", 30.0, 3.0),
    ("2 processes", 1.0, 3.0),
  ]
  assert [row.style for row in input.table(rows).rows] == [None, "red"]
