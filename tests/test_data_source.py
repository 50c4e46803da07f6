import io
import logging

import numpy as np
import pytest
from PIL import Image

from nin_jax import config, data
from nin_jax.data import decode, resident
from nin_jax.data.tfds import tfds
from nin_jax.errors import ConfigError


def photo(i):
  """The i-th photograph: a grey or coloured PNG or JPEG of its own size."""
  rng = np.random.default_rng(i)
  height, width = rng.integers(20, 60, 2)
  colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
  return Image.fromarray(colours).convert(("RGB", "L", "P", "RGBA")[i % 4]), ("png", "jpeg")[i % 4 < 2]


def make_photos(directory, features=(), values=()):
  """Prepares the set `photos` of our own, as a user might, and leaves TFDS ignorant of its code.

  With further features, and values that each example has.
  """

  with tfds.core.registered.skip_registration():

    class Photos(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version("2.1.0")
      pkg_dir_path = directory

      def _info(self):
        label = tfds.features.ClassLabel(num_classes=3)
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": label, **dict(features)}),
          disable_shuffling=True,
        )

      def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(12, 3), "test": self._generate_examples(5, None)}

      def _generate_examples(self, n, classes):
        for i in range(n):
          image, encoding = photo(i)
          file = io.BytesIO()
          image.save(file, format=encoding)
          file.seek(0)
          yield i, {"image": file, "label": i % classes if classes else -1, **dict(values)}

  Photos(data_dir=directory, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  directory = tmp_path_factory.mktemp("tfds")
  make_photos(directory)
  return str(directory)


def fields(tmp_path, **changes):
  section = config.default().data
  section.update({"cache_dir": str(tmp_path / "cache"), **changes})
  return section


@pytest.mark.parametrize("resize", ["crop", "warp"])
def test_photographs_of_all_sizes_and_kinds_are_decoded_and_resized(photos, tmp_path, resize):
  section = fields(tmp_path, name="photos", dir=photos, image_size=24, test_split="train[5:]", resize=resize)
  opened = data.open(section, seed=0)
  assert opened.spec == data.Spec("photos", (24, 24, 3), 3, (None, None, 3))
  assert opened.arrays["train"]["labels"].tolist() == [0, 1, 2] * 4
  for i in (2, 3, 6, 7):  # the PNGs, which lose nothing
    image, box = photo(i)[0].convert("RGB"), None
    if resize == "crop":
      side = min(image.size)
      left, top = (image.width - side) // 2, (image.height - side) // 2
      box = (left, top, left + side, top + side)
    expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR, box))
    np.testing.assert_array_equal(opened.arrays["train"]["images"][i], expected)
  np.testing.assert_array_equal(opened.arrays["test"]["images"], opened.arrays["train"]["images"][5:])


def test_other_sizes_and_sources_have_other_cache_entries(photos, tmp_path):
  section = fields(tmp_path, name="photos", dir=photos, test_split="train[:1]", normalize="scale")
  shapes = []
  for size in (8, 9, 8):
    section.image_size = size
    shapes.append(data.open(section, seed=0).arrays["train"]["images"].shape[1])
  assert shapes == [8, 9, 8]
  assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize(
  ("name", "size", "expected"),
  [
    ("mnist", 0, ((28, 28, 1), 10)),
    ("cifar100", 0, ((32, 32, 3), 100)),
    ("svhn_cropped", 0, ((32, 32, 3), 10)),
    ("imagenet2012", 224, ((224, 224, 3), 1000)),
  ],
)
def test_the_spec_of_a_set_that_is_not_there(name, size, expected, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
  spec = data.spec(fields(tmp_path, name=name, image_size=size))
  assert (spec.image_shape, spec.num_classes) == expected


MISTAKES = {
  "unknown set": ({"name": "cifr10"}, "data.name='cifr10'", "cifar10"),
  "nonsense": ({"name": "a b"}, "data.name='a b'", "digits or a TFDS name"),
  "from the network": ({"name": "huggingface:mnist"}, "data.name='huggingface:mnist'", "NAME:VERSION"),
  "unknown version": ({"name": "cifar10:9.9.9"}, "data.name='cifar10:9.9.9'", "3.0.2"),
  "no images": ({"name": "imdb_reviews"}, "data.name='imdb_reviews'", "uint8 images with one class label"),
  "no such directory": ({"dir": "/no/such"}, "data.dir='/no/such'", "existing directory"),
  "varying sizes": ({"name": "imagenet2012"}, "data.image_size=0", "varying sizes"),
  "negative size": ({"image_size": -1}, "data.image_size=-1", "number of pixels"),
  "crop too large": ({"crop": 9}, "data.crop=9", "0 (the whole image) to 8"),
  "negative crop": ({"crop": -1}, "data.crop=-1", "0 (the whole image) to 8"),
  "negative shift": ({"translate": -1}, "data.translate=-1", "0 to 7"),
  "shift too large": ({"translate": 8}, "data.translate=8", "0 to 7"),
  "unknown normalisation": ({"normalize": "zca"}, "data.normalize='zca'", "gcn_zca"),
  "whitening too large": ({"normalize": "gcn_zca", "image_size": 111}, "data.normalize='gcn_zca'", "12288"),
  "no batch": ({"batch_size": 0}, "data.batch_size=0", "1 image or more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_before_anything_is_read(mistake, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
  changes, given, remedy = MISTAKES[mistake]
  with pytest.raises(ConfigError) as caught:
    data.spec(fields(tmp_path, **changes))
  assert str(caught.value).startswith(given)
  assert remedy in str(caught.value)
  assert "\n" not in str(caught.value)


def test_a_set_that_is_not_prepared_says_how_to(tmp_path):
  with pytest.raises(ConfigError) as caught:
    data.open(fields(tmp_path, name="mnist", dir=str(tmp_path)), seed=0)
  assert str(caught.value).startswith("data.name='mnist'")
  assert f"python -m experiments.prepare_data --name=mnist --data_dir={tmp_path}" in str(caught.value)


def test_a_set_in_another_format_says_how_to(tmp_path, photos):
  target = tmp_path / "tfds" / "photos" / "2.1.0"
  target.mkdir(parents=True)
  for name in ("features.json", "dataset_info.json"):
    text = (tfds.core.Path(photos) / "photos" / "2.1.0" / name).read_text()
    (target / name).write_text(text.replace("array_record", "tfrecord"))
  with pytest.raises(ConfigError, match=r"holds it as tfrecord: move that away, then run python -m"):
    data.open(fields(tmp_path, name="photos", dir=str(tmp_path / "tfds"), image_size=8), seed=0)


@pytest.mark.parametrize("split", ["foo", "train[:x]", "train[:0]", "train[:1%]", "", "train+foo"])
def test_an_unknown_split_lists_the_splits(split, tmp_path, photos):
  with pytest.raises(ConfigError) as caught:
    data.open(fields(tmp_path, name="photos", dir=photos, image_size=8, train_split=split), seed=0)
  assert str(caught.value).startswith(f"data.train_split={split!r}")
  assert "train (12), test (5)" in str(caught.value)


def test_images_without_labels_are_refused(tmp_path, photos):
  with pytest.raises(ConfigError, match=r"data.test_split='test'.*some of these have none"):
    data.open(fields(tmp_path, name="photos", dir=photos, image_size=8), seed=0)


def test_a_set_too_large_to_stay_on_the_device_is_refused(tmp_path, photos, monkeypatch):
  monkeypatch.setattr(resident, "MAX_BYTES", 17 * 8 * 8 * 3 - 1)
  with pytest.raises(ConfigError, match=r"data.name='photos'.*GiB decoded; at 8×8 .*data.image_size"):
    data.open(fields(tmp_path, name="photos", dir=photos, image_size=8, pipeline="resident"), seed=0)


def test_damaged_record_files_are_the_directorys_fault(tmp_path, photos):
  copy = tmp_path / "tfds"
  for path in (tfds.core.Path(photos) / "photos" / "2.1.0").iterdir():
    (copy / "photos" / "2.1.0").mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    (copy / "photos" / "2.1.0" / path.name).write_bytes(
      content if path.suffix == ".json" else content[: len(content) // 2]
    )
  with pytest.raises(ConfigError, match=r"data.dir=.*whole record files"):
    data.open(fields(tmp_path, name="photos", dir=str(copy), image_size=8, test_split="train"), seed=0)


def test_no_image_of_a_record_reaches_pillow_but_the_one_that_is_classified(tmp_path, monkeypatch):
  """TFDS would decode further images by itself, in any format that Pillow knows, PostScript among them."""
  hostile = tmp_path / "hostile.eps"
  hostile.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n%%EOF\n")
  more = {"mask": tfds.features.Image(), "frames": tfds.features.Sequence({"frame": tfds.features.Image()})}
  values = {"mask": hostile, "frames": [{"frame": hostile}]}
  make_photos(tmp_path / "sets", more, values)
  asked = []
  opens = Image.open
  monkeypatch.setattr(Image, "open", lambda *args, **kwargs: asked.append(kwargs["formats"]) or opens(*args, **kwargs))
  monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile", lambda *_: pytest.fail("it is taken for PostScript"))
  section = fields(tmp_path, name="photos", dir=str(tmp_path / "sets"), image_size=8, test_split="train[:3]")
  assert data.open(section, seed=0).arrays["train"]["images"].shape == (12, 8, 8, 3)
  assert set(asked) == {decode.FORMATS}


def test_a_record_of_another_format_is_a_broken_image(tmp_path):
  hostile = tmp_path / "photo.jpg"
  hostile.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n%%EOF\n")
  make_photos(tmp_path / "sets", {}, {"image": hostile})
  section = fields(tmp_path, name="photos", dir=str(tmp_path / "sets"), image_size=8, test_split="train[:3]")
  with pytest.raises(ConfigError, match="record 0 of photos train cannot: not readable as JPEG, PNG"):
    data.open(section, seed=0)


def test_nothing_is_logged_when_all_is_well(tmp_path, photos, caplog):
  with caplog.at_level(logging.WARNING):
    data.open(fields(tmp_path, name="photos", dir=photos, image_size=8, test_split="train"), seed=0)
  assert not caplog.records
