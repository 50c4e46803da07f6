"""The files that commands read in `campaign.py`, a run of one in a fork under a limit, and the faults of its end."""

import dataclasses
import hashlib
import importlib
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import command_words
import drawn_commands
import drawn_runs
import forks

SECONDS = 40.0  # after which a command is asked to stop; one that has said nothing until then waits in silence
STOP_SECONDS = 30.0
MEMORY = 16 * 2**30
MODULES = "nin_jax.train nin_jax.sweep.training nin_jax.sweep.search nin_jax.report nin_jax.data.stream nin_jax.cost"
LIBRARIES = "tensorflow_datasets matplotlib.pyplot plotly optuna"


@dataclasses.dataclass(frozen=True)
class End:
  """How a command ended.

  Attributes:
    status: of its exit, or minus the signal that it died of; None: it was killed, for nothing else ended it.
    asked: whether it was asked to stop.
    stdout, stderr: what it wrote.
    changed: files of earlier runs that it changed.
  """

  status: int | None
  asked: bool
  stdout: str
  stderr: str
  changed: list[str]


def warm_up() -> None:
  """Imports what commands import; starts nothing of JAX, so that forks can."""
  for name in f"{MODULES} {LIBRARIES}".split():
    importlib.import_module(name)
  warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside libraries' idle threads


def prepare(directory: Path) -> None:
  """Makes what commands read: config files, a run that has ended and one that has not, a sweep, pictures, odd files."""
  for name in ("", "home", "temporary", "empty"):
    (directory / name).mkdir()
  for name, text in {"own.py": command_words.CONFIG, **command_words.WRONG}.items():
    (directory / name).write_text(text)
  for name, flags in (
    ("train", ["--config=own.py", "--workdir=run"]),
    ("sweep", ["--config=own.py", "--sweep=two", "--workdir=sweep", "--workers=1"]),
  ):
    ended = run(drawn_commands.Drawn(name, flags, {}, None), directory, directory, limit=300)
    assert ended.status == 0, ended.stderr
  shutil.copytree(directory / "run", directory / "begun")
  (directory / "begun" / "result.json").unlink()
  drawn_runs.pictures(directory / "pictures", 0, broken=False)
  (directory / "file").write_text("a file")
  (directory / "loop").symlink_to("loop")
  (directory / "dangling").symlink_to("nowhere")


def check(drawn: drawn_commands.Drawn, directory: Path, chance: random.Random) -> str:
  """Runs a command on prepared files; returns how it ended, in a word or two.

  Raises:
    AssertionError: neither a step or output, nor refused in a line.
  """
  os.mkfifo(directory / "fifo")
  if drawn.damage:
    drawn_commands.do_damage(directory / drawn.damage[0], drawn.damage[1], chance)
  ended = run(drawn, directory, directory / "here")
  if fault := find_fault(ended):
    raise AssertionError(f"{fault}: {drawn}\n{ended.stdout[-500:]}\n{ended.stderr}")
  return {0: "done", 1: "stopped", 2: "refused"}.get(ended.status, "stopped when asked")


def run(drawn: drawn_commands.Drawn, directory: Path, here: Path, limit: float = SECONDS) -> End:
  """Runs a command in a fork of this process.

  Args:
    drawn: the command.
    directory: what it reads is there; caches go there too.
    here: its working directory.
    limit: see `SECONDS`.
  """
  here.mkdir(exist_ok=True)
  before = contents(directory)
  with (directory / "stdout").open("w+b") as stdout, (directory / "stderr").open("w+b") as stderr:
    pid = os.fork()
    if not pid:
      try:
        os.setsid()
        os.chdir(here)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.environ |= {"HOME": str(directory / "home"), "TMPDIR": str(directory / "temporary"), **drawn.environment}
        tempfile.tempdir = None  # for which it is looked again
        forks.command(drawn.name, drawn.flags, stdout, stderr)
      finally:
        os._exit(99)
    status, asked = wait(pid, limit), False
    if status is None and os.fstat(stderr.fileno()).st_size:
      os.kill(pid, signal.SIGTERM)
      status, asked = wait(pid, STOP_SECONDS), True
    if status is None:
      os.killpg(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
    texts = []
    for stream in (stdout, stderr):
      stream.seek(0)
      texts.append(stream.read().decode(errors="backslashreplace"))
  after = contents(directory)
  return End(status, asked, *texts, [name for name in before if after.get(name) != before[name]])


def wait(pid: int, seconds: float) -> int | None:
  """How a child ended within so many seconds."""
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.01)
  return None


def contents(directory: Path) -> dict[str, str]:
  """Digests of the files of runs, sweeps and pictures that were there."""
  found = {}
  for name in ("run", "begun", "sweep", "pictures"):
    for path in (directory / name).glob("**/*"):
      if path.is_file() and path.name != ".lock":
        found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


# What may be said before a refusal: warnings, and what a config file of `command_words.py` prints.
ASIDE = re.compile(r"WARNING:|W\d{4} |printed$")


def find_fault(ended: End) -> str:
  """The fault in how a command ended; "" if there is none."""
  lines = ended.stderr.splitlines()
  if "Traceback (most recent call last)" in ended.stderr:
    frames = re.findall(r'File ".*?((?:nin_jax|experiments)/\S+)", line (\d+)', ended.stderr)
    cause = next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt)\b", line)), "?")
    return f"traceback at {':'.join(frames[-1]) if frames else '?'}: {cause[:150]}"
  if ended.status is None:
    return "does not stop when asked" if ended.asked else "waits in silence"
  if ended.status < 0 or ended.status == 99:
    return f"died of status {ended.status}"
  if ended.status == 0:
    return "" if ended.stdout.strip() else "done, and printed nothing"
  if ended.status == 2:
    if ended.changed:
      return f"refused, but changed {', '.join(ended.changed[:3])}"
    lines = [line for line in lines if not ASIDE.match(line)]
    wrong = next((line for line in lines if not line.startswith("error: ")), "" if lines else "no line")
    return f"refused with: {wrong[:150]}" if wrong or ended.stdout else ""
  if ended.status == 1:
    said = any(re.search(r"(stopped|failed): |pruned", line) for line in lines)
    return "" if said else "status 1 without a line"
  return "" if ended.asked and ended.status == 128 + signal.SIGTERM else f"status {ended.status}"
