"""scikit-learn's bundled handwritten digits as a TFDS set: real images, nothing to download."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from nin_jax.data import cache
from nin_jax.data.tfds import tfds
from nin_jax.errors import ConfigError

TEST_EXAMPLES = 360
KEY = "digits 1.0.0"  # of its entry in the cache


def rescale(images: np.ndarray) -> np.ndarray:
  """Returns 0 … 16 spread over 0 … 255 as uint8, rounded; `np.rint(rescaled * 16 / 255)` gives them back exactly."""
  return np.rint(np.asarray(images) * (255 / 16)).astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
  """The 1,797 test images of Kaynak's optical recognition of handwritten digits (UCI, 1998), 8×8, 10 classes.

  1,437 train and 360 test images: scikit-learn's `train_test_split(range(1797), test_size=360, stratify=labels,
  random_state=0)`, in its order.
  """

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"),
      "label": tfds.features.ClassLabel(num_classes=10),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description="scikit-learn's 8×8 handwritten digits, 0 … 16 spread over 0 … 255.",
      homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
      features=tfds.features.FeaturesDict(features),
      supervised_keys=("image", "label"),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    from sklearn.datasets import load_digits  # takes a second to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    indices = np.arange(len(digits.target))
    train, test = train_test_split(indices, test_size=TEST_EXAMPLES, stratify=digits.target, random_state=0)
    return {
      name: self._generate_examples(rescale(digits.images[chosen]), digits.target[chosen])
      for name, chosen in (("train", train), ("test", test))
    }

  def _generate_examples(self, images, labels):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
      png = io.BytesIO()  # TFDS encodes arrays with TensorFlow, and takes bytes as they are
      Image.fromarray(image).save(png, format="png")
      png.seek(0)
      yield i, {"image": png, "label": int(label)}


def prepare(cache_dir: Path) -> Digits:
  """Returns the builder of the digits in the data cache, written there as ArrayRecord unless they are already.

  Safe when several processes do it at once. If the cache can't be read or written, a directory that lasts as long as
  the process takes its place, with a warning.

  Raises:
    ConfigError: that one can't be written either.
  """
  try:
    return write(cache_dir / "tfds")
  except Exception as error:  # a full disk has other names in TFDS and ArrayRecord
    cache.warn(cache_dir, "read" if isinstance(error, cache.Unusable) else "written", error)
  try:
    return write(cache.process_directory())
  except Exception as error:
    accepted = f"a directory with 1 MB to spare, as {cache_dir} can't hold the digits: {error}"
    raise ConfigError("TMPDIR", tempfile.gettempdir(), accepted) from error


def entry(data_dir: Path) -> Path:
  """Returns the directory of the prepared digits under data_dir."""
  return data_dir / Digits.name / str(Digits.VERSION)


def write(data_dir: Path) -> Digits:
  """Returns the builder of the digits under data_dir, written there unless they are there and intact.

  Raises:
    OSError, or errors of TFDS and ArrayRecord: they can't be.
  """
  target = entry(data_dir)
  if not cache.find(target, KEY):
    with cache.writing(data_dir) as unfinished:
      made = Digits(data_dir=unfinished, file_format="array_record")
      with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        made.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
      if os.path.lexists(target.parent) and not target.parent.is_dir():
        cache.remove(target.parent)
      target.parent.mkdir(exist_ok=True)
      cache.publish(Path(made.data_path), target, KEY)
  return Digits(data_dir=data_dir, file_format="array_record")
