"""One training over several processes: joining, telling, and noticing that another one has gone.

All processes run the same program. Only the first one (process 0) touches the workdir; the others are told.
"""

import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nin_jax.errors import ConfigError

HEARTBEAT_SECONDS = 60  # until a process that is silent, or whose end its transport did not tell, is missed

_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[\da-fA-F:.]+\]):(?P<port>\d{1,5})", re.ASCII)

# How the transports and JAX's coordination service say that the other side is no longer there.
_LOST = re.compile(r"gloo|nccl|connection|socket|peer|coordination|heartbeat|barrier|unavailable", re.IGNORECASE)


class PeerLost(RuntimeError):
  """Another process of the run has ended, so that this one can't go on."""


def join(address: str | None = None, count: int | None = None, index: int | None = None, auto: bool = False) -> None:
  """Joins the other processes of the run, where there are others; to be called before anything else of JAX.

  The three numbers may be left to the cluster's environment: Slurm (an `srun` of more than one task), a TPU pod,
  Open MPI and Kubernetes are known to JAX.

  Args:
    address: HOST:PORT of the first process, which listens there; None: the cluster's, if there is one.
    count: of the processes.
    index: of this process, from 0.
    auto: True joins by the cluster's environment also where nothing here tells that there are others.

  Raises:
    ConfigError: an address that is none, an index out of range, a part missing, or the others did not come.
  """
  if address is None and (count is not None or index is not None):
    raise ConfigError("--coordinator_address", None, "HOST:PORT of process 0, with --num_processes and --process_id")
  if address is None and not auto and not _several():
    return
  match = _ADDRESS.fullmatch(address or "")
  if address is not None and not (match and 0 < int(match["port"]) < 2**16):
    raise ConfigError(
      "--coordinator_address", address, "HOST:PORT with a port from 1 to 65535, [ADDRESS]:PORT for IPv6"
    )
  if count is not None and count < 1:
    raise ConfigError("--num_processes", count, "1 or more")
  if index is not None and not 0 <= index < (count or index + 1):
    raise ConfigError("--process_id", index, f"0 to {count - 1}" if count else "0 or more, with --num_processes")
  try:
    jax.distributed.initialize(
      address,
      count,
      index,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      coordinator_bind_address=address if match and _is_here(match["host"].strip("[]").lower()) else None,
    )
  except (ValueError, RuntimeError) as error:
    reason = str(error).splitlines()[0]
    accepted = f"--coordinator_address, --num_processes and --process_id of processes that all start ({reason})"
    raise ConfigError("--coordinator_address", address, accepted) from error
  _connect()


def _is_here(host: str) -> bool:
  """Whether listening on the address of this host only is enough for the other processes to connect to it.

  It is not if something in between translates the address, nor if the host is a name for loopback here, which may be an
  address of this machine on others. JAX then listens on all interfaces, unless JAX_COORDINATOR_BIND_ADDRESS is set.
  """
  if os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
    return False
  try:
    found = {place[0]: family for family, *_, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
  except (OSError, UnicodeError):
    return False
  if not any(_is_own(family, place) for place, family in found.items()):
    return False
  return host == "localhost" or host in found or not any(ipaddress.ip_address(place).is_loopback for place in found)


def _is_own(family: int, place: str) -> bool:
  """Whether this machine has an address."""
  try:
    with socket.socket(family, socket.SOCK_STREAM) as tried:
      tried.bind((place, 0))
  except OSError:
    return False
  return True


def _connect() -> None:
  """Opens the devices' connections while all processes are here: later, the slower ones would be waited for 30 s."""
  devices = np.asarray(jax.devices())
  sharding = NamedSharding(Mesh(devices, ("devices",)), PartitionSpec("devices"))
  ones = jax.make_array_from_callback(devices.shape, sharding, lambda index: np.ones(devices.shape, np.float32)[index])
  total = jax.jit(jnp.sum, out_shardings=NamedSharding(sharding.mesh, PartitionSpec()))(ones)  # over all devices
  if total.item() != len(devices):
    raise RuntimeError(f"{len(devices)} devices add up to {total.item()}")
  from_all(on_first(lambda: None))  # over one device of each process


def _several() -> bool:
  """Whether the environment says that this process is one of several."""
  tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")  # of an srun; an sbatch script of its own is one process
  return (tasks.isdigit() and int(tasks) > 1) or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def first() -> bool:
  """Whether this is the process that writes."""
  return jax.process_index() == 0


def on_first(make: Callable[[], Any]) -> Any:
  """What `make` returns on the first process, a JSON value, in all; or the ConfigError that it raises there, in all."""
  if jax.process_count() == 1:
    return make()
  outcome, caught = {}, None
  if first():
    try:
      outcome = {"value": make()}
    except ConfigError as error:
      caught, outcome = error, {"error": [error.field, str(error.value), error.accepted]}
  outcome = json.loads(_broadcast(json.dumps(outcome).encode()))
  if caught:
    raise caught
  if "error" in outcome:
    raise ConfigError(*outcome["error"])
  return outcome["value"]


def arrays_of_first(tree: Any, like: Any) -> Any:
  """The first process's arrays, bit for bit, in all.

  Args:
    tree: of NumPy arrays, shaped as `like`; read on the first process only.
    like: a tree of arrays or of their shapes.
  """
  if jax.process_count() == 1:
    return tree
  leaves, structure = jax.tree.flatten(like)
  sizes = [int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves]
  given = jax.tree.leaves(tree) if first() else []
  data = _broadcast(b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in given), sum(sizes))
  ends = np.cumsum(sizes)
  parts = (data[end - size : end] for end, size in zip(ends, sizes, strict=True))
  arrays = [np.frombuffer(part, leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
  return jax.tree.unflatten(structure, arrays)


def from_all(value: Any) -> list[Any]:
  """Each process's JSON value, in order, in all."""
  if jax.process_count() == 1:
    return [value]
  data = json.dumps(value).encode()
  length = int(multihost_utils.process_allgather(np.int32(len(data))).max())
  padded = np.frombuffer(data.ljust(length), np.uint8)  # JSON takes blanks at its end
  return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


def _broadcast(data: bytes, length: int | None = None) -> bytes:
  """The first process's bytes. As bytes: a sum over processes would turn −0.0 into 0.0."""
  if length is None:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  buffer = np.frombuffer(data, np.uint8) if first() else np.zeros(length, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()


@contextlib.contextmanager
def watched() -> Iterator[None]:
  """Within it, what JAX raises because another process has gone is a PeerLost."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).splitlines()[0]
    if jax.process_count() > 1 and _LOST.search(reason):
      lost = "another process of this run has ended or does not answer, and this one can't go on without it"
      raise PeerLost(f"{lost} ({reason})") from error
    raise
