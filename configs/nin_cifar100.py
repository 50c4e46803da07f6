"""Network in Network on CIFAR-100, as the authors defined it.

python -m experiments.train --config=configs/nin_cifar100.py --config.data.dir=DIR --workdir=workdirs/nin_cifar100

984,356 parameters, 223,592,448 MACs an image. The paper's error is 35.68 %. Not trained here yet: no CIFAR-100 was at
hand.
"""

from configs import nin_cifar10


def get_config():
  config = nin_cifar10.get_config()
  config.model.num_classes = 100
  config.model.block1.init_std = (0.001, 0.01, 0.01)
  config.data.name = "cifar100"
  config.optimizer.learning_rate = 0.02
  config.optimizer.weight_decay = 5e-4
  return config
