"""NIN on Fashion-MNIST."""

from nin_jax import models
from nin_jax.config import default
from nin_jax.models.nin import block_config


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
