"""Network in Network on Fashion-MNIST: the widths of the authors' MNIST network, with batch normalisation.

python -m experiments.train --config=configs/nin_fashion_mnist.py --config.data.dir=DIR --workdir=workdirs/fashion

350,388 parameters, 50,699,712 MACs an image. Measured on two shared cores of an AMD EPYC: test accuracy 92.28 ± 0.15 %
(mean and standard deviation of the seeds 0, 1 and 2) after 3 epochs, 7 to 9 minutes; 87.9 % after the first epoch,
90.7 % after the second. The curve is in docs/results/nin_fashion_mnist.md. It takes other sets of small images as it
is: --config.data.name=cifar10.
"""

from nin_jax import models
from nin_jax.config import default
from nin_jax.models.nin import block_config
from nin_jax.sweep import space


def get_config():
  config = default()
  config.model = model = models.defaults("nin")
  model.norm = "batch"
  model.init = "he"
  model.last_relu = False
  model.block1 = block_config((96, 64, 48), pool="max", dropout=0.1)
  model.block2 = block_config((128, 96, 48), pool="max", dropout=0.1)
  model.block3 = block_config((128, 96))
  config.data.name = "fashion_mnist"
  config.data.batch_size = 128
  config.data.flip = True
  config.optimizer.learning_rate = 0.1
  config.optimizer.nesterov = True
  config.optimizer.schedule = "cosine"
  config.optimizer.warmup = 0.2
  config.optimizer.weight_decay = 5e-4
  config.train.epochs = 3.0
  return config


def sweep_cccp():
  """What the 1×1 layers add to two of the convolutions: none of them, then a quarter of their widths to twice it."""
  widths = {
    "model.block1.features": [(96,), (96, 16, 12), (96, 32, 24), (96, 64, 48), (96, 128, 96)],
    "model.block2.features": [(128,), (128, 24, 12), (128, 48, 24), (128, 96, 48), (128, 192, 96)],
  }
  return space.product(space.zip(widths), space.values("seed", range(3)))
