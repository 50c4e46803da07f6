"""The Ray cluster of a sweep: getting there, and what of it a group of trials takes."""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from nin_jax.errors import ConfigError, line
from nin_jax.sweep import pool

CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 100_000_000  # of a cluster of this sweep's own: what is sent is small
QUIET = {  # Ray's own talk would run into the display
  "RAY_USAGE_STATS_ENABLED": "0",
  "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# With it a node's address is 127.0.0.1, where all of its ports listen: Ray's default on Windows and macOS. Given
# 127.0.0.1 as an address instead, Ray takes another one of the machine, and listens on all interfaces.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_PREFIX = "nin_jax-ray-"
_ABANDONED_SECONDS = 120.0  # a younger directory may be one that another process is about to lock


def imported(local: bool = False) -> ModuleType:
  """Ray, made quiet.

  Args:
    local: whether a cluster of this machine only is to be started: it listens on loopback, unless this process had
      imported Ray before.

  Raises:
    ConfigError: it is not installed.
  """
  for name, value in (QUIET | LOOPBACK if local else QUIET).items():
    os.environ.setdefault(name, value)
  try:
    import ray
    import ray.util.scheduling_strategies  # noqa: F401  which makes it an attribute of ray.util
  except ImportError as error:
    raise ConfigError("--engine", "ray", "local; or ray, after `pip install -r requirements-ray.txt`") from error
  return ray


@contextlib.contextmanager
def connected(ray: ModuleType, address: str | None) -> Iterator[None]:
  """Within the block, this process is part of a cluster, and the tasks that it starts find this package.

  Args:
    ray: of `imported`.
    address: HOST:PORT, "auto", or None: a cluster of this machine alone, which ends with the block.

  Raises:
    ConfigError: there is no such cluster.
  """
  before = signal.getsignal(signal.SIGTERM)
  code = str(Path(__file__).parents[1])  # the package, which the nodes need not have
  options = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": {"py_modules": [code]}}
  with contextlib.ExitStack() as stack:
    if address:
      options["address"] = _reached(address)
    else:
      inside = stack.enter_context(_directory()) / "r"  # Ray opens its directory to all users
      options |= {"address": "local", "_temp_dir": str(inside), "include_dashboard": False}
      options |= {"num_cpus": pool.cores(), "num_gpus": len(pool.visible_gpus())}
      options["object_store_memory"] = OBJECT_STORE_BYTES
    stack.callback(ray.shutdown)
    try:
      with warnings.catch_warnings():  # Ray forks once JAX has threads, but only to start programs of its own
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        with _hangup_blocked():
          ray.init(**options)
    except Exception as error:
      if not address:
        raise
      raise _no_cluster(address, str(error)) from error
    stack.enter_context(_silent(ray._private.worker))
    if before is not None:
      signal.signal(signal.SIGTERM, before)  # Ray's own handler prints a page
    yield


@contextlib.contextmanager
def _hangup_blocked() -> Iterator[None]:
  """Blocks SIGHUP, also in programs started within it: a closed terminal must not end trainings before they save."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
  """A temporary directory that no other user may enter; removes those of processes that were killed."""
  root = "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()  # names of sockets have at most 107 bytes
  with os.scandir(root) as entries:
    left = [entry.path for entry in entries if entry.name.startswith(_PREFIX)]
  for path in left:
    with contextlib.suppress(OSError), _locked(path) as status:  # not another user's, in use, or just removed
      if status.st_uid == os.getuid() and time.time() - status.st_mtime > _ABANDONED_SECONDS:
        shutil.rmtree(path, ignore_errors=True)
  path = tempfile.mkdtemp(prefix=_PREFIX, dir=root)
  try:
    with _locked(path):
      yield Path(path)
  finally:
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[os.stat_result]:
  """Locks a directory, and gives its status; raises OSError if another process has locked it."""
  opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
  try:
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield os.fstat(opened)
  finally:
    os.close(opened)


@contextlib.contextmanager
def _silent(worker: ModuleType) -> Iterator[None]:
  """Keeps what Ray tells of a lost node, pages of it, out of standard output: `log_to_driver` leaves that in."""
  name = "print_to_stdstream"
  told = getattr(worker, name, None)
  setattr(worker, name, lambda *_, **__: None)
  try:
    yield
  finally:
    if told:
      setattr(worker, name, told)


def _no_cluster(address: str, reason: str) -> ConfigError:
  accepted = f"HOST:PORT of a running Ray cluster that this machine belongs to, or auto ({line(reason, 300)})"
  return ConfigError("--ray_address", address, accepted)


def _reached(address: str) -> str:
  """The address of a cluster, which answers: Ray itself would try for minutes."""
  address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
  if address == "auto":
    return address
  host, _, port = address.rpartition(":")
  reason = "it is not of this form"
  if host and "/" not in host and port.isdecimal() and int(port) < 2**16:
    try:
      socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
      return address
    except OSError as error:
      reason = error.strerror or str(error)
  raise _no_cluster(address, reason)


def nodes(ray: ModuleType) -> list[dict[str, float]]:
  """The resources of each node that is up."""
  return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def needs(nodes: Sequence[dict[str, float]], workers: int, most: int) -> dict[str, int]:
  """What a group takes of a node with these resources: {"CPU": cores, "GPU": 1 where there are any}."""
  if pool.gpus_wanted() and any(node.get("GPU", 0) >= 1 for node in nodes):
    return {"CPU": 1, "GPU": 1}
  cpus = [int(node.get("CPU", 0)) for node in nodes]
  at_once = min(workers or sum(cpus), most)
  each = max(cpus, default=1)
  while each > 1 and sum(count // each for count in cpus) < at_once:
    each -= 1
  return {"CPU": max(1, each)}


def room(ray: ModuleType, needs: dict[str, int]) -> int:
  """How many groups the nodes that are up have room for."""
  return sum(min(int(node.get(name, 0) // amount) for name, amount in needs.items()) for node in nodes(ray))


def environment(needs: dict[str, int]) -> dict[str, str]:
  """Of the processes that train."""
  chosen: dict[str, str] = {}
  if "JAX_PLATFORMS" in os.environ:
    chosen["JAX_PLATFORMS"] = os.environ["JAX_PLATFORMS"]
  if "GPU" not in needs:
    chosen["NPROC"] = str(needs["CPU"])  # XLA's threads
  return chosen
