"""The update rule: SGD as Caffe and cuda-convnet define it, and AdamW."""

import re
from collections.abc import Iterator

import jax
import optax
from ml_collections import ConfigDict

from nin_jax.checks import Fields, field, fraction, gather, is_number, not_negative, one_of, positive
from nin_jax.errors import ConfigError, refuse
from nin_jax.train.schedule import mistakes as schedule_mistakes
from nin_jax.train.schedule import schedule

NAMES = ("sgd", "adamw")


def optimizer(
  config_optimizer: ConfigDict, params: optax.Params, total_steps: int, steps_per_epoch: float
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns the update rule that `config.optimizer` describes, and its learning rate.

  With g the gradient, clipped to a global norm of `clip_norm` first where that is not 0, w the parameter, r the
  schedule's rate times the parameter's own factor, and d the `weight_decay` on kernels, 0 on all else:

  * `sgd`: v ← momentum · v + r · (g + d · w), w ← w − v. The decay is part of the gradient and the rate is inside the
    momentum, as in Caffe and cuda-convnet, so that a drop of the rate works itself in over the next 1 / (1 − momentum)
    steps. With `nesterov`, w ← w − (momentum · v + r · (g + d · w)), with the new v.
  * `adamw`: w ← w − r · (m̂ / (√v̂ + eps) + d · w) (Loshchilov and Hutter 2019).

  A parameter's own factor is that of the first of `learning_rate_factors` whose expression matches its whole path
  (`block3/cccp2/kernel`), 1 where none does, times `bias_learning_rate_factor` if its name is `bias`.

  Args:
    config_optimizer: the section `optimizer` of a config.
    params: the parameters, or a tree of the same structure with `jax.ShapeDtypeStruct` leaves: only paths are read.
    total_steps: the steps of the whole training.
    steps_per_epoch: the steps of one epoch.

  Returns:
    The transformation, and the schedule (step → rate, before factors) that it takes its rate from.

  Raises:
    ConfigError: for an unknown name, a number out of bounds, an expression that is invalid or matches no parameter,
      and all that `nin_jax.train.schedule.schedule` refuses.
  """
  c = config_optimizer
  refuse(mistakes(Fields(c, "optimizer.")))
  refuse(unmatched(c, params))
  rate = schedule(c, total_steps, steps_per_epoch)
  kernels = jax.tree.map(lambda path: path.split("/")[-1] == "kernel", _paths(params))
  clip = optax.clip_by_global_norm(c.clip_norm) if c.clip_norm else optax.identity()
  decay = optax.add_decayed_weights(c.weight_decay, mask=kernels) if c.weight_decay else optax.identity()
  scale = optax.chain(_scale_by(_factors(c, params)), optax.scale_by_schedule(rate))
  if c.name == "sgd":
    momentum = optax.trace(c.momentum, c.nesterov) if c.momentum else optax.identity()
    return optax.chain(clip, decay, scale, momentum, optax.scale(-1)), rate
  adam = optax.scale_by_adam(c.b1, c.b2, c.eps)
  return optax.chain(clip, adam, decay, scale, optax.scale(-1)), rate


def _paths(params: optax.Params) -> optax.Params:
  """The tree of the parameters' paths, as `block3/cccp2/kernel`."""
  keystr = jax.tree_util.keystr
  return jax.tree_util.tree_map_with_path(lambda path, _: keystr(path, simple=True, separator="/"), params)


def _factors(c: ConfigDict, params: optax.Params) -> optax.Params:
  """The tree of each parameter's factor on the learning rate."""
  rules = [(re.compile(expression), float(factor)) for expression, factor in c.learning_rate_factors]

  def factor(path):
    own = next((factor for pattern, factor in rules if pattern.fullmatch(path)), 1.0)
    return own * (c.bias_learning_rate_factor if path.split("/")[-1] == "bias" else 1.0)

  return jax.tree.map(factor, _paths(params))


def _scale_by(factors: optax.Params) -> optax.GradientTransformation:
  """Multiplies each update by its factor; those of 1 cost nothing."""
  return optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u if f == 1 else u * f, updates, factors))


def mistakes(optimizer: Fields) -> Iterator[ConfigError]:
  """Yields the errors that `optimizer` would raise without looking at the parameters, of fields of the right types."""
  yield from gather(optimizer, _CHECKS)
  yield from schedule_mistakes(optimizer)


def unmatched(config_optimizer: ConfigDict | Fields, params: optax.Params) -> Iterator[ConfigError]:
  """Yields an error for each of `learning_rate_factors` whose expression matches no parameter."""
  known = jax.tree.leaves(_paths(params))
  for expression, _ in config_optimizer.learning_rate_factors:
    if not any(map(re.compile(expression).fullmatch, known)):
      shown = ", ".join(known[:4]) + (f", ... ({len(known)} in all)" if len(known) > 4 else "")
      accepted = f"an expression that matches the whole path of a parameter: {shown}"
      yield ConfigError("optimizer.learning_rate_factors", expression, accepted)


def _rules(c: Fields) -> Iterator[ConfigError]:
  name = f"{c.prefix}learning_rate_factors"
  for rule in c.learning_rate_factors:
    if not (isinstance(rule, tuple | list) and len(rule) == 2 and isinstance(rule[0], str)):
      yield ConfigError(name, rule, "pairs of a regular expression on a parameter's path and a factor")
      continue
    expression, factor = rule
    if not (is_number(factor) and factor >= 0):
      yield ConfigError(name, rule, "a factor that is a number not below 0")
    try:
      re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
      yield ConfigError(name, expression, f"a regular expression ({error})")


_CHECKS = [
  *one_of("name", NAMES),
  *field("momentum b1 b2", fraction, "a number from 0 to below 1"),
  *field("weight_decay bias_learning_rate_factor clip_norm", not_negative, "a number not below 0"),
  *field("eps", positive, "a positive number"),
  _rules,
]
