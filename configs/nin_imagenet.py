"""Network in Network on ImageNet, as the authors' Caffe model has it.

python -m experiments.cost --config=configs/nin_imagenet.py

7,595,176 parameters, 1,100,188,800 MACs an image. The authors' model reached 59.36 % top-1; this one has not been
trained on ImageNet yet. The set is streamed (data.workers: as many as the machine has cores to spare). Initialisation
and factors are those of the authors' train_val.prototxt; both sides are resized to 256, as in Caffe's example for
ImageNet, whose steps of the rate these are too.
"""

from nin_jax import models
from nin_jax.config import default
from nin_jax.models.nin import block_config


def get_config():
  config = default()
  config.model = model = models.defaults("nin")
  model.num_classes = 1000
  model.block1 = block_config((96, 96, 96), kernel=11, strides=4, padding=0, pool="max", init_std=(0.01, 0.05, 0.05))
  model.block2 = block_config((256, 256, 256), kernel=5, padding=2, pool="max", init_std=(0.05, 0.05, 0.05))
  model.block3 = block_config(
    (384, 384, 384), kernel=3, padding=1, pool="max", dropout=0.5, init_std=(0.01, 0.05, 0.05)
  )
  model.block4 = block_config((1024, 1024), kernel=3, padding=1, init_std=(0.05, 0.05, 0.01))
  config.data.name = "imagenet2012"
  config.data.test_split = "validation"
  config.data.image_size = 256
  config.data.resize = "warp"
  config.data.crop = 224
  config.data.flip = True
  config.data.batch_size = 64
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 5e-4
  config.optimizer.bias_learning_rate_factor = 2.0
  config.optimizer.schedule = "staircase"
  config.optimizer.unit = "steps"
  config.optimizer.boundaries = (200_000.0, 400_000.0)
  config.train.steps = 450_000
  return config
