"""The learning rate as a function of the step."""

import math

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from nin_jax.errors import ConfigError

NAMES = ("constant", "staircase", "polynomial", "cosine")


def schedule(config_optimizer: ConfigDict, total_steps: int, steps_per_epoch: float) -> optax.Schedule:
  """Returns the rate at each step, as `config.optimizer` describes it.

  With s the number of updates made so far (0 at the first), W the steps of warm-up and T `total_steps`:

  * warm-up, s < W: `learning_rate` · (s + 1) / (W + 1). The line would be 0 one step before training starts and is at
    the full rate at step W, so that no step is wasted at a rate of 0.
  * `constant`: `learning_rate`.
  * `staircase`: the rate is multiplied by `factor` at each of `boundaries`, or, where there are none, whenever `every`
    has passed. Both are counted from the start of training, warm-up included; a boundary's own step has the new rate.
    −4 % every 8 epochs (Szegedy et al. 2014, section 6) is `every=8, factor=0.96`.
  * `polynomial`: end + (`learning_rate` − end) · (1 − (s − W) / (T − W)) ^ `power`, Caffe's "poly".
  * `cosine`: end + (`learning_rate` − end) · (1 + cos(π (s − W) / (T − W))) / 2 (Loshchilov and Hutter 2017).

  The last two are at end = `end_learning_rate` once s = T, that is, one step after the last.

  Args:
    config_optimizer: the section `optimizer` of a config. `warmup`, `boundaries` and `every` are in its `unit`, and are
      rounded to whole steps.
    total_steps: the steps of the whole training.
    steps_per_epoch: the steps of one epoch, not necessarily whole.

  Returns:
    A function from a step (an int, or an int array of any shape) to the rate (float32), to be used in or outside `jit`.

  Raises:
    ConfigError: for an unknown name, a number out of bounds, or boundaries that do not increase. A warm-up may be
      longer than the training, which then ends on it: so that any config can be tried for a few steps.
  """
  c = config_optimizer
  _check(c)
  per_unit = steps_per_epoch if c.unit == "epochs" else 1
  warmup = round(c.warmup * per_unit)

  left = max(1, total_steps - warmup)
  if c.schedule == "constant":
    after = optax.constant_schedule(c.learning_rate)
  elif c.schedule == "staircase":
    after = _staircase(c, per_unit, warmup)
  elif c.schedule == "polynomial":
    after = _polynomial(c, left)
  else:
    after = optax.cosine_decay_schedule(c.learning_rate, left, alpha=c.end_learning_rate / c.learning_rate)
  if warmup:
    rise = optax.linear_schedule(c.learning_rate / (warmup + 1), c.learning_rate, warmup)
    after = optax.join_schedules([rise, after], [warmup])
  return lambda step: jnp.asarray(after(step), jnp.float32)


def _polynomial(c: ConfigDict, steps: int) -> optax.Schedule:
  # Not optax.polynomial_schedule: its 1 − s / T may come out below 0 at s = T, and a root of that is NaN.
  def rate(step):
    left = jnp.clip(steps - step, 0, steps) / steps
    return c.end_learning_rate + (c.learning_rate - c.end_learning_rate) * left**c.power

  return rate


def _staircase(c: ConfigDict, per_unit: float, warmup: int) -> optax.Schedule:
  """The staircase from the end of the warm-up on: its step 0 is the training's step `warmup`."""
  if not c.boundaries and not c.every:
    raise ConfigError("optimizer.boundaries", c.boundaries, "at least one boundary (or set optimizer.every)")
  if c.boundaries:
    if any(later <= earlier for earlier, later in zip(c.boundaries, c.boundaries[1:], strict=False)):
      raise ConfigError("optimizer.boundaries", c.boundaries, "numbers that increase")
    if c.boundaries[0] < c.warmup:
      raise ConfigError("optimizer.boundaries", c.boundaries, f"numbers not before the end of the warm-up ({c.warmup})")
    scales: dict[int, float] = {}
    for boundary in c.boundaries:
      step = round(boundary * per_unit) - warmup
      scales[step] = scales.get(step, 1.0) * c.factor  # two boundaries may round to the same step
    return optax.piecewise_constant_schedule(c.learning_rate, scales)
  if c.every < c.warmup:
    raise ConfigError("optimizer.every", c.every, f"a number not below optimizer.warmup ({c.warmup})")
  every = max(1, round(c.every * per_unit))
  # Not optax.exponential_decay(staircase=True): it divides in float32, and is a step late for some values of `every`.
  return lambda step: c.learning_rate * c.factor ** jnp.asarray((step + warmup) // every, jnp.float32)


def _check(c: ConfigDict) -> None:
  if c.schedule not in NAMES:
    raise ConfigError("optimizer.schedule", c.schedule, "one of " + ", ".join(NAMES))
  if c.unit not in ("epochs", "steps"):
    raise ConfigError("optimizer.unit", c.unit, "epochs or steps")
  for field in ("learning_rate", "factor", "power"):
    if not 0 < c[field] < math.inf:
      raise ConfigError(f"optimizer.{field}", c[field], "a positive number")
  for field in ("warmup", "every"):
    if not 0 <= c[field] < math.inf:
      raise ConfigError(f"optimizer.{field}", c[field], "a number not below 0")
  if not 0 <= c.end_learning_rate <= c.learning_rate:
    accepted = f"a number from 0 to optimizer.learning_rate ({c.learning_rate:g})"
    # A rate that rises again from an end above it is a slip of the hand, not a schedule.
    if c.schedule in ("polynomial", "cosine") or c.end_learning_rate < 0:
      raise ConfigError("optimizer.end_learning_rate", c.end_learning_rate, accepted)
  if not all(0 < boundary < math.inf for boundary in c.boundaries):
    raise ConfigError("optimizer.boundaries", c.boundaries, "positive numbers")
