"""How kernels begin, as the sources say."""

from flax import linen as nn

INITIALIZERS = ("gaussian", "xavier", "he")


def kernel_initializer(name: str, std: float = 0.05) -> nn.initializers.Initializer:
  """The initialiser of a kernel whose last axis is its output channels.

  Args:
    name: "gaussian", a normal distribution of standard deviation `std` (Network in Network: 0.05); "xavier", Caffe's
      filler, uniform with variance 1 / fan_in (GoogLeNet); "he", normal with variance 2 / fan_in (He et al. 2015).
    std: of gaussian.

  Raises:
    ValueError: another name.
  """
  if name == "gaussian":
    return nn.initializers.normal(std)
  if name == "xavier":
    return nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
  if name == "he":
    return nn.initializers.variance_scaling(2.0, "fan_in", "normal")
  raise ValueError(f"initializer {name!r}: accepted is one of {', '.join(INITIALIZERS)}")
