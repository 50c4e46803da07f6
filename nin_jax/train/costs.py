"""What the network and the steps of a training cost."""

import dataclasses

import jax

from nin_jax import models
from nin_jax.cost import roofline
from nin_jax.train import budget
from nin_jax.train.setup import Setup


@dataclasses.dataclass(frozen=True)
class Costs:
  """Of one training.

  Attributes:
    inference: of one image, `cost.Cost.total`.
    step_flops: of one step of training.
    batch_size: images a step.
    peak: FLOP/s of all devices together; None where it is not known.
  """

  inference: dict
  step_flops: int
  batch_size: int
  peak: float | None

  def speed(self, step_seconds: float) -> dict[str, float | None]:
    """{"images_per_second", "flops_per_second", "mfu"} at so many seconds a step."""
    flops = self.step_flops / step_seconds
    speeds = {"images_per_second": self.batch_size / step_seconds, "flops_per_second": flops}
    return speeds | {"mfu": self.peak and flops / self.peak}


def of(setup: Setup) -> Costs:
  """The costs of a training; nothing is computed but, on a CPU, its peak, once."""
  config, batch_size = setup.config, setup.config.data.batch_size
  inference = budget.inference_cost(setup.network, setup.image_shape).total
  unmapped = models.build(config.model, setup.image_shape, config.precision)
  step_flops = budget.training_cost(unmapped, config.train, setup.image_shape).total["train_flops"] * batch_size
  device = roofline.current(config.precision)
  # A CPU's peak is measured with all its cores, however many devices JAX divides it into.
  peak = device and device.peak_flops * (jax.process_count() if device.kind == "cpu" else len(setup.devices))
  return Costs(inference, step_flops, batch_size, peak)
