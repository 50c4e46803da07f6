"""Optuna's study of a search: where it is kept, and how it samples and prunes.

Nothing that is read is unpickled: a journal is lines of JSON, and a database holds numbers and JSON.
"""

import fcntl
import os
import re
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from nin_jax.errors import ConfigError, line
from nin_jax.printable import without_passwords

DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")
FEWEST_FINISHED = 5  # points, before any is ended early
WARM_UP = 33  # percent of a training in which it is not ended early: high learning rates are behind at first


class Lock:
  """The system's own lock on the journal, which it lets go of when the process ends, however it ends.

  Optuna's locks are files: that of a process that was killed is waited for half a minute.
  """

  def __init__(self, path: str):
    self._path = path

  def acquire(self) -> bool:
    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(self._file, fcntl.LOCK_EX)
    return True

  def release(self) -> None:
    os.close(self._file)


def open_study(storage: str, name: str, exists: bool) -> optuna.Study:
  """Opens a study, or makes it.

  Args:
    storage: a journal's file, or the URL of a database.
    name: of the study.
    exists: whether it must be there.

  Raises:
    ConfigError: the storage can't be opened, or the study should be in it and is not.
  """
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  shown = without_passwords(storage)
  try:
    opened = _database(storage) if "://" in storage else _journal(Path(storage).expanduser())
    if not exists or name in optuna.get_all_study_names(opened):
      return optuna.create_study(
        storage=opened, study_name=name, direction="maximize", pruner=_pruner(), load_if_exists=True
      )
  except ConfigError:
    raise
  except Exception as error:  # SQLAlchemy's, the database's own, a journal's that is none: their texts may have the URL
    said = line(without_passwords(str(error).replace(storage, shown)), 150)
    accepted = f"a journal's file, or the URL of a database, that can be opened ({type(error).__name__}: {said})"
    raise ConfigError("--storage", shown, accepted) from None
  raise ConfigError("--storage", shown, "the storage that this search was begun with: its study is not in this one")


def sampler(seed: int, number: int, random: bool) -> optuna.samplers.BaseSampler:
  """The sampler of one point, which depends on nothing but the seed, the point's number, and what the study knows.

  So a search with one worker is reproducible, also where it was stopped and went on.

  Args:
    seed: of the search.
    number: of the point, from 0.
    random: draw it uniformly; else by the tree-structured Parzen estimator over all fields together (Falkner et al.
      2018, section 3.2; Watanabe 2023), for which what is running counts as bad, so that workers spread.
  """
  word = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
  if random:
    return optuna.samplers.RandomSampler(seed=word)
  return optuna.samplers.TPESampler(seed=word, n_startup_trials=1, multivariate=True, constant_liar=True)


def _pruner() -> optuna.pruners.BasePruner:
  """Ends what is at its best below the median of the finished points at the same part of their training.

  Not Hyperband, which divides a search into brackets that learn nothing from each other: tens of points are too few.
  """
  return optuna.pruners.MedianPruner(n_startup_trials=FEWEST_FINISHED, n_warmup_steps=WARM_UP)


def _journal(path: Path) -> BaseStorage:
  if path.exists() and not path.is_file():  # a pipe would be waited for, and a device read without end
    raise ConfigError(
      "--storage", str(path), "a journal's file that can be opened (this is none), or the URL of a database"
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  lock = Lock(str(path))
  lock.acquire()
  try:
    _cut_torn_line(path)
  finally:
    lock.release()
  return JournalStorage(JournalFileBackend(str(path), lock))


def _cut_torn_line(path: Path) -> None:
  """Takes off what a full disk or a power cut has left of a last line, to which the next one would be joined."""
  content = path.read_bytes()
  whole = content.rfind(b"\n") + 1
  if whole < len(content):
    if not content.startswith(b"{"):
      raise ValueError("no journal of Optuna's")
    os.truncate(path, whole)


def _database(url: str) -> BaseStorage:
  """Without Optuna's heartbeat: it tells one process that another's trials are lost, and here one process has them all;
  it is the workdir that says which were not finished, and they are trained on."""
  if re.split(r"[+:]", url)[0] not in DATABASES:
    raise ConfigError("--storage", without_passwords(url), f"a file, or a URL of {', '.join(DATABASES)}")
  return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})  # a training may outlast a connection
