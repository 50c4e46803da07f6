"""Prints what a config's network costs, layer by layer, for one image; computes nothing.

python -m experiments.cost --config=configs/googlenet_imagenet.py [--train] [--device=h100] [--depth=1]
"""

from absl import flags

from experiments import command

CONFIG = command.define_config()
FORMAT = flags.DEFINE_enum("format", "table", ["table", "json", "csv"], "How to print it.")
TRAIN = flags.DEFINE_bool("train", False, "Add the backward pass, and what only training has (auxiliary heads).")
DEVICE = flags.DEFINE_string("device", None, "Add each layer's roofline on a device: cpu (measured), h100, 'tpu v4', …")
DEPTH = flags.DEFINE_integer("depth", 0, "Sum the layers by the first so many parts of their paths.", lower_bound=0)
IMAGE_SIZE = flags.DEFINE_integer(
  "image_size", None, "Count the fully convolutional form on images of this size, larger than the config's."
)


def main() -> None:
  from nin_jax import cost, models  # here, so that a mistake in a flag is told at once
  from nin_jax.cost import roofline
  from nin_jax.errors import ConfigError
  from nin_jax.train import budget
  from nin_jax.train.validation import validate

  config = CONFIG.value
  trained = validate(config, 1, training=False, computes=False).spec.image_shape
  network = models.build(config.model, trained, config.precision, fully_convolutional=IMAGE_SIZE.value is not None)
  shape = trained
  if IMAGE_SIZE.value is not None:
    if TRAIN.value or IMAGE_SIZE.value < max(trained[:2]):
      accepted = f"a size of at least {max(trained[:2])}, the config's own, without --train"
      raise ConfigError("--image_size", IMAGE_SIZE.value, accepted)
    shape = (IMAGE_SIZE.value, IMAGE_SIZE.value, trained[2])
  if DEPTH.value and DEVICE.value:
    raise ConfigError("--depth", DEPTH.value, "0 with --device: a roofline is each layer's own")
  device = roofline.device(DEVICE.value, config.precision) if DEVICE.value else None
  if TRAIN.value:
    counted = budget.training_cost(network, config.train, shape)
  else:
    counted = budget.inference_cost(network, shape, trained)
  if DEPTH.value:
    counted = counted.by_module(DEPTH.value)
  if FORMAT.value == "json":
    command.show(cost.to_json(counted, config.model.name, (1, *shape), device))
  elif FORMAT.value == "csv":
    command.show(cost.to_csv(counted, device), end="")
  else:
    command.show(f"{config.model.name} on {'×'.join(map(str, shape))}, one image\n")
    command.show(cost.table(counted, TRAIN.value, device))


if __name__ == "__main__":
  command.run(main)
