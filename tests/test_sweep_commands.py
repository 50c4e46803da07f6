"""experiments.sweep as a shell sees it: the plan, and every mistake with status 2 and a line that names it."""

import json

import pytest
from test_commands import TINY
from test_mistakes import assert_mistakes, server  # noqa: F401  a fixture

SWEEPS = """
from nin_jax.sweep import space


def sweep_widths():
  print("a config file may print")
  return {"model.reduce_scale": [0.5, 1.0], "model.inception_1a.reduce3x3": [2, 4, 2], "seed": range(2)}

def sweep_empty():
  return []

def sweep_of_nothing():
  return {"seed": []}

def sweep_nonsense():
  return 5

def sweep_forgetful():
  space.values("seed", [1])

def sweep_unknown():
  return {"model.reduce_scal": [0.5, 1.0], "seed": range(3)}

def sweep_ill_typed():
  return {"train.epochs": ["many"]}

def sweep_impossible():
  return {"seed": [1, -1], "data.crop": [0, 9]}

def sweep_zipped():
  return space.zip({"seed": [1, 2], "data.crop": [8]})

def sweep_twice():
  return space.product({"seed": [1, 2]}, space.values("seed", [3]))

def sweep_raises():
  return 1 / 0  # line 50

def sweep_raises_late():
  yield {"seed": 0}
  raise ValueError("so far and no farther")

def sweep_exits():
  raise SystemExit(0)

def sweep_of_arguments(n):
  return {"seed": range(n)}

def sweep_endless():
  while True:
    yield {"seed": 0}
"""

NAMES = "widths, empty, of_nothing, nonsense, forgetful, unknown, ill_typed, impossible, zipped, twice, raises"
LINE = (TINY + SWEEPS).splitlines().index("  return 1 / 0  # line 50") + 1

# Flags → the beginnings of the lines on stderr, and what else they say.
WRONG = {
  "--sweep=width": [("--sweep='width': accepted is one of " + NAMES, "did you mean widths?")],
  "--sweep=": [("--sweep='': ", NAMES)],
  "": [("flag --sweep=None", "must have a value other than None")],
  "--sweep=empty": [("sweep=[]: ", "(sweep_empty)")],
  "--sweep=of_nothing": [("seed=[]: ", "(sweep_of_nothing)")],
  "--sweep=nonsense": [("sweep=5: ", "a dict of lists, or an iterable of dicts")],
  "--sweep=forgetful": [("sweep=None: ", "a dict of lists")],
  "--sweep=unknown": [("model.reduce_scal=0.5: ", "did you mean reduce_scale? (all trials)")],
  "--sweep=ill_typed": [("train.epochs='many': accepted is a number", "epochs=many")],
  "--sweep=impossible": [("data.crop=9: ", "(trial seed=1, crop=9 and 1 more)"), ("seed=-1: ", "seed=-1, crop=0")],
  "--sweep=zipped": [("space.zip=[2, 1]: ", "seed: 2, data.crop: 1")],
  "--sweep=twice": [("space.product='seed': ", "(sweep_twice, line")],
  "--sweep=raises": [("--sweep='raises': ", f"sweep_raises raises ZeroDivisionError: division by zero (line {LINE})")],
  "--sweep=raises_late": [("--sweep='raises_late': ", "ValueError: so far and no farther (line")],
  "--sweep=exits": [("--sweep='exits': ", "SystemExit")],
  "--sweep=of_arguments": [("--sweep='of_arguments': ", "missing 1 required positional argument")],
  "--sweep=endless": [("sweep='1e+05 trials': accepted is up to 100000", "")],
  "--sweep=widths --workdir=W/run": [("--workdir=", "this one holds a run")],
  "--sweep=widths --workdir=W/other": [("--workdir=", "the sweep that is in this one (train.steps 100 → 1000)")],
  "--sweep=widths --workdir=W/damaged": [("--workdir=", "the directory of a sweep, whose sweep.json is whole")],
  "--sweep=widths --workdir=W/own.py": [("--workdir=", "a directory that this user may enter (Not a directory)")],
  "--sweep=widths --workdir=gs://bucket": [("--workdir='gs://bucket'", "of this machine's file system")],
  "--sweep=widths -workdir=": [("--workdir='': ", "a directory for the sweep's files")],
  "--sweep=widths -noplan": [("--workdir=None: ", "a directory for the sweep's files (--plan needs none)")],
  "--sweep=widths --max_macs=1K": [("--max_macs=1000: accepted is ", "or more, which the smallest trial has")],
  "--sweep=widths --max_params=1": [("--max_params=1: accepted is ", "or more, which the smallest trial has")],
  "--sweep=widths --max_macs=few": [("--max_macs='few': accepted is a number from 1 up, as 300M", "")],
  "--sweep=widths --max_params=-5": [("--max_params='-5': accepted is a number from 1 up", "")],
  "--sweep=widths --engine=slurm": [("flag --engine=slurm", "local|ray")],
  "--sweep=widths --workers=0": [("flag --workers=0", "positive integer")],
  "--sweep=widths --format=csv": [("flag --format=csv", "table|json")],
  "--sweep=widths --config.seed=-1": [("seed=-1: ", "all trials")],
  "--sweep=widths --config.sead=1": [("--config.sead=1: ", "")],
}


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):  # noqa: F811
  """A config file with sweeps, and workdirs that hold something."""
  directory = tmp_path_factory.mktemp("sweeps")
  (directory / "own.py").write_text(TINY + SWEEPS)
  for name in ("run", "other", "damaged"):
    (directory / name).mkdir()
  (directory / "run" / "config.json").write_text("{}")
  (directory / "damaged" / "sweep.json").write_text('{"sweep"')
  flags = [f"--config={directory}/own.py", "--sweep=widths", "--plan", "--format=json", "--config.train.steps=100"]
  status, stdout, stderr = server("sweep", *flags)
  assert (status, stderr) == (0, "a config file may print\n")
  (directory / "other" / "sweep.json").write_text(stdout)
  return directory


def files(directory):
  return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake(words, server, place):  # noqa: F811
  before = files(place)
  flags = words.replace("W/", f"{place}/").split()
  if not any("-workdir=" in flag or flag == "-noplan" for flag in flags):
    flags.append("--plan")
  status, stdout, stderr = server("sweep", f"--config={place}/own.py", *flags)
  told = "".join(line for line in stderr.splitlines(keepends=True) if line != "a config file may print\n")
  assert_mistakes([status, stdout, told], *(begins for begins, _ in WRONG[words]))
  for line, (_, says) in zip(told.splitlines(), WRONG[words], strict=True):
    assert says in line
  assert files(place) == before


def test_a_config_file_without_sweeps(server):  # noqa: F811
  done = server("sweep", "--config=configs/nin_cifar10.py", "--sweep=widths", "--plan")
  assert_mistakes(done, "--sweep='widths': accepted is that of a config file with functions sweep_NAME()")


def test_the_plan_is_printed_and_nothing_is_written(server, place):  # noqa: F811
  before = files(place)
  flags = [f"--config={place}/own.py", "--sweep=widths", f"--workdir={place}/new", "--plan", "--max_macs=1G"]
  status, stdout, _ = server("sweep", *flags, "--config.data.batch_size=16")
  assert status == 0
  lines = stdout.splitlines()
  assert lines[1].split() == ["trial", "reduce_scale", "reduce3x3", "seed", "params", "MACs", "FLOPs", "estimated"]
  # Half of 4 is 2, and the same as half of 2 twice over is dropped: (0.5, 2), (0.5, 4), (1, 2), (1, 4), two seeds each.
  assert lines[-1].startswith("8 trials in 4 programs; 4 duplicates dropped; about ")
  assert files(place) == before


def test_the_plan_as_json(place):
  plan = json.loads((place / "other" / "sweep.json").read_text())
  assert [trial["trial"] for trial in plan["trials"]][:2] == [
    "000-reduce_scale-0.5-reduce3x3-2-seed-0",
    "001-reduce_scale-0.5-reduce3x3-2-seed-1",
  ]
  assert plan["base"]["train"]["steps"] == 100
  first, second, third = plan["trials"][0], plan["trials"][1], plan["trials"][2]
  assert first["flops"] == 2 * first["macs"]
  assert {**first, "trial": "", "seed": 1, "overrides": second["overrides"]} == {**second, "trial": ""}
  assert third["macs"] > first["macs"]
