"""A small Inception net on CIFAR-10.

python -m experiments.train --config=configs/inception_cifar10.py --config.data.dir=DIR --workdir=workdirs/inception

532,378 parameters, 120,310,912 MACs an image. Only its start has been measured: 33.7 % on the first 1,000 test images
after 60 steps (--config.train.steps=60), at 81 images/s on two cores of an AMD EPYC. All 100 epochs want an
accelerator.
"""

from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config
from nin_jax.sweep import space


def get_config():
  config = default()
  config.model = model = models.defaults("inception")
  model.stem_features = (64,)
  model.inception_1a = width_config(32, 32, 48, 8, 16, 16)
  model.inception_1b = width_config(32, 32, 64, 8, 24, 24)
  model.inception_2a = width_config(64, 48, 96, 12, 32, 32)
  model.inception_2b = width_config(64, 48, 96, 12, 32, 32)
  model.inception_3a = width_config(96, 64, 128, 16, 48, 48)
  model.inception_3b = width_config(96, 64, 128, 16, 48, 48)
  model.dropout = 0.2
  config.data.name = "cifar10"
  config.data.batch_size = 128
  config.data.translate = 4
  config.data.flip = True
  config.optimizer.learning_rate = 0.1
  config.optimizer.nesterov = True
  config.optimizer.weight_decay = 5e-4
  config.optimizer.schedule = "cosine"
  config.optimizer.warmup = 1.0
  config.train.epochs = 100.0
  return config


def sweep_bottleneck():
  """How narrow the reductions may be: an eighth of their width to twice it, and none; three seeds of each."""
  widths = space.values("model.reduce_scale", [0.125, 0.25, 0.5, 1.0, 2.0])
  settings = space.chain(widths, space.values("model.reductions", [False]))
  return space.product(settings, space.values("seed", range(3)))


def sweep_random():
  """Random learning rates, and widths of the 3×3 reductions at each size of the map."""
  axes = {
    "optimizer.learning_rate": space.log_uniform(0.01, 1.0),
    "model.inception_1b.reduce3x3": space.power_of_two(4, 128),
    "model.inception_2b.reduce3x3": space.power_of_two(4, 128),
    "model.inception_3b.reduce3x3": space.power_of_two(4, 128),
  }
  return space.sample(20, axes)
