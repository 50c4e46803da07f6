"""torchvision's variant of GoogLeNet: batch normalisation, 3×3 in place of 5×5, a 2×2 last pool.

python -m experiments.cost --config=configs/googlenet_torchvision.py --depth=1

6,624,904 parameters, 1,498,376,192 MACs an image. The auxiliary heads pool 5×5/3, as the paper's, not adaptively. See
googlenet_imagenet.py.
"""

from configs import googlenet_imagenet
from nin_jax.models.googlenet import torchvision_defaults


def get_config():
  config = googlenet_imagenet.get_config()
  config.model = torchvision_defaults()
  return config
