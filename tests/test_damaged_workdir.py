"""Whatever has become of a sweep's files, its report and its next start do their work or name the file in a line.

DAMAGES=300 tries as many, other ones each time, in place of the few that CI repeats.
"""

import io
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from searches import RESULT, base

from nin_jax import report
from nin_jax.errors import ConfigError
from nin_jax.report import curves, hparams, layers
from nin_jax.sweep import events, plan_file, planning, run, space
from nin_jax.sweep.display import Display
from nin_jax.sweep.plan import groups
from nin_jax.sweep.record import Record
from nin_jax.train import WorkdirError, workdir
from nin_jax.train.storage import write_json, writing

COUNT, SECONDS = int(os.environ.get("DAMAGES", 60)), 60
RAW = {  # what json.dumps does not write
  "NAN": "NaN",
  "INFINITY": "-Infinity",
  "LARGE": "1" + "0" * 400,
  "LONG": "1" * 5000,
  "OVER": "1e400",
  "DEEP": "[" * 100_000 + "]" * 100_000,
  "NESTED": '{"a":' * 300 + "1" + "}" * 300,
}
VALUES = [
  *(None, True, False, -1, 0, 0.5, 1e38, 2**31, 2**64, "", "x", "../../x", "\ud800\x1b[2J\u202e\0\n", "$\\frac{1}$"),
  *([], {}, [1], {"a": 1}, *RAW),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  """The plan and the workdir of a sweep: of its trials one is done, one has failed, one was ended early, one waits."""
  made = space.product(space.values("optimizer.learning_rate", [0.1, 0.2]), space.values("seed", [0, 1]))
  plan = planning.make(made, base(), "rates", "rates.py")
  directory = plan_file.write(plan, tmp_path_factory.mktemp("damaged") / "sweep")
  row = {"step": 10, "epoch": 0.5, "split": "train", "loss": 2.0, "accuracy": 0.5, "learning_rate": 0.1}
  files = ({"result.json": RESULT | {"test_accuracy": 0.5, "test_loss": 1.0}}, {}, {}, {})
  files[1]["failure.json"] = {"error": "x", "attempts": 9, "final": False, "crashed": False, "step": 2}
  files[2]["pruned.json"] = {"step": 10, "test_accuracy": 0.25}
  for trial, extra in zip(plan.trials, files, strict=True):
    place = directory / "trials" / trial.id
    (place / "tensorboard").mkdir(parents=True)
    (place / "checkpoints" / "10").mkdir(parents=True)
    for name, value in {"config.json": trial.config.to_dict(), **extra}.items():
      write_json(place / name, value)
    (place / "metrics.jsonl").write_text(
      "".join(json.dumps(row | {"split": split}) + "\n" for split in ("train", "test"))
    )
  Record(directory, plan.trials, 1).write()
  return plan, directory


def places(value, above=()):
  yield above
  if isinstance(value, dict | list):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
      yield from places(item, (*above, key))


def changed(text, chance):
  """A JSON text with a value replaced, taken out or added."""
  value, new = json.loads(text), chance.choice(VALUES)
  *above, last = chance.choice(list(places(value))) or (None,)
  section = value
  for key in above:
    section = section[key]
  if last is None:
    value = new
  elif chance.random() < 0.25:
    del section[last]
  elif chance.random() < 0.1 and isinstance(section, dict):
    section[chance.choice(["a.b", "items", "\x1b[2J\ud800"])] = new
  else:
    section[last] = new
  text = json.dumps(value)
  for name, raw in RAW.items():
    text = text.replace(f'"{name}"', raw)
  return text


def damage(path, chance):
  """Damages a file or a directory, and says how."""
  kind = chance.choice(["json", "json", "json", "json", "bytes", "cut", "pipe", "device", "loop", "file", "directory"])
  if path.is_file() and kind in ("json", "bytes", "cut"):
    content = path.read_bytes()
    place = chance.randrange(len(content) + 1)
    if kind == "json" and path.suffix in (".json", ".jsonl"):
      rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
      row = chance.randrange(len(rows))
      rows[row] = changed(rows[row], chance)
      path.write_text("\n".join([*rows, ""]))
    else:
      path.write_bytes(content[:place] + (chance.randbytes(3) + content[place:] if kind != "cut" else b""))
    return kind
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  if kind == "pipe":
    os.mkfifo(path)
  elif kind == "directory":
    path.mkdir()
  elif kind == "file":
    path.write_bytes(b"{}")
  else:
    path.symlink_to("/dev/zero" if kind == "device" else path.name)
  return kind


class Failing:
  """An engine whose trials fail at once."""

  told = ()

  def free(self):
    return not self.told

  def submit(self, task):
    ids = [trial["trial"] for trial in task["trials"] if not trial["left_out"]]
    self.told = [events.Started(tuple(ids), "worker 1"), *(events.Failed(id, "it fails", False) for id in ids)]

  def happened(self, timeout):
    told, self.told = self.told, ()
    return told


def made(directory):
  """The report, but for what takes seconds."""
  summary = report.summarize(report.read(directory))
  results = summary.results
  for text in (report.table(summary), report.markdown(summary)):
    assert text.replace("\n", "").isprintable()
  for result in results.trials:
    curves.of_trial(results, result)
  layers.networks(results, summary.settings)
  with writing(directory / "trials"):
    hparams.write(results)


def resumed(plan, directory):
  """The next start of the sweep, and the check of each run."""
  plan_file.check(plan, directory)
  with workdir.alone(directory):
    plan_file.write(plan, directory)
    record = Record(directory, plan.trials, 0)
    with Display(plan.trials, io.StringIO()) as display:
      display.done_before(record.over(), record.failures())
      run.run(directory, run.Planned(groups(plan.trials)), record, Failing(), display)
    assert not any(record.is_open(trial.id) for trial in plan.trials)


@pytest.fixture
def no_hang():
  def hangs(*_):
    pytest.fail("it hangs")

  before = signal.signal(signal.SIGALRM, hangs)
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, before)


def test_damage_is_named_or_does_no_harm(sweep, tmp_path, no_hang):
  plan, whole = sweep
  for use in (made, lambda directory: resumed(plan, directory)):
    use(shutil.copytree(whole, tmp_path / "whole", dirs_exist_ok=True))
  for number in range(COUNT):
    seed = number if "DAMAGES" not in os.environ else random.SystemRandom().randrange(2**32)
    chance, directory = random.Random(seed), tmp_path / "sweep"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(whole, directory)
    path = chance.choice(sorted(directory.rglob("*")))
    how = damage(path, chance)
    for use in (made, lambda directory: resumed(plan, directory)):
      signal.alarm(SECONDS)
      try:
        use(directory)
        said = ""
      except (ConfigError, WorkdirError) as error:
        said = str(error)
      except Exception as error:
        raise AssertionError(f"seed {seed}: {how} of {Path(path).relative_to(directory)}") from error
      assert not said or str(directory) in said
      assert said.isprintable()
