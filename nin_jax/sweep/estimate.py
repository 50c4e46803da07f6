"""How long a training will take, roughly, before it has begun."""

import functools
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

from nin_jax.cost import Cost, roofline
from nin_jax.errors import ConfigError

# Fitted on two cores of an AMD EPYC. Milliseconds a step, measured and by this: inception_digits 32, 30;
# inception_fashion_mnist 96, 89; nin_fashion_mnist 290, 320; inception_cifar10 1,400, 1,600. Before the first one, 5 to
# 28 s were measured.
EFFICIENCY = 0.65  # of the peak, in convolutions and products
ELEMENT_FLOPS = 120  # that a CPU at its peak would do in the time of one element of element-wise work
ELEMENT_BYTES = 8  # that an accelerator moves for one
START_SECONDS, LAYER_SECONDS = 2.0, 0.2  # before the first step: data, and compilation, which grows with the layers

_ASK = "import jax; print(jax.devices()[0].device_kind)"


def seconds(cost: Cost, images: int, device: roofline.Device) -> float:
  """The time of a training alone on a device: within a factor of two or so on a CPU, elsewhere not yet compared.

  The time of the arithmetic at a part of the device's peak, and of the element-wise work: on an accelerator at its
  bandwidth, on a CPU at a part of its peak too, as caches and vector units bound it. What evaluation takes is left out.

  Args:
    cost: of one image's forward and backward pass (`budget.training_cost`).
    images: that are trained on in all.
    device: see `roofline.device`.
  """
  total = cost.total
  elements = total["elementwise"] + total["backward_elementwise"]
  by_element = ELEMENT_FLOPS / device.peak_flops if device.kind == "cpu" else ELEMENT_BYTES / device.bandwidth
  image = total["train_flops"] / (EFFICIENCY * device.peak_flops) + elements * by_element
  return START_SECONDS + LAYER_SECONDS * len(cost.layers) + images * image


@functools.cache
def device(precision: str) -> roofline.Device | None:
  """What trials will be trained on, though this process may keep to the CPU; None where its peak is not known.

  An accelerator is asked for its name by a process that ends at once: the planning should not hold it.
  """
  kind = _kind()
  try:
    return roofline.device(kind, precision) if kind else None
  except ConfigError:
    return None


def _kind() -> str | None:
  plugins = importlib.metadata.entry_points(group="jax_plugins")
  if os.environ.get("JAX_PLATFORMS") == "cpu" or not (plugins or importlib.util.find_spec("libtpu")):
    return "cpu"
  environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  try:
    asked = subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, timeout=120)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return asked.stdout.strip() or None
