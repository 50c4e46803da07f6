"""What is trained on both sides: the config of a case."""

import importlib

from ml_collections import ConfigDict

BATCHES = {"nin_cifar10": (64, 128), "googlenet_torchvision": (16,), "googlenet_imagenet": (16,)}
BATCHES_OF_NOISE = 4  # different ones, in turn
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4


def config_of(network: str, precision: str, batch: int) -> ConfigDict:
  """The config `network`, with the update rule that both sides have, on images that need no more than scaling.

  Args:
    network: name of a file in `configs/`.
    precision: "float32" or "bfloat16".
    batch: images a step.
  """
  config = importlib.import_module(f"configs.{network}").get_config()
  config.precision, config.data.batch_size = precision, batch
  config.data.image_size, config.data.crop, config.data.flip = config.data.crop or config.data.image_size, 0, False
  config.data.normalize = "standardize"
  config.optimizer.name, config.optimizer.schedule = "sgd", "constant"
  config.optimizer.learning_rate, config.optimizer.momentum = LEARNING_RATE, MOMENTUM
  config.optimizer.weight_decay = WEIGHT_DECAY
  config.optimizer.bias_learning_rate_factor, config.optimizer.learning_rate_factors = 1.0, ()
  return config
