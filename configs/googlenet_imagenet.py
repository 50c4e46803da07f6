"""GoogLeNet as in the paper, with the training of BVLC's Caffe copy.

python -m experiments.cost --config=configs/googlenet_imagenet.py --depth=1
python -m experiments.sweep --config=configs/googlenet_imagenet.py --sweep=reductions --plan

6,998,552 parameters, 1,582,671,872 MACs an image; in training, with both auxiliary heads, 13,378,280 and
1,591,044,096 (--train). The Caffe copy reached 68.7 % top-1 and 88.9 % top-5; this one has not been trained on ImageNet
yet. The set is streamed (data.workers: as many as the machine has cores to spare). The paper's own crops (section 6):
--config.data.random_resized_crop="(0.08,1.0)". docs/googlenet_table_1.md has the paper's table beside ours.
"""

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


def sweep_reductions():
  """What the 1×1 reductions save: 1.583G MACs an image with them, 4.427G without."""
  return {"model.reductions": [True, False]}
