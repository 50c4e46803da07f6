"""The fields of a config, with the value that each has unless a file under `configs/` says otherwise.

A config is an `ml_collections.ConfigDict` with the sections of `default()`. A file under `configs/` starts from it,
sets `config.model` from `nin_jax.models.defaults(NAME)` and changes what its experiment needs.
"""

import json
from typing import Any

from ml_collections import ConfigDict


def default() -> ConfigDict:
  """Returns every field that is not the model's own."""
  config = ConfigDict()
  config.seed = 0
  config.precision = "float32"  # float32 | bfloat16: the type of compute; parameters and sums stay float32
  config.lowering = "auto"  # auto | xla | patches | winograd: how convolutions are computed (ops/lowering.py)

  config.model = ConfigDict()  # from nin_jax.models.defaults(NAME)

  config.data = data = ConfigDict()
  data.name = "digits"  # digits, any TFDS name ("cifar10", "svhn_cropped:3.*.*"), or folder:PATH (see data/folder.py)
  data.dir = ""  # where TFDS sets were prepared; "": $TFDS_DATA_DIR or ~/tensorflow_datasets. PATH is relative to it
  data.cache_dir = ""  # decoded images and statistics; "": $XDG_CACHE_HOME/nin_jax or ~/.cache/nin_jax
  data.train_split = "train"
  data.test_split = "test"
  data.batch_size = 128  # images a step, over all devices
  data.pipeline = "auto"  # resident (on the devices) | stream (read as it trains) | auto (stream what is too large)
  data.workers = 0  # processes that read and decode for stream; 0: threads of the training process
  data.broken_images = "error"  # error | skip: what is done about an image that can't be read
  data.channels = 0  # 1 (grey) | 3 (RGB); 0: as the set is described, 3 for a folder
  data.image_size = 0  # images are resized to this height and width; 0: as they are
  data.resize = "crop"  # crop (the shorter side to image_size, the central square kept) | warp (both sides)
  data.normalize = "standardize"  # scale ([0, 1]) | standardize (per channel) | gcn | gcn_zca (once, to 1 GiB float32)
  data.translate = 0  # random shift by up to this many pixels each way, zeros shifted in
  data.crop = 0  # random crop of this size in training, the central one in evaluation; 0: the whole image
  data.random_resized_crop = ()  # training crops of this part of the area, (0.08, 1.0): stream only; (): none
  data.random_aspect = (3 / 4, 4 / 3)  # their width / height
  data.flip = False  # random horizontal flip
  data.brightness = 0.0  # random factors, 1 ± this
  data.contrast = 0.0
  data.saturation = 0.0

  config.optimizer = optimizer = ConfigDict()
  optimizer.name = "sgd"  # sgd | adamw
  optimizer.learning_rate = 0.1
  optimizer.momentum = 0.9  # sgd
  optimizer.nesterov = False  # sgd
  optimizer.b1, optimizer.b2, optimizer.eps = 0.9, 0.999, 1e-8  # adamw
  optimizer.weight_decay = 1e-4  # on kernels only, never on biases or normalisation
  optimizer.bias_learning_rate_factor = 1.0  # Caffe's models train biases at twice the rate
  optimizer.learning_rate_factors = ()  # ((regular expression on a parameter's path, factor), ...)
  optimizer.clip_norm = 0.0  # bound on the gradient's global norm; 0: none
  optimizer.schedule = "constant"  # constant | staircase | polynomial | cosine
  optimizer.unit = "epochs"  # epochs | steps: of warmup, boundaries and every
  optimizer.warmup = 0.0  # linear, from 0
  optimizer.boundaries = ()  # staircase: the rate is multiplied by factor at each of these ...
  optimizer.every = 0.0  # ... or, where no boundaries are given, each time this much has passed
  optimizer.factor = 0.1  # staircase
  optimizer.power = 0.5  # polynomial
  optimizer.end_learning_rate = 0.0  # polynomial, cosine

  config.train = train = ConfigDict()
  train.epochs = 10.0
  train.steps = 0  # wins over epochs where it is not 0
  train.init_from = ""  # the workdir of a run whose network training starts from; "": initialised by seed
  train.label_smoothing = 0.0
  train.auxiliary_weight = 0.3  # of each auxiliary head's loss
  train.accumulate_steps = 1  # the batch is worked through in this many parts
  train.steps_per_call = 1  # steps in one program, for steps of a few milliseconds; signals wait for its end
  train.remat = False  # work each block out again for the gradients: less memory on accelerators (CPUs: no effect)
  train.averaging = "none"  # none | ema | polyak: what is evaluated
  train.ema_decay = 0.999
  train.average_from = 0.0  # polyak: the part of training (0 to 1) before which nothing is averaged
  train.sync_batch_norm = True  # statistics over the batch of all devices, or of each one
  train.dead_steps = 50  # stop after so many steps in a row whose logits are all equal; 0: never

  config.eval = ConfigDict()
  config.eval.batch_size = 0  # over all devices; 0: data.batch_size
  config.eval.every_epochs = 1.0
  config.eval.every_steps = 0  # wins over every_epochs where it is not 0
  config.eval.train_images = 10_000  # of the train split, evaluated at the end for train_accuracy; 0: all

  config.checkpoint = ConfigDict()
  config.checkpoint.every_steps = 0  # 0: with each evaluation
  config.checkpoint.keep = 3  # the last few; the best is kept besides

  config.log = ConfigDict()
  config.log.every_steps = 50
  config.log.tensorboard = True
  return config


def from_json(text: str) -> ConfigDict:
  """The config whose `to_dict()` was written as JSON; see `from_values`."""
  return from_values(json.loads(text))


def from_values(values: Any) -> ConfigDict:
  """The config whose `to_dict()` was written as JSON: `config.json` of a run.

  Fields that were added since have the value that changes nothing. The lowering `onednn` was removed; such runs
  continue with `auto`.

  Args:
    values: what the JSON holds.

  Raises:
    ValueError: that is no object of fields.
  """
  if not isinstance(values, dict):
    raise ValueError("no JSON object")
  if "precision" in values:  # a whole config
    values = {"lowering": "auto", **values}
    if values["lowering"] == "onednn":
      values["lowering"] = "auto"
    if isinstance(values.get("train"), dict):
      values["train"] = {"steps_per_call": 1, "remat": False, **values["train"]}
  try:
    return ConfigDict(tuples(values))
  except (AttributeError, KeyError, TypeError) as error:  # a field by the name of a method, say
    raise ValueError(str(error)) from error


def tuples(value: Any) -> Any:
  """JSON's lists as tuples, which is what a config has."""
  if isinstance(value, dict):
    return {name: tuples(item) for name, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value
