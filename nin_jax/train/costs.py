"""What the network and the steps of a training cost."""

import dataclasses
import functools

import jax

from nin_jax.cost import roofline
from nin_jax.train import budget
from nin_jax.train.kept_count import kept
from nin_jax.train.setup import Setup


class Costs:
  """Of one training, each counted when it is first asked for: none of it is needed to take a step.

  Attributes:
    batch_size: images a step.

  Args:
    setup: of the training.
  """

  def __init__(self, setup: Setup):
    self._setup, self.batch_size = setup, setup.config.data.batch_size

  @functools.cached_property
  def inference(self) -> dict:
    """Of one image, `cost.Cost.total`."""
    return budget.inference_cost(self._setup.network, self._setup.image_shape).total

  @functools.cached_property
  def step_flops(self) -> int:
    """Of one step of training; that of an image is kept for later starts, whose first line it would delay."""
    network, config, image_shape = self._setup.network, self._setup.config, self._setup.image_shape

    def of_image() -> int:
      unmapped = network.clone(options=dataclasses.replace(network.options, axis_name=None))
      return budget.training_cost(unmapped, config.train, image_shape, self._setup.variables).total["train_flops"]

    key = {"model": config.model.to_dict(), "train": config.train.to_dict(), "precision": config.precision}
    return kept(key | {"image_shape": list(image_shape)}, of_image) * self.batch_size

  @functools.cached_property
  def peak(self) -> float | None:
    """FLOP/s of all devices together; None where it is not known. A CPU's is measured, while nothing else runs."""
    device = roofline.current(self._setup.config.precision)
    # A CPU's peak is measured with all its cores, however many devices JAX divides it into.
    count = jax.process_count() if device and device.kind == "cpu" else len(self._setup.devices)
    return device and device.peak_flops * count

  def speed(self, step_seconds: float) -> dict[str, float | None]:
    """{"images_per_second", "flops_per_second", "mfu"} at so many seconds a step."""
    flops = self.step_flops / step_seconds
    speeds = {"images_per_second": self.batch_size / step_seconds, "flops_per_second": flops}
    return speeds | {"mfu": self.peak and flops / self.peak}
