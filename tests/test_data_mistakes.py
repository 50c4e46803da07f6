"""Values of the section data that cannot be."""

import pytest

from nin_jax import config, data
from nin_jax.errors import ConfigError

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
