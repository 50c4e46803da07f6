"""Downloads and prepares a TFDS set, once, so that it can be trained on without TensorFlow.

  pip install -r requirements-tfds.txt
  python -m experiments.prepare_data --name=cifar10 [--data_dir=DIR]

Any set of images with one label each will do: https://www.tensorflow.org/datasets/catalog/overview#image_classification
"""

import sys

from absl import app, flags, logging

from nin_jax import data
from nin_jax.errors import ConfigError

NAME = flags.DEFINE_string(
  "name", "", "The set, as for --config.data.name: cifar10, svhn_cropped, fashion_mnist:3.0.1, …"
)
DATA_DIR = flags.DEFINE_string("data_dir", "", "Where to put it; $TFDS_DATA_DIR or ~/tensorflow_datasets if not given.")


def main(argv: list[str]) -> None:
  logging.set_verbosity(logging.WARNING)
  try:
    if len(argv) > 1:
      raise ConfigError("arguments", " ".join(argv[1:]), "none but --name and --data_dir")
    if not NAME.value:
      raise ConfigError("--name", NAME.value, "a TFDS name such as cifar10")
    directory = data.prepare(NAME.value, DATA_DIR.value)
  except ConfigError as error:
    print(f"prepare_data: {error}", file=sys.stderr)
    sys.exit(2)
  print(f"{NAME.value} lies in {directory}. To train on it, add to the command of experiments.train:")
  print(f"  --config.data.name={NAME.value} --config.data.dir={directory}")


if __name__ == "__main__":
  app.run(main)
