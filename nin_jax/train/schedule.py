"""The learning rate as a function of the step."""

from collections.abc import Iterator

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from nin_jax.checks import MAX_INT, Fields, field, gather, not_negative, numbers, one_of, positive
from nin_jax.errors import ConfigError, refuse

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
  refuse(mistakes(Fields(c, "optimizer.")))
  per_unit = steps_per_epoch if c.unit == "epochs" else 1
  warmup = _steps(c.warmup, per_unit)

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


def _steps(duration: float, per_unit: float) -> int:
  """A duration in whole steps; one that no training reaches ends with int32."""
  return min(round(duration * per_unit), MAX_INT)


def _polynomial(c: ConfigDict, steps: int) -> optax.Schedule:
  # Not optax.polynomial_schedule: its 1 − s / T may come out below 0 at s = T, and a root of that is NaN.
  def rate(step):
    left = jnp.clip(steps - step, 0, steps) / steps
    return c.end_learning_rate + (c.learning_rate - c.end_learning_rate) * left**c.power

  return rate


def _staircase(c: ConfigDict, per_unit: float, warmup: int) -> optax.Schedule:
  """The staircase from the end of the warm-up on: its step 0 is the training's step `warmup`."""
  if c.boundaries:
    scales: dict[int, float] = {}
    for boundary in c.boundaries:
      step = _steps(boundary, per_unit) - warmup
      scales[step] = scales.get(step, 1.0) * c.factor  # two boundaries may round to the same step
    return optax.piecewise_constant_schedule(c.learning_rate, scales)
  every = max(1, _steps(c.every, per_unit))
  # Not optax.exponential_decay(staircase=True): it divides in float32, and is a step late for some values of `every`.
  return lambda step: c.learning_rate * c.factor ** jnp.asarray((step + warmup) // every, jnp.float32)


def mistakes(optimizer: Fields) -> Iterator[ConfigError]:
  """Yields the errors that `schedule` would raise, of fields whose types are right."""
  return gather(optimizer, _CHECKS)


def _end(c: Fields) -> Iterator[ConfigError]:
  # A rate that rises again from an end above it is a slip of the hand, not a schedule.
  if c.schedule in ("polynomial", "cosine") and c.end_learning_rate > c.learning_rate:
    yield c.error("end_learning_rate", f"a number from 0 to optimizer.learning_rate ({c.learning_rate:g})")


def _increase(c: Fields) -> Iterator[ConfigError]:
  falls = any(later <= earlier for earlier, later in zip(c.boundaries, c.boundaries[1:], strict=False))
  if c.schedule == "staircase" and falls:
    yield c.error("boundaries", "numbers that increase")


def _begin(c: Fields) -> Iterator[ConfigError]:
  if c.schedule != "staircase":
    return
  if not c.boundaries and not c.every:
    yield c.error("boundaries", "at least one boundary (or set optimizer.every)")
  elif c.boundaries and c.boundaries[0] < c.warmup:
    yield c.error("boundaries", f"numbers not before the end of the warm-up ({c.warmup})")
  elif not c.boundaries and c.every < c.warmup:
    yield c.error("every", f"a number not below optimizer.warmup ({c.warmup})")


_CHECKS = [
  *one_of("schedule", NAMES),
  *one_of("unit", ("epochs", "steps")),
  *field("learning_rate factor power", positive, "a positive number"),
  *field("warmup every end_learning_rate", not_negative, "a number not below 0"),
  *numbers("boundaries", positive, "positive numbers"),
  _end,
  _increase,
  _begin,
]
