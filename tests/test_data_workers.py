"""Worker processes: they start anywhere, outlast signals meant for their parent, and end with it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nin_jax.data import reading, workers
from nin_jax.errors import ConfigError

ROOT = Path(__file__).parent.parent

SCRIPT = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from nin_jax import config, data
from nin_jax.data import reading

def main():
  section = config.default().data
  section.update({"pipeline": "stream", "batch_size": 64, "workers": 2, "cache_dir": sys.argv[2]})
  pipeline = data.open(section, 0)
  got = []
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: got.append(number))
  handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
  batches = pipeline.train_batches(0)
  STEPS
  assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

if __name__ == "__main__":
  main()
"""

FIRST = """next(batches)
  children = [child.pid for child in multiprocessing.active_children()]
  print("children", *children, flush=True)
  """

FLAGS = """
from absl import app, flags
flags.DEFINE_string("cache", None, "", required=True)
"""


def run(tmp_path, steps, script=SCRIPT):
  """Runs the script in a process group of its own; gives its status and what it wrote."""
  path = tmp_path / "script.py"
  path.write_text(script.replace("STEPS", steps))
  command = [sys.executable, str(path), "unused", str(tmp_path.parent / "cache")]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  with subprocess.Popen(
    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
  ) as process:
    out, err = process.communicate(timeout=120)
  return process.returncode, out, err


def children(out):
  return [int(pid) for pid in re.search("children (.*)", out)[1].split()]


def wait_until_gone(pids):
  """Fails where a process is still there after ten seconds; one that has ended and waits for its parent is gone."""
  deadline = time.time() + 10
  for pid in pids:
    while (status := Path(f"/proc/{pid}/stat")).exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
      assert time.time() < deadline, f"{pid} lives on"
      time.sleep(0.05)


def test_signals_to_the_group_are_left_to_the_parent(tmp_path):
  """From the first moment of the workers' lives, in which Python would end them with a traceback."""
  steps = """
  def fire():
    for _ in range(15):
      time.sleep(0.1)
      for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.killpg(0, number)
  firing = threading.Thread(target=fire)
  firing.start()
  for _ in range(100):
    next(batches)
  firing.join()
  for _ in range(40):
    next(batches)
  batches.close()
  print("signals", len(got), multiprocessing.active_children())"""
  returncode, out, err = run(tmp_path, steps.strip())
  assert returncode == 0, err
  assert re.search(r"signals [1-9]\d* \[\]", out)
  of_grain = "Grain multiprocess worker profiling requires"  # what it says of jaxlib before 0.11
  assert not [line for line in err.splitlines() if of_grain not in line]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "return", "raise ValueError"])
def test_however_the_parent_ends_its_workers_end_too(tmp_path, end):
  returncode, out, err = run(tmp_path, FIRST + end)
  assert returncode == {"os.k": -signal.SIGKILL, "os._": 3, "retu": 0, "rais": 1}[end[:4]], err
  assert len(children(out)) >= 2
  wait_until_gone(children(out))
  assert err.count("Traceback") == (end == "raise ValueError")


@pytest.mark.parametrize(
  ("number", "why"), [("SIGKILL", "killed, for want of memory?"), ("SIGSEGV", "signal SIGSEGV, a crash in native code")]
)
def test_a_killed_worker_is_an_error_that_says_so(tmp_path, number, why):
  steps = f"""os.kill(children[0], signal.{number})
  try:
    while True:
      next(batches)
  except RuntimeError as error:
    print(error)
  batches.close()
  print("left", multiprocessing.active_children())"""
  returncode, out, err = run(tmp_path, FIRST + steps)
  assert returncode == 0, err
  ended = rf"data worker \d of 2 ended before its time \({re.escape(why)}\): .*exit code -{getattr(signal, number):d}"
  assert re.search(ended, out)
  assert "left []" in out


@pytest.mark.parametrize("parsed", [True, False])
def test_workers_start_whether_flags_were_parsed_or_not(tmp_path, parsed):
  script = FLAGS + SCRIPT
  if parsed:
    script = script.replace("  main()\n", '  app.run(lambda _: main(), [sys.argv[0], "--cache=x"])\n')
  returncode, out, err = run(tmp_path, FIRST + "batches.close()", script)
  assert returncode == 0, err
  assert "children" in out


def test_workers_have_no_devices_and_a_share_each():
  """What a worker would do with a device, it does on the CPU; each reads only chunks of its own."""
  import grain

  class Source:
    def __len__(self):
      return 10**6

    def __getitem__(self, index):
      import jax

      return {"index": index, "process": os.getpid(), "devices": str(jax.config.jax_platforms)}

  source = grain.MapDataset.source(Source())
  parts = [source.slice(slice(part, None, 3)).to_iter_dataset(grain.ReadOptions(0, 0)) for part in range(3)]
  with workers.processes(parts, 1) as elements:
    taken = [next(elements) for _ in range(30)]
  assert [element["index"] for element in taken] == list(range(30))
  assert {element["devices"] for element in taken} == {"cpu"}
  processes = np.array([element["process"] for element in taken]).reshape(10, 3)
  assert (processes == processes[0]).all()
  assert len({*processes[0], os.getpid()}) == 4


def test_too_little_shared_memory_is_told_before_it_kills(monkeypatch):
  class Stat:
    f_bavail, f_frsize = 64, 2**20

  monkeypatch.setattr(os.path, "isdir", lambda path: True)
  monkeypatch.setattr(os, "statvfs", lambda path: Stat, raising=False)
  workers.check_shared_memory(4, 16 * 2**20)
  with pytest.raises(ConfigError, match=r"data.workers=5: accepted is 4 or fewer \(0: threads\).*16 MiB of /dev/shm"):
    workers.check_shared_memory(5, 16 * 2**20)


def test_no_more_is_held_than_about_two_batches(monkeypatch):
  """Threads read ahead, but not without bound."""
  asked = []

  class Counted(reading.EvalChunks):
    def __getitem__(self, number):
      asked.append(number)
      return super().__getitem__(number)

  monkeypatch.setattr(reading, "_threads", lambda: 2)
  chunks = Counted([], (2, 2, 1), "crop", False, 0, 40, 40, 10, 10**6)
  monkeypatch.setattr(Counted, "_index", lambda self, batch, position: None)
  batches = reading.batches(chunks, 0, 0)
  for _ in range(3):
    next(batches)
  time.sleep(0.3)
  batches.close()
  assert max(asked) < 3 * 4 + 2 * 4
