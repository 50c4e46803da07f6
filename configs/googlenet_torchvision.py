"""torchvision's variant of GoogLeNet: batch normalisation, 3×3 in place of 5×5, a 2×2 last pool."""

from configs import googlenet_imagenet
from nin_jax.models.googlenet import torchvision_defaults


def get_config():
  config = googlenet_imagenet.get_config()
  config.model = torchvision_defaults()
  return config
