"""Network in Network on MNIST, as the authors defined it.

python -m experiments.train --config=configs/nin_mnist.py --config.data.dir=DIR --workdir=workdirs/nin_mnist

349,674 parameters, 50,699,712 MACs an image. The paper's error is 0.47 %. Length and steps of the rate are ours. Not
trained here yet: no MNIST was at hand (nin_fashion_mnist.py is nearly the same network, on a set that was).
"""

from configs import nin_cifar10
from nin_jax.models.nin import block_config


def get_config():
  config = nin_cifar10.get_config()
  config.model.block1 = block_config((96, 64, 48), pool="max", dropout=0.5)
  config.model.block2 = block_config((128, 96, 48), pool="max", dropout=0.5)
  config.model.block3 = block_config((128, 96))
  config.data.name = "mnist"
  config.data.normalize = "standardize"
  config.optimizer.boundaries = (80.0,)
  config.train.epochs = 100.0
  return config
