"""Network in Network on CIFAR-10, as the authors defined and trained it.

python -m experiments.train --config=configs/nin_cifar10.py --config.data.dir=DIR --workdir=workdirs/nin_cifar10

966,986 parameters, 222,486,528 MACs an image. The paper's error is 10.41 % (8.81 % with --config.data.translate=4
--config.data.flip=True or the like); the authors' Caffe model reached 89.6 %. Only the start has been measured: 35.3 %
test accuracy after 625 steps, 14 minutes on two shared cores of an AMD EPYC (--config.train.epochs=1.6
--config.optimizer.boundaries="(1.4,)", seed 0). All 120,000 steps want an accelerator.

From the authors' cuda-convnet and Caffe files: gaussian initialisation, biases at twice the rate, the last cccp layer
at a tenth of it, pool 2 max (--config.model.block2.pool=avg as their Caffe copy has it), global contrast
normalisation and ZCA whitening, 120,000 steps, the rate divided by 10 after 100,000. The loss stays near ln 10 for
some hundred steps; where it never leaves, all logits being zero, the run stops and says so.
"""

from nin_jax import models
from nin_jax.config import default


def get_config():
  config = default()
  config.model = models.defaults("nin")
  config.data.name = "cifar10"
  config.data.batch_size = 128
  config.data.normalize = "gcn_zca"
  config.optimizer.learning_rate = 0.1
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 1e-4
  config.optimizer.bias_learning_rate_factor = 2.0
  config.optimizer.learning_rate_factors = (("block3/cccp2/kernel", 0.1), ("block3/cccp2/bias", 0.05))
  config.optimizer.schedule = "staircase"
  config.optimizer.boundaries = (256.0,)  # 100,000 steps
  config.train.epochs = 307.2  # 120,000 steps
  config.log.every_steps = 100
  return config
