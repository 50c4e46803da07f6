"""GoogLeNet on ImageNet, as the paper has it, trained as BVLC's Caffe copy was (68.7 % top-1, 88.9 % top-5)."""

from nin_jax import models
from nin_jax.config import default


def get_config():
  config = default()
  config.model = models.defaults("googlenet")
  config.data.name = "imagenet2012"
  config.data.test_split = "validation"
  config.data.image_size = 256
  config.data.crop = 224
  config.data.flip = True
  config.data.batch_size = 32
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 2e-4
  config.optimizer.bias_learning_rate_factor = 2.0
  config.optimizer.schedule = "polynomial"
  config.optimizer.power = 0.5
  config.train.steps = 2_400_000
  config.eval.every_steps = 40_000
  return config
