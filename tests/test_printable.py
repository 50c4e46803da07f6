"""Text from files and configs reaches terminals, pages and pictures without what they would obey; no password does."""

import io
import json
import logging
import sys
import unicodedata
import xml.etree.ElementTree as ET

import jax.numpy as jnp
import pytest
import sweep_files
from ml_collections import ConfigDict
from test_commands import DIGITS, assert_mistake, run
from test_data_files import classes, opened, read_all

from experiments import command
from nin_jax import cost, report
from nin_jax.errors import ConfigError
from nin_jax.printable import printable, without_passwords
from nin_jax.sweep import plan_table
from nin_jax.sweep.display import Display
from nin_jax.sweep.events import Failed, Lost, Pruned, Started
from nin_jax.sweep.plan import Plan
from nin_jax.sweep.trial import Trial
from nin_jax.train import WorkdirError, terminal

UNFIT = "\x00\x07\x1b\x7f\x85\x9b\u061c\u200e\ud800\u2028\u202e\u2066\udc9b\uffff"
HOSTILE = f"{UNFIT}\n$\\frac{{1}}{{0}}$ $ <b>&--><script>"


def assert_fit(text):
  """Nothing in it is obeyed by a terminal, or turns what is around it."""
  assert not [character for character in text if printable(character, keep="\n") != character], ascii(text)[:2000]
  assert "\\x1b" in text  # it is there, and readable


def test_what_is_no_text_is_spelled_and_all_else_stays():
  for character in map(chr, range(0x10000)):
    spelled = printable(character)
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
      *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    ):
      assert spelled == ascii(character)[1:-1]
      assert spelled.isascii()
  for text in ("32×32 → ±0.5 …", "漢字 é ñ عربي עברית", "👩‍💻", "می‌خواهم"):
    assert printable(text) == text
  assert printable("a\nb\t", keep="\n") == "a\nb\\t"


def test_a_mistake_is_a_printable_line():
  text = str(ConfigError(f"data.{HOSTILE}", HOSTILE, f"a file, not {HOSTILE}"))
  assert "\n" not in text
  assert_fit(text)


def test_what_ends_a_run_is_a_printable_line():
  text = str(WorkdirError(f"{HOSTILE} is gone"))
  assert "\n" not in text
  assert_fit(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """The report of a sweep all of whose texts are hostile."""
  workdir = tmp_path_factory.mktemp("hostile") / "a\x1b[2J\u202e\nb"
  workdir.mkdir()
  lines = sweep_files.write(workdir, scales=(0.25, 0.5), seeds=(0, 1), failed=(0.5, 1), waiting=None)
  plan = json.loads((workdir / "sweep.json").read_text())
  for row, planned in zip(lines, plan["trials"], strict=True):
    row["overrides"] = planned["overrides"] = {f"model.{HOSTILE}": HOSTILE, **row["overrides"]}
    row |= {"device": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    row["error"] = row["error"] and HOSTILE
  (workdir / "sweep.json").write_text(json.dumps(plan | {"sweep": HOSTILE, "config": HOSTILE}))
  sweep_files.rewrite(workdir, lines)
  return report.write(workdir)


@pytest.mark.parametrize("show", [report.table, report.markdown, report.sentence])
def test_of_a_sweep_the_tables_are_printable(written, show):
  assert_fit(show(written.summary))


def test_the_places_of_its_files_are(written):
  assert_fit(written.places)
  assert written.places.count("\n") == 2


def test_the_page_and_the_picture_are(written):
  page = written.page.read_text()
  assert_fit(page[page.index('type="application/json">') : page.index("</script>")])
  assert_fit(json.loads(page[page.index('type="application/json">') + 24 : page.index("</script>")])["sentence"])
  svg = written.svg.read_text()
  ET.fromstring(svg)
  assert_fit(svg)
  assert written.png.stat().st_size > 1000


def test_displays_are():
  config = ConfigDict({"seed": 0})
  trials = [Trial(f"00{i}", {f"model.{HOSTILE}": HOSTILE + str(i), "seed": 0}, config, 1, 2, 3, None) for i in range(3)]
  stream = io.StringIO()
  with Display(trials, stream) as display:
    for trial in trials:
      display.show(Started((trial.id,), HOSTILE))
    display.show(Failed("000", HOSTILE, True))
    display.show(Lost(("001",), HOSTILE))
    display.show(Pruned(("002",), 3, (0.5,)))
    display.note(HOSTILE)
  assert_fit(stream.getvalue())
  assert stream.getvalue().count("\n") == 6
  console, _ = terminal.open_console(stream)
  terminal.print_line(console, HOSTILE)
  assert_fit(stream.getvalue())


def test_plans_and_costs_are():
  config = ConfigDict({"seed": 0, "train": {"sync_batch_norm": True}})
  with config.unlocked():
    config[HOSTILE] = HOSTILE
  trial = Trial("000", {HOSTILE: HOSTILE}, config, 1, 2, 3, None)
  assert_fit(plan_table.table(Plan("x", "x", config, (trial, trial), held=(HOSTILE,))))
  search = {"ranges": {HOSTILE: {"choice": [HOSTILE, 1]}}, "seeds": None, "points": 3}
  assert_fit(plan_table.table(Plan("x", "x", config, (), search=search)))

  def network(x):
    import jax

    with jax.named_scope(HOSTILE.replace("/", "").replace("\n", "").encode("utf-8", "replace").decode()):
      return x @ x

  assert_fit(cost.table(cost.analyze(network, jnp.ones((2, 2)))) + "\\x1b")


def test_the_name_of_a_broken_image_is(tmp_path, caplog):
  root = classes(tmp_path / "set")
  name = HOSTILE.replace("\0", "").replace("/", "").encode("utf-8", "replace").decode() + ".png"
  (root / "a" / name).write_bytes(b"")
  with caplog.at_level(logging.WARNING):
    read_all(opened(root, tmp_path, broken_images="skip"))
  (said,) = [record.getMessage() for record in caplog.records if "broken" in record.getMessage()]
  assert "\n" not in said
  assert_fit(said)


URLS = {
  "postgresql://me:secret@host/base": "postgresql://me:***@host/base",
  "mysql+pymysql://me:se/cret@host": "mysql+pymysql://me:***@host",
  "postgresql://me:se cr@secret@host": "postgresql://me:***@host",
  "postgresql://:secret@host": "postgresql://:***@host",
  "postgresql://host/base?user=me&password=secret": "postgresql://host/base?***",
  "sqlite:////tmp/a@b.db": "sqlite:////tmp/a@b.db",
  "search.journal": "search.journal",
}


@pytest.mark.parametrize("url", URLS)
def test_no_password_is_printed(url, monkeypatch, capsys):
  assert without_passwords(url) == URLS[url]
  monkeypatch.setattr(sys, "argv", ["sweep", "--workdir=a b", f"--storage={url}", "--storage", url])
  again = command.again()
  assert "cret" not in again
  assert ("(*** stands for" in again) == ("***" in URLS[url])
  with pytest.raises(SystemExit):
    command.fail(ConfigError("--storage", url, f"not {url}"))
  assert "cret" not in capsys.readouterr().err


def test_nor_by_a_sweep_that_is_refused(tmp_path):
  done = run(
    "sweep", DIGITS, "--sweep=bottleneck", f"--workdir={tmp_path}", "--storage=postgresql://me:secret@host/base"
  )
  assert_mistake(done, "--storage='postgresql://me:***@host/base'", "nothing without --search")
