"""A sweep of two trials on the digits, short enough for `.ci/oldest.py`."""

from configs import inception_digits


def get_config():
  config = inception_digits.get_config()
  config.train.steps = 20
  config.eval.every_steps = 10
  return config


def sweep_widths():
  return {"model.reduce_scale": [0.25, 1.0]}
