"""Network in Network on SVHN, as the authors defined it.

python -m experiments.train --config=configs/nin_svhn.py --config.data.dir=DIR --workdir=workdirs/nin_svhn

1,986,026 parameters, 274,235,392 MACs an image. The paper's error is 2.35 %, after local contrast normalisation,
which is not built: images are standardised in its place. Length and steps of the rate are ours. Not trained here yet:
no SVHN was at hand.
"""

from configs import nin_cifar10
from nin_jax.models.nin import block_config


def get_config():
  config = nin_cifar10.get_config()
  config.model.block1 = block_config((128, 96, 64), pool="max", dropout=0.5)
  config.model.block2 = block_config((320, 256, 128), pool="max", dropout=0.5)
  config.model.block3 = block_config((384, 256))
  config.data.name = "svhn_cropped"
  config.data.train_split = "train+extra"
  config.data.normalize = "standardize"  # the paper has local contrast normalisation
  config.optimizer.boundaries = (20.0,)
  config.train.epochs = 25.0
  return config
