"""Configs changed at random: each trains a step or is refused with a ConfigError, and nothing else happens.

FUZZ_EXAMPLES=5000 tries as many, other ones each time, in place of the few that CI repeats.
"""

import copy
import functools
import math
import os
import tempfile

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import googlenet_imagenet, inception_digits, nin_fashion_mnist
from nin_jax import models, train
from nin_jax.errors import ConfigError
from nin_jax.models.inception import width_config
from nin_jax.models.nin import block_config
from nin_jax.train import budget
from nin_jax.train.setup import set_up


def _small(config):
  config.data.name, config.data.train_split, config.data.batch_size = "digits", "train[:64]", 16
  config.data.test_split = "test[:16]"
  config.log.tensorboard, config.eval.train_images, config.train.steps = False, 16, 1
  return config


def inception():
  config = _small(inception_digits.get_config())
  del config.model["inception_1b"], config.model["inception_2b"]
  config.model.stem_features = (4,)
  config.model.inception_1a, config.model.inception_2a = width_config(2, 1, 4, 0, 2, 2), width_config(2, 0, 2, 0, 0, 0)
  return config


def nin():
  config = _small(nin_fashion_mnist.get_config())
  config.model.block1, config.model.block2 = block_config((4, 2), kernel=3, pool="max"), block_config((3,))
  del config.model["block3"]
  return config


def googlenet():
  config = _small(googlenet_imagenet.get_config())
  for name in ("3b", "4b", "4c", "4d", "4e", "5b"):
    del config.model[f"inception_{name}"]
  for name in ("3a", "4a", "5a"):
    config.model[f"inception_{name}"] = width_config(2, 1, 2, 1, 2, 1)
  config.model.conv1, config.model.reduce2, config.model.conv2, config.model.num_classes = 4, 4, 4, 10
  config.model.auxiliary_reduction, config.model.auxiliary_features = 2, 4
  config.data.image_size, config.data.crop = 80, 72
  return config


BASES = {"inception": inception, "nin": nin, "googlenet": googlenet}

DELETED = "(deleted)"
RARE = ["alien", "alien", "any", "delete", "add", "block", "swap"]
CHOICES = {
  "name": "digits sgd adamw",
  "precision": "float32 bfloat16",
  "norm": "none batch lrn",
  "init": "gaussian xavier he",
  "pool": "max avg pointwise none",
  "downsample": "max avg pointwise",
  "stem": "dense separable",
  "schedule": "constant staircase polynomial cosine",
  "unit": "epochs steps",
  "averaging": "none ema polyak",
  "normalize": "scale standardize gcn gcn_zca",
}
WORDS = (
  "digits cifar10 mnist folder:x train test train[:8] train[:0] train+test resident stream auto error skip crop warp "
  "scale standardize gcn gcn_zca sgd adamw constant staircase polynomial cosine epochs steps none ema polyak float32 "
  "bfloat16 nin inception googlenet batch lrn gaussian xavier he max avg pointwise dense separable conv1x1 reduce3x3"
)
# Small or absurd: what lies between would be right, and take long.
INTS = st.one_of(
  st.integers(-2, 20), st.sampled_from([64, 10**9, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, -(2**63), 10**400])
)
FLOATS = st.one_of(
  st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0, 1.5, -1.0, 3.0, math.nan, math.inf, -math.inf, 1e-300, 1e30, 1e300]),
  st.floats(0, 1),
  st.floats(),
)
STRINGS = st.one_of(st.sampled_from(WORDS.split()), st.just(""), st.text("ab[]:%.()*+é\n\0\ud800", max_size=6))
ITEMS = st.one_of(INTS, FLOATS, STRINGS, st.tuples(STRINGS, FLOATS))
TUPLES = st.one_of(
  st.lists(st.integers(1, 8), max_size=4).map(tuple),
  st.lists(FLOATS, max_size=3).map(tuple),
  st.lists(ITEMS, max_size=3),
)
ALIENS = st.sampled_from(
  [None, True, {}, {"a": 1}, np.float32(1), np.int64(1), np.ones(2), np.float64(0.5), 1j, "1", b"1", (), {1: 2}, set()]
)
BLOCKS = st.sampled_from(
  [block_config((2,)), block_config((3, 2), pool="avg"), width_config(1, 1, 1, 1, 1, 1), width_config(0, 0, 0, 0, 0, 0)]
).map(lambda block: block.to_dict())
BLOCK_NAMES = st.sampled_from(
  ["block1", "block2", "block3", "block9", "block", "inception_1a", "inception_1b", "inception_3a", "inception_10a"]
)
NAMES = st.one_of(
  BLOCK_NAMES, st.sampled_from(["seed", "data", "name", "norm", "model", "learning_rat", "é", "x y", ""])
)


def fields(section, prefix=()):
  """The paths of a config's fields and sections."""
  for name, value in section.items():
    yield (*prefix, name)
    if isinstance(value, dict):
      yield from fields(value, (*prefix, name))


def of_type(value):
  """Values of the type of another."""
  if isinstance(value, bool):
    return st.booleans()
  kinds = {int: INTS, float: FLOATS, str: STRINGS, tuple: TUPLES}
  return kinds.get(type(value), ALIENS)


def near(name, value):
  """Values that are likely to be right."""
  if isinstance(value, bool):
    return st.booleans()
  if isinstance(value, int):
    return st.one_of(st.integers(0, 9), st.integers(1, 3).map(lambda factor: factor * value))
  if isinstance(value, float):
    return st.one_of(st.floats(1e-3, 0.99), st.sampled_from([0.0, 1.0, 2.0, 1e-5, 1e3]))
  if isinstance(value, str):
    return st.sampled_from(CHOICES.get(name, f"{value} {value} digits").split())
  if name == "boundaries":
    return st.lists(st.floats(0, 9), max_size=3).map(lambda numbers: tuple(sorted(numbers)))
  if name == "learning_rate_factors":
    return st.lists(st.tuples(st.sampled_from([".*kernel", ".*", "classifier/.*"]), st.floats(0, 2)), max_size=2)
  if name == "linear":
    return st.lists(st.sampled_from(["conv1x1", "reduce3x3", "reduce5x5", "pool_proj"]), max_size=3)
  return st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple) if "features" in name else st.just(value)


@st.composite
def changes(draw, base):
  """[(path, new value)]; `DELETED` deletes."""
  paths = list(fields(base))
  made = []
  kinds = draw(st.sampled_from([["near"], ["near"] * 4 + ["like", "block"], ["like"] * 5 + RARE, RARE]))
  for _ in range(draw(st.integers(1, 4))):
    kind = draw(st.sampled_from(kinds))
    path = draw(st.sampled_from(paths))
    value = functools.reduce(lambda section, name: section[name], path, base)
    if kind in ("near", "like", "alien", "any"):
      strategies = {
        "near": near(path[-1], value),
        "like": of_type(value),
        "alien": ALIENS,
        "any": st.one_of(INTS, FLOATS, STRINGS, TUPLES),
      }
      made.append((path, draw(strategies[kind])))
    elif kind == "delete":
      made.append((path, DELETED))
    elif kind == "add":
      made.append(((*path[:-1], draw(NAMES)), draw(st.one_of(INTS, FLOATS, STRINGS, ALIENS))))
    elif kind == "block":
      made.append((("model", draw(BLOCK_NAMES)), draw(BLOCKS)))
    else:
      other = draw(st.sampled_from(paths))
      made.append((path, copy.deepcopy(functools.reduce(lambda section, name: section[name], other, base))))
  return made


def apply(base, made):
  """The config with the changes made, as far as a change before has not taken their section away."""
  values = copy.deepcopy(base)
  for (*sections, last), value in made:
    section = values
    for name in sections:
      section = section.get(name) if isinstance(section, dict) else None
    if isinstance(section, dict):
      if isinstance(value, str) and value == DELETED:
        section.pop(last, None)
      else:
        section[last] = copy.deepcopy(value)
  return values


CHANGES = st.sampled_from(sorted(BASES)).flatmap(
  lambda name: st.tuples(st.just(name), changes(BASES[name]().to_dict()))
)


def examples(in_ci):
  asked = os.environ.get("FUZZ_EXAMPLES")
  return settings(
    max_examples=int(asked) if asked else in_ci,
    derandomize=not asked,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
  )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """A directory to work in: data.cache_dir may be any word."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


def config_of(name, made):
  note(f"{name}: {made}")
  try:
    return ConfigDict(apply(BASES[name]().to_dict(), made))
  except (ValueError, TypeError, OverflowError):  # ml_collections itself refuses it
    return None


@given(CHANGES)
@examples(150)
def test_a_changed_config_is_refused_or_can_be_traced(change):
  config = config_of(*change)
  if config is None:
    return
  try:
    setup = set_up(config)
  except ConfigError as error:
    lines = str(error).splitlines()
    if not len(lines) == len(error.mistakes) > 0 or max(map(len, lines)) > 3000:
      pytest.fail(f"not a short line each: {error}")
    return
  event("traced")
  assert 1 <= setup.total_steps < 2**31
  network = models.build(config.model, setup.image_shape, config.precision)
  assert budget.training_cost(network, config.train, setup.image_shape).total["train_flops"] >= 0
  params = models.variable_shapes(network, setup.image_shape)["params"]
  state = jax.eval_shape(setup.update.init, params)
  jax.eval_shape(setup.update.update, params, state, params)
  for step in (0, 1, setup.total_steps):
    assert setup.rate(step) >= 0


@pytest.mark.slow
@given(CHANGES)
@examples(10)
def test_a_changed_config_is_refused_or_trains_a_step(change):
  config = config_of(*change)
  if config is None:
    return
  steps = config.train.get("steps") if isinstance(config.get("train"), ConfigDict) else None
  if type(steps) is int and 0 <= steps < 2**31:
    config.train.steps = 1
  with tempfile.TemporaryDirectory() as directory:
    try:
      result = train.train_and_evaluate(config, directory)
    except ConfigError:
      assert os.listdir(directory) == []
    except train.TrainingStopped as stopped:
      if "step 1 " not in str(stopped) and "steps 1 " not in str(stopped):
        raise
    else:
      event("trained")
      assert result["steps"] == 1
