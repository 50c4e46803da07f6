"""Network in Network on CIFAR-10, as the authors defined and trained it (paper: 10.41 % error, 8.81 % augmented)."""

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
  config.optimizer.learning_rate_factors = (("block3/cccp2/.*", 0.1),)
  config.optimizer.schedule = "staircase"
  config.optimizer.boundaries = (256.0,)  # 100,000 steps
  config.train.epochs = 307.2  # 120,000 steps
  config.log.every_steps = 100
  return config
