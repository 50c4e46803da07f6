"""Downloads and prepares a TFDS set, once, so that it can be trained on without TensorFlow.

  pip install -r requirements-tfds.txt
  python -m experiments.prepare_data --name=cifar10 [--data_dir=DIR]

Any set of images with one label each will do: https://www.tensorflow.org/datasets/catalog/overview#image_classification
"""

import shlex

from absl import flags

from experiments import command

NAME = flags.DEFINE_string(
  "name", None, "The set, as for --config.data.name: cifar10, svhn_cropped, fashion_mnist:3.0.1, …", required=True
)
DATA_DIR = flags.DEFINE_string("data_dir", "", "Where to put it; $TFDS_DATA_DIR or ~/tensorflow_datasets if not given.")


def main() -> None:
  from nin_jax import data  # here, so that a mistake in a flag is told at once

  directory = data.prepare(NAME.value, DATA_DIR.value)
  print(f"{NAME.value} lies in {directory}. To train on it, add to the command of experiments.train:")
  print(" ", shlex.join([f"--config.data.name={NAME.value}", f"--config.data.dir={directory}"]))


if __name__ == "__main__":
  command.run(main)
