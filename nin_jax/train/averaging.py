"""The mean of the parameters over training, which is evaluated in place of the last ones."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from nin_jax.checks import Fields, field, gather, one_of
from nin_jax.errors import ConfigError, refuse

NAMES = ("none", "ema", "polyak")
STATISTICS_BATCHES = 32  # over which the batch statistics of an average are taken


def init(config_train: ConfigDict, params: optax.Params) -> optax.Params | None:
  """Returns the average before the first step: a copy of the parameters, or None where nothing is averaged.

  A copy, so that both may be donated to the same step.

  Args:
    config_train: the section `train` of a config, with `averaging`, `ema_decay` and `average_from`.
    params: any tree of float arrays.

  Raises:
    ConfigError: for an unknown `averaging`, or a number out of bounds.
  """
  refuse(mistakes(Fields(config_train, "train.")))
  return None if config_train.averaging == "none" else jax.tree.map(jnp.copy, params)


def update(
  config_train: ConfigDict,
  average: optax.Params | None,
  params: optax.Params,
  step: int | Int[Array, ""],
  total_steps: int,
) -> optax.Params | None:
  """Returns the average with the parameters after a step taken in. Pure: for use inside `jit` and `pmap`.

  With w_t the parameters after t updates:

  * `none`: None; nothing is kept.
  * `ema`: Σ_t d^(step − t) w_t / Σ_t d^(step − t) over t = 1 … step, with d = `ema_decay`. This is the moving average
    with its bias corrected (Kingma and Ba 2015, section 3): the random initial parameters have no part in it, so that
    the very first evaluation makes sense.
  * `polyak`: the uniform mean of the w_t with t ≥ `average_from` · `total_steps` (Polyak and Juditsky 1992); before
    that, the latest parameters.

  Args:
    config_train: as in `init`.
    average: what `init` or the previous `update` gave.
    params: the parameters after the step, shaped like `average`.
    step: the number of updates that led to `params`: 1 after the first.
    total_steps: the steps of the whole training.
  """
  c = config_train
  if c.averaging == "none":
    return None
  if c.averaging == "ema":
    # The corrected average moves by (1 − d) / (1 − d^step); expm1 keeps the digits that 1 − d^step loses in float32.
    weight = (1 - c.ema_decay) / -jnp.expm1(step * math.log(c.ema_decay))
  else:
    first = max(1, round(c.average_from * total_steps))
    weight = 1 / jnp.maximum(1, step - first + 1)
  return optax.incremental_update(params, average, weight)


def evaluated(average: optax.Params | None, params: optax.Params) -> optax.Params:
  """Returns the parameters to evaluate: the average where there is one."""
  return params if average is None else average


_CHECKS = [
  *one_of("averaging", NAMES),
  *field("ema_decay", lambda decay: 0 < decay < 1, "a number between 0 and 1"),
  *field("average_from", lambda part: 0 <= part <= 1, "a part of training, from 0 to 1"),
]


def mistakes(train: Fields) -> Iterator[ConfigError]:
  """Yields an error for an unknown `averaging`, and for each number out of bounds."""
  return gather(train, _CHECKS)
