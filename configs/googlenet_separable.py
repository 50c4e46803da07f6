"""GoogLeNet with the separable first layer whose cost the paper's Table 1 gives.

python -m experiments.cost --config=configs/googlenet_separable.py --depth=1

6,991,880 parameters, 1,498,677,248 MACs an image. See googlenet_imagenet.py.
"""

from configs import googlenet_imagenet


def get_config():
  config = googlenet_imagenet.get_config()
  config.model.stem = "separable"
  return config
