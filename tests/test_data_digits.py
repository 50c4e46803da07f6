import subprocess
import sys

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nin_jax import config, data


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits(cache_dir):
  return data.open(fields(cache_dir), seed=0)


def fields(cache_dir, **changes):
  section = config.default().data
  section.update({"cache_dir": cache_dir, "normalize": "scale", **changes})
  return section


def test_images_are_scikit_learns_to_the_last_bit(digits):
  bunch = load_digits()
  train, test = train_test_split(np.arange(1797), test_size=360, stratify=bunch.target, random_state=0)
  for split, indices in (("train", train), ("test", test)):
    images = np.rint(digits.arrays[split]["images"] * (16 / 255))[..., 0]
    np.testing.assert_array_equal(images, bunch.images[indices])
    assert digits.arrays[split]["images"].max() == 255
    np.testing.assert_array_equal(digits.arrays[split]["labels"], bunch.target[indices])


def test_the_split_is_stratified_and_fixed(digits):
  assert (digits.num_train, digits.num_test) == (1437, 360)
  counts = {split: np.bincount(digits.arrays[split]["labels"]) for split in ("train", "test")}
  fractions = counts["test"] / (counts["train"] + counts["test"])
  np.testing.assert_allclose(fractions, 0.2, atol=0.01)
  assert digits.arrays["test"]["labels"][:10].tolist() == [
    7,
    6,
    3,
    7,
    7,
    3,
    2,
    8,
    9,
    3,
  ]  # published: results depend on it


def test_spec(cache_dir, digits):
  assert digits.spec == data.spec(fields(cache_dir)) == data.Spec("digits", (8, 8, 1), 10, (8, 8, 1))


def test_the_second_start_reads_the_first_ones_arrays(cache_dir, digits, monkeypatch):
  monkeypatch.setattr("nin_jax.data.decode.decode", lambda *args: pytest.fail("decoded again"))
  again = data.open(fields(cache_dir), seed=0)
  jax.tree.map(np.testing.assert_array_equal, again.arrays, digits.arrays)


def test_a_slice_is_a_part_of_the_split(cache_dir, digits):
  part = data.open(fields(cache_dir, train_split="train[100:200]", test_split="test[:10]+train[:5]"), seed=0)
  np.testing.assert_array_equal(part.arrays["train"]["images"], digits.arrays["train"]["images"][100:200])
  assert part.num_test == 15


def test_statistics_are_those_of_the_split(cache_dir):
  means = []
  for split in ("train", "train[:100]"):
    part = data.open(fields(cache_dir, normalize="standardize", train_split=split), seed=0)
    np.testing.assert_allclose(
      part.arrays["statistics"]["mean"], part.arrays["train"]["images"].mean() / 255, rtol=1e-6
    )
    means.append(float(part.arrays["statistics"]["mean"][0]))
  assert means[0] != means[1]


def test_images_are_resized(cache_dir, digits):
  part = data.open(fields(cache_dir, image_size=16, train_split="train[:50]", test_split="test[:2]"), seed=0)
  assert part.spec.image_shape == (16, 16, 1)
  assert part.arrays["train"]["images"].shape == (50, 16, 16, 1)
  means = [
    images.mean(axis=(1, 2, 3)) for images in (part.arrays["train"]["images"], digits.arrays["train"]["images"][:50])
  ]
  np.testing.assert_allclose(*means, atol=6)


def test_with_nowhere_to_write_it_works_all_the_same(tmp_path, digits, caplog):
  (tmp_path / "file").write_text("")
  uncached = data.open(fields(str(tmp_path / "file" / "cache")), seed=0)
  assert "cannot be written" in caplog.text
  jax.tree.map(np.testing.assert_array_equal, uncached.arrays, digits.arrays)


def test_two_processes_may_start_at_once_and_need_no_tensorflow(tmp_path, digits):
  program = f"""
import sys
from nin_jax import config, data
assert "tensorflow_datasets" not in sys.modules
section = config.default().data
section.cache_dir = {str(tmp_path)!r}
print(int(data.open(section, seed=0).arrays["train"]["images"].sum()))
assert "tensorflow" not in sys.modules
"""
  start = lambda: subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  with start() as first, start() as second:
    for process in (first, second):
      out, err = process.communicate(timeout=300)
      assert process.returncode == 0, err
      assert out == f"{digits.arrays['train']['images'].sum()}\n"
      assert "Traceback" not in err
  assert sorted(path.name for path in (tmp_path / "tfds").rglob("*") if path.is_dir()) == ["1.0.0", "digits"]
