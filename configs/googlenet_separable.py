"""GoogLeNet with the separable first layer whose cost the paper's Table 1 gives."""

from configs import googlenet_imagenet


def get_config():
  config = googlenet_imagenet.get_config()
  config.model.stem = "separable"
  return config
