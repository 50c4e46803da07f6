"""Training that starts from the network of another run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from nin_jax import paths
from nin_jax.errors import ConfigError
from nin_jax.train import averaging, processes, workdir
from nin_jax.train.checkpoint import Checkpoints
from nin_jax.train.update import TrainState

FIELD = "train.init_from"


def mistakes(directory: str) -> Iterator[ConfigError]:
  """Yields what is wrong with `train.init_from` at first sight; quick, to be done before anything is read."""
  if not directory:
    return
  try:
    if not (paths.directory(FIELD, directory) / "config.json").is_file():
      yield ConfigError(FIELD, directory, 'the workdir of a run, or ""')
  except ConfigError as error:
    yield error


def start(state: TrainState, config: ConfigDict) -> tuple[TrainState, list[str]]:
  """The first state of a run with the network of the run in `train.init_from`.

  Taken are the parameters that the other run evaluates (its average, where it has one) and its running batch
  statistics, of its newest checkpoint. Where the number of classes is another one, what has the classes as its last
  dimension (the classifiers) stays as it was initialised.

  Args:
    state: as initialised.
    config: the config of the new run.

  Returns:
    The state, in arrays of NumPy, and the paths of the parameters that stayed as they were.

  Raises:
    ConfigError: the directory has no checkpoint, or its network is not this one.
  """
  taken: list = []

  def take() -> list[str]:
    state_now, kept = _taken(state, config)
    taken.append(state_now)
    return kept

  fresh = processes.on_first(take)
  return processes.arrays_of_first(taken[0] if taken else None, state), fresh


def _taken(state: TrainState, config: ConfigDict) -> tuple[TrainState, list[str]]:
  try:
    directory = workdir.locate(config.train.init_from)
    other_classes = _classes(directory)
    with Checkpoints(directory, 1, read_only=True) as checkpoints:
      there = checkpoints.variables()
  except ConfigError as error:
    raise ConfigError(FIELD, config.train.init_from, error.accepted) from error
  params = there["params"] if there.get("average") is None else there["average"]
  classes = (config.model.num_classes, other_classes)
  new_params, fresh = _merge(config.train.init_from, state.params, params, classes)
  batch_stats, _ = _merge(config.train.init_from, state.batch_stats, there.get("batch_stats") or {}, classes)
  host = jax.tree.map(np.array, state)
  average = averaging.init(config.train, new_params)
  return host.replace(params=new_params, batch_stats=batch_stats, average=jax.tree.map(np.array, average)), fresh


def _classes(directory: Path) -> int:
  """How many classes the network of the run in a directory has."""
  model = workdir.read_config(directory).get("model")
  classes = model.get("num_classes") if isinstance(model, ConfigDict) else None
  if not isinstance(classes, int):
    raise ConfigError("--workdir", str(directory), "the directory of a run, whose config.json is whole")
  return classes


def _merge(directory: str, mine: Any, theirs: Any, classes: tuple[int, int]) -> tuple[Any, list[str]]:
  """My tree with their arrays; the paths of those left as they are, for they are one a class."""
  mine, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (mine, theirs))
  merged, fresh = {}, []
  for path in sorted(mine.keys() | theirs.keys()):
    here, there = (tuple(tree[path].shape) if path in tree else None for tree in (mine, theirs))
    if here == there:
      merged[path] = np.asarray(theirs[path])
    elif None not in (here, there) and (here[:-1], here[-1:], there[-1:]) == (there[:-1], *((n,) for n in classes)):
      merged[path] = np.asarray(mine[path])
      fresh.append(path)
    else:
      shapes = f"{path} is {there or 'missing'} there and {here or 'missing'} here"
      raise ConfigError(FIELD, directory, f"the run of a network with the same layers; {shapes}")
  return traverse_util.unflatten_dict(merged, sep="/"), fresh
