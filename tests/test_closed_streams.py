"""Readers of stdout and stderr that go away, terminals that are closed, logs on full disks: the work goes on."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys

import pytest
import sweep_files
from conftest import ROOT
from test_commands import DIGITS, TINY, command, environment
from test_faults import contents, train

from nin_jax import streams
from nin_jax.train import terminal
from nin_jax.train.display import Display

SWEEP = """

def sweep_one():
  return {"seed": [0]}
"""
# Starts a program as a shell does on a terminal of its own: the terminal's end is a SIGHUP, unless that is ignored.
ON_TERMINAL = """
import fcntl, os, signal, sys, termios

os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
FIRST = b"step 20  test"  # in a line, and above a bar
FULL = "No space left on device"


def python(code, redirect="", **more):
  """Runs code after `streams.set_up()`, as a shell would with a redirection; `report` writes to a file of its own."""
  before = (
    'import os, subprocess, sys\nfrom nin_jax import streams\nstreams.set_up()\nreport = open(sys.argv[1], "w")\n'
  )
  read, write = os.pipe()
  os.set_inheritable(write, True)
  line = f'exec "$0" "$@" {redirect}'
  done = subprocess.run(
    ["sh", "-c", line, sys.executable, "-c", before + code, f"/dev/fd/{write}"],
    cwd=ROOT,
    env={**os.environ, **more},
    pass_fds=[write],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  os.close(write)
  with open(read) as file:
    return done, file.read()


def test_streams_that_are_closed_are_not_the_next_file():
  """Anything that libraries print would go into it: a checkpoint, a journal."""
  code = """
print("lost")
print("lost", file=sys.stderr)
os.write(2, b"lost")
inside = os.open("/dev/zero", os.O_RDONLY)
child = subprocess.run([sys.executable, "-c", "import os; os.write(1, b'lost'); os.write(2, b'lost')"]).returncode
print(report.fileno() > 2, inside > 2, child, streams.failure("stdout"), file=report)
"""
  done, report = python(code, "<&- >&- 2>&-")
  assert report == "True True 0 [Errno 9] Bad file descriptor\n"
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
  done, report = python(code, "2>&-")
  assert report == "True True 0 None\n"
  assert (done.returncode, done.stdout, done.stderr) == (0, "lost\nlost", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_whose_disk_is_full_raise_nothing_and_status_is_0(unbuffered):
  code = """
for stream in (sys.stdout, sys.stderr):
  print("lost", file=stream, flush=True)
  print("lost at the end", file=stream)
print(streams.failure("stdout").strerror, streams.failure("stderr").strerror, file=report)
"""
  done, report = python(code, ">/dev/full 2>/dev/full", PYTHONUNBUFFERED=unbuffered)
  assert report == f"{FULL} {FULL}\n"
  assert done.returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_whose_reader_has_gone_are_nowhere_from_then_on(unbuffered):
  """For child processes too, which would die of SIGPIPE."""
  code = """
for number in range(20_000):
  print("to a reader of one line", number)
child = subprocess.run([sys.executable, "-c", "import os; os.write(1, b'lost')"]).returncode
print(type(streams.failure("stdout")).__name__, child, os.path.samefile("/dev/fd/1", os.devnull), file=report)
print("lost at the end")
"""
  done, report = python(code, "| head -1", PYTHONUNBUFFERED=unbuffered)
  assert report == "BrokenPipeError 0 True\n"
  assert (done.stdout, done.stderr) == ("to a reader of one line 0\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stream_that_does_not_block_is_waited_for(unbuffered):
  code = """
os.set_blocking(1, False)
print("x" * 300_000)
print(streams.failure("stdout"), file=report)
"""
  done, report = python(code, "| (sleep 0.5; cat)", PYTHONUNBUFFERED=unbuffered)
  assert report == "None\n"
  assert done.stdout == "x" * 300_000 + "\n"


def test_streams_that_are_not_the_process_s_own_stay(capsys):
  """As pytest's, or a notebook's."""
  before = sys.stdout, sys.stderr
  streams.outlive_readers()
  assert (sys.stdout, sys.stderr) == before
  code = "import io; os.close(1); sys.stdout = mine = io.StringIO(); streams.set_up()"
  _, report = python(f"{code}; report.write(str(sys.stdout is mine))")
  assert report == "True"
  streams.note("noted")
  assert capsys.readouterr().err == "noted\n"


def test_displays_write_to_streams_that_break(monkeypatch):
  """Of a script that calls the training, whose streams are as Python made them."""
  read, write = os.pipe()
  os.close(read)
  row = {"split": "train", "step": 1, "epoch": 0.1, "loss": 1.0, "accuracy": 0.5}
  with contextlib.suppress(BrokenPipeError), open(write, "w", buffering=1) as gone:  # where that is closed
    for stream in (gone, None):
      monkeypatch.setattr(sys, "stderr", stream)
      with Display(2) as display:
        display.show(row)
        display.note("lost")
      streams.note("lost")
    shown = True
  assert shown


def test_a_display_in_place_needs_no_stdout(monkeypatch):
  console, _ = terminal.open_console(io.StringIO())
  monkeypatch.setattr(sys, "stdout", None)
  terminal.start_live(console, lambda: "shown").stop()
  assert "shown" in console.file.getvalue()


REDIRECTED = {  # status, lines on stderr
  "| true": (128 + signal.SIGPIPE, []),
  ">/dev/full": (1, [f"error: standard output can't be written: {FULL}"]),
  ">&-": (1, ["error: standard output can't be written: Bad file descriptor"]),
}


def redirected(words, redirect):
  """Status and lines on stderr of a command whose stdout a shell redirects; the reader of a pipe goes at once."""
  line = f'{{ "$@"; echo "status $?" >&2; }} {redirect}'
  if redirect == "| true":
    line = '{ sleep 0.1; "$@"; echo "status $?" >&2; } | true'
  done = subprocess.run(
    ["sh", "-c", line, "sh", *words],
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  *lines, status = done.stderr.splitlines()
  return int(status.removeprefix("status ")), lines


@pytest.mark.parametrize("redirect", REDIRECTED)
def test_a_command_that_prints_ends_as_other_programs_do(redirect):
  assert redirected(command("cost", DIGITS), redirect) == REDIRECTED[redirect]


def test_a_report_is_written_without_a_reader(tmp_path):
  sweep_files.write(tmp_path, scales=(0.5, 1.0), failed=None, waiting=None)
  assert redirected(command("report", f"--workdir={tmp_path}"), "| true") == (0, [])
  assert (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "tiny.py"
  path.write_text(TINY + SWEEP)
  changed = {"train.steps": 60, "eval.every_steps": 20}
  return [f"--config={path}", *(f"--config.{name}={value}" for name, value in changed.items())]


def test_a_plan_and_help_without_a_reader(flags):
  plan = command("sweep", *flags, "--sweep=one", "--plan")
  assert redirected(plan, "| true") == REDIRECTED["| true"]
  assert redirected(command("cost", "--help"), "| true") == (0, [])


@pytest.fixture(scope="module")
def unbroken(flags, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  assert train(*flags, f"--workdir={workdir}").returncode == 0
  return contents(workdir), numbers(json.loads((workdir / "result.json").read_text()))


def numbers(result):
  return {name: value for name, value in result.items() if name.endswith(("accuracy", "loss", "step", "steps"))}


def until(number, words):
  """Reads a descriptor up to some words, and closes it."""
  said = b""
  with contextlib.suppress(OSError):  # how Linux ends a pseudo-terminal
    while words not in said and (more := os.read(number, 4096)):
      said += more
  os.close(number)
  if words not in said:
    raise AssertionError(said.decode())


def reader_goes(words, first, hangup="SIG_IGN", terminal=False):
  """The status of a command whose one reader of stdout and stderr goes after the first words."""
  if terminal:
    read, write = pty.openpty()
    words = [sys.executable, "-c", ON_TERMINAL, hangup, *words]
  else:
    read, write = os.pipe()
  env = environment(TERM="xterm-256color", CI="")
  process = subprocess.Popen(words, cwd=ROOT, env=env, stdin=write if terminal else None, stdout=write, stderr=write)
  os.close(write)
  try:
    until(read, first)
    return process.wait(120)
  finally:
    process.kill()


@pytest.mark.parametrize("terminal", [False, True])
def test_training_whose_reader_goes_ends_with_the_same_numbers(terminal, flags, unbroken, tmp_path):
  assert reader_goes(command("train", *flags, f"--workdir={tmp_path}"), FIRST, terminal=terminal) == 0
  assert contents(tmp_path) == unbroken[0]
  assert numbers(json.loads((tmp_path / "result.json").read_text())) == unbroken[1]


def test_training_that_nobody_ever_reads_ends_with_the_same_numbers(flags, unbroken, tmp_path):
  words = command("train", *flags, f"--workdir={tmp_path}")
  done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], cwd=ROOT, env=environment(), check=False)
  assert done.returncode == 0
  assert contents(tmp_path) == unbroken[0]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_sweep_whose_reader_goes_ends_with_the_same_numbers(terminal, flags, unbroken, tmp_path):
  words = command("sweep", *flags, "--sweep=one", f"--workdir={tmp_path}")
  assert reader_goes(words, b"1 trials", terminal=terminal) == 0
  [row] = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
  assert numbers(row) == unbroken[1]
  assert (tmp_path / "report.html").exists()


def test_a_closed_terminal_has_training_saved(flags, unbroken, tmp_path):
  """The system sends SIGHUP to what runs on it."""
  flags = [*flags, f"--workdir={tmp_path}"]
  status = reader_goes(command("train", *flags), FIRST, hangup="SIG_DFL", terminal=True)
  assert status == 128 + signal.SIGHUP
  assert [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
  assert not (tmp_path / "result.json").exists()
  assert train(*flags).returncode == 0
  assert contents(tmp_path) == unbroken[0]
