"""Local runs listen on loopback only; malformed addresses and flag files are refused."""

import importlib.util
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import ROOT
from test_commands import run

from nin_jax.errors import ConfigError
from nin_jax.train import processes

LISTEN = "0A"  # a socket's state in /proc/net/tcp
linux = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="listeners are in Linux's /proc")


def family(process):
  """A process and all that it has started, and these, by their ids."""
  parents = {}
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
      continue
  found = {process}
  while more := {child for child, parent in parents.items() if parent in found} - found:
    found |= more
  return found


def listening(ids):
  """The addresses at which processes listen for TCP."""
  sockets = set()
  for number in (number for one in ids for number in Path(f"/proc/{one}/fd").glob("*")):
    try:
      sockets.add(os.readlink(number))
    except OSError:
      continue
  found = []
  for table in ("tcp", "tcp6"):
    for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
      _, local, _, state, *_, inode = row.split()[:10]
      if state == LISTEN and f"socket:[{inode}]" in sockets:
        words = re.findall(".{8}", local.split(":")[0])  # each in the machine's byte order
        address = ipaddress.ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))
        found.append(getattr(address, "ipv4_mapped", None) or address)
  return found


@linux
def test_listeners_are_seen():
  with socket.socket() as everywhere, socket.socket() as here:
    everywhere.bind(("", 0))
    here.bind(("127.0.0.1", 0))
    everywhere.listen()
    here.listen()
    found = listening({os.getpid()})
  assert {"0.0.0.0", "127.0.0.1"} <= set(map(str, found))


JOIN = """
import sys
from nin_jax.train import processes
processes._connect = lambda: None  # what it listens on, gloo does: at the address of the machine's name
processes.join(sys.argv[1], 1, 0)
print("up", flush=True)
sys.stdin.read()
"""
RAY = """
import sys
from nin_jax.sweep import ray_cluster
ray = ray_cluster.imported(local=True)
with ray_cluster.connected(ray, None):
  ray.get(ray.remote(lambda: None).remote())
  print("up", flush=True)
  sys.stdin.read()
"""


def listeners_of(program, *arguments):
  """The addresses at which a program, and what it starts, listens once it says that it is up."""
  started = subprocess.Popen(
    [sys.executable, "-c", program, *arguments],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  with started:
    assert started.stdout.readline() == "up\n"
    found = listening(family(started.pid))
    started.stdin.close()
  return found


def free_port():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


@linux
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_first_process_listens_where_it_is_looked_for(host):
  found = listeners_of(JOIN, f"{host}:{free_port()}")
  assert found
  assert all(address.is_loopback for address in found), found


@linux
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="requirements-ray.txt is not installed")
def test_a_ray_cluster_of_this_machine_listens_for_this_machine():
  found = listeners_of(RAY)
  assert len(found) > 3
  assert all(address.is_loopback for address in found), found


@linux
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="requirements-ray.txt is not installed")
def test_ray_s_directory_is_its_user_s_and_those_of_killed_processes_go():
  from nin_jax.sweep import ray_cluster

  with ray_cluster._directory() as directory:
    assert directory.stat().st_mode & 0o777 == 0o700
    # The longest name of a socket that Ray makes below it: the system takes 107 bytes.
    session = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len(f"{directory}/r/{session}") <= 107
    old = time.time() - 2 * ray_cluster._ABANDONED_SECONDS
    os.utime(directory, (old, old))
    with ray_cluster._directory():
      assert directory.is_dir()  # in use
    left = Path(f"{directory}left")
    left.mkdir()
    os.utime(left, (old, old))
    with ray_cluster._directory():
      assert not left.exists()
  assert not directory.exists()


@pytest.mark.parametrize(
  "address", ["localhost:0", "localhost:65536", "::1:9876", "http://x:1", ":9876", "a b:12", "x:"]
)
def test_what_is_no_address_is_refused(address, monkeypatch):
  monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
  with pytest.raises(ConfigError, match=r"--coordinator_address=.*: accepted is HOST:PORT"):
    processes.join(address, 2, 0)


@pytest.mark.parametrize(
  ("address", "found", "bound"),
  [
    ("localhost:1234", "127.0.0.1", True),
    ("[::1]:1234", "::1", True),
    ("127.0.0.1:1234", "127.0.0.1", True),
    ("this-machine:1234", "127.0.1.1", False),  # Debian's /etc/hosts: others find another address
    ("service:1234", "192.0.2.77", False),  # of something that passes it on
  ],
)
def test_the_address_is_listened_on_if_it_is_this_machine_s(address, found, bound, monkeypatch):
  given = {}
  family = socket.AF_INET6 if ":" in found else socket.AF_INET
  monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
  monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (found, 0))])
  monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **more: given.update(more))
  monkeypatch.setattr(processes, "_connect", lambda: None)
  monkeypatch.setattr(processes, "_is_own", lambda _, place: place != "192.0.2.77")
  processes.join(address, 2, 0)
  assert given["coordinator_bind_address"] == (address if bound else None)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"--flagfile=/not/there\n"])
def test_a_flag_file_that_cannot_be_read_is_refused(content, tmp_path):
  path = tmp_path / "flags"
  if content:
    path.write_bytes(content)
  for command in ("train", "report"):
    done = run(command, f"--flagfile={path}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --flagfile={path}: accepted is a text file of flags that can be read")
    assert done.stderr.count("\n") == 1


def test_a_pipe_as_a_flag_file_is_refused(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  done = run("report", f"--flagfile={tmp_path / 'pipe'}")
  assert done.returncode == 2
  assert done.stderr.endswith("accepted is a text file of flags that can be read; this is a pipe or a device\n")
