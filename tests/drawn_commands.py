"""Command lines drawn at random, for `campaign.py`: most have something odd, and what they read may be damaged.

Commands and their flags are read from the files in `experiments/`, so that new ones are drawn too.
"""

import dataclasses
import os
import random
import re
import shlex
from pathlib import Path

import command_words as words
import drawn_runs
from kill_and_resume import ROOT

RARELY = ("coordinator_address", "num_processes", "process_id", "distributed")


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A command line that was drawn.

  Attributes:
    name: of the command.
    flags: after it.
    environment: variables that differ.
    damage: (a path below the directory of what commands read, what is done to it), or None.
  """

  def __str__(self) -> str:
    variables = [f"{name}={value}" for name, value in self.environment.items()]
    damage = f" with {self.damage[0]} {self.damage[1]}" if self.damage else ""
    return ascii(shlex.join([*variables, self.name, *self.flags]))[1:-1] + damage

  name: str
  flags: list[str]
  environment: dict[str, str]
  damage: tuple[str, str] | None


def commands() -> dict[str, dict[str, str]]:
  """The commands' names, each with its flags and their types as in `DEFINE_string`."""
  found = {}
  processes = (ROOT / "experiments" / "processes.py").read_text()
  for path in sorted((ROOT / "experiments").glob("[a-z]*.py")):
    text = path.read_text()
    if path.stem not in ("command", "processes"):
      text += processes * ("processes.joined" in text)
      found[path.stem] = {name: kind for kind, name in re.findall(r'DEFINE_(\w+)\(\s*"(\w+)"', text)}
  return found


def draw(chance: random.Random, directory: Path, known: dict[str, dict[str, str]]) -> Drawn:
  """Draws a command line.

  Args:
    chance: decides.
    directory: what commands read lies there, as `command_cases.prepare` makes it: W in `command_words`.
    known: from `commands`.
  """
  name = chance.choice([*known, "train", "train", "train", "sweep", "sweep", "evaluate", "cost"])
  flags = list(words.BASES.get(name, ("--config=C", "--workdir=W/run")))
  if name == "train":
    flags[1] = chance.choice(["--workdir=W/new", "--workdir=W/new", "--workdir=W/begun", "--workdir=W/run"])
  if name == "sweep":
    flags[2] = chance.choice(["--workdir=W/new", "--workdir=W/sweep"])
  if name == "sweep" and chance.random() < 0.4:
    flags = ["--config=C", f"--sweep={chance.choice(words.SWEEPS)}", "--plan"]
  flags += ["--workers=1"] * (name == "sweep")
  if chance.random() < 0.07:
    flags.remove(chance.choice(flags))
  for _ in range(chance.choice([0, 1, 1, 1, 1, 2, 3])):
    kind = chance.random()
    if kind < 0.1 and name in ("train", "sweep", "cost"):
      flags += words.PICTURES
    elif kind < 0.55 and "prepare" not in name and name != "report":
      resumes = any(flag.endswith(("W/run", "W/begun", "W/sweep")) for flag in flags)
      flags.append(_override(chance, words.FREE if resumes and chance.random() < 0.7 else tuple(words.FIELDS)))
    elif kind < 0.95:
      flags.append(_flag(chance, known[name]))
    else:
      flags.append(chance.choice(words.LOOSE))
  if chance.random() < 0.1:
    chance.shuffle(flags)
  config = chance.choice(
    ["own.py"] * 7 + ["drawn/drawn.py"] + [chance.choice([*words.WRONG, "no.py", "file", "fifo", ""])]
  )
  if config.startswith("drawn") and "--config=C" in flags:
    (directory / "drawn").mkdir()
    drawn_runs.draw(chance, directory / "drawn")
    flags.append("--config.train.steps=3")
  place = lambda text: re.sub(r"\bW(?=/|$)", str(directory), text.replace("=C", f"=W/{config}"))
  environment = {}
  if chance.random() < 0.12:
    variable = chance.choice(list(words.ENVIRONMENT))
    environment[variable] = place(chance.choice(words.ENVIRONMENT[variable]))
  return Drawn(name, [place(flag) for flag in flags], environment, _damage(chance, directory, flags))


def _damage(chance: random.Random, directory: Path, flags: list[str]) -> tuple[str, str] | None:
  """Something that the command reads, and a kind of damage; but for files of arrays, whose names are random."""
  read = [name for name in ("run", "begun", "sweep", "pictures") if any(flag.endswith(f"W/{name}") for flag in flags)]
  if not read or chance.random() < 0.6:
    return None
  files = sorted(str(path.relative_to(directory)) for name in read for path in directory.glob(f"{name}/**/*"))
  return chance.choice([name for name in files if not re.search("[0-9a-f]{16}", name)]), chance.choice(words.DAMAGES)


def do_damage(path: Path, kind: str, chance: random.Random) -> None:
  """Damages a file or directory that is there."""
  content = path.read_bytes() if path.is_file() else b""
  if kind == "unreadable":
    path.chmod(0)
    return
  if path.is_dir():
    path.rename(path.with_name("moved away"))
  else:
    path.unlink()
  if kind == "empty":
    path.write_bytes(b"")
  elif kind == "cut":
    path.write_bytes(content[: chance.randint(0, len(content))])
  elif kind == "garbled":
    changed = bytearray(content or b"x")
    for _ in range(chance.randint(1, 8)):
      changed[chance.randrange(len(changed))] = chance.randrange(256)
    path.write_bytes(changed)
  elif kind == "a directory":
    path.mkdir()
  elif kind == "another JSON":
    path.write_text(
      chance.choice(["[]", "null", "NaN", '{"a": Infinity}', "[" * 100_000, '"\\ud800"', "1" * 5000, "{}"])
    )
  elif kind == "a link to nowhere":
    path.symlink_to("nowhere at all")
  elif kind == "a FIFO":
    os.mkfifo(path)


def _override(chance: random.Random, fields: tuple[str, ...]) -> str:
  field = chance.choice(fields)
  roll = chance.random()
  likely = words.FIELDS[field].split() or [""]
  value = chance.choice(
    likely if roll < 0.75 else words.WORDS.split() if roll < 0.85 else words.PATHS if roll < 0.93 else words.ODD
  )
  odd = ["--config.{}", "--noconfig.{}", "-config.{}={}", "config.{}={}", "--config.{} {}"]
  form = chance.choice(["--config.{}={}"] * 40 + odd)
  return form.replace("{}", field, 1).replace("{}", value, 1)


def _flag(chance: random.Random, known: dict[str, str]) -> str:
  names = [name for name in known if name not in RARELY] * 6 + [name for name in known if name in RARELY]
  name = chance.choice(names)
  if known[name] == "bool" and chance.random() < 0.8:
    return chance.choice([f"--{name}", f"--no{name}", f"--{name}=true", f"--{name}=false"])
  roll = chance.random()
  if roll < 0.7 and name in words.SENSIBLE:
    value = chance.choice(words.SENSIBLE[name])
  elif "dir" in name or name in ("output", "predictions", "load", "save") or roll < 0.1:
    value = chance.choice(words.PATHS)
  elif name == "sweep":
    value = chance.choice(words.SWEEPS)
  else:
    value = chance.choice(words.ODD)
  return f"--{name}={value}"
