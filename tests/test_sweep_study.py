"""Where a study is kept."""

import os

import optuna
import pytest
from searches import planned, searched, start
from test_sweep_commands import files

from nin_jax.errors import ConfigError
from nin_jax.sweep import study


def test_a_database_serves_as_well(tmp_path):
  url = f"sqlite:///{tmp_path}/studies.db"
  for name in ("1", "2"):  # two searches in one database
    _, _, source = start(tmp_path / name, storage=url, points=6)
    for _ in range(2):
      source.next()
    _, _, rows = searched(tmp_path / name, storage=url, points=6)
    assert len(rows) == 6
  searched(tmp_path / "3", points=6)
  assert planned(tmp_path / "3")[0] == planned(tmp_path / "1")[0]
  told = [summary.n_trials for summary in optuna.get_all_study_summaries(url)]
  assert told == [6, 6]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_journal_that_is_no_file_is_not_waited_for(make, tmp_path):
  make(tmp_path / "journal")
  with pytest.raises(ConfigError, match=r"--storage=.*journal': accepted is a journal's file"):
    study.open_study(str(tmp_path / "journal"), "name", exists=False)


def test_a_search_goes_on_in_its_own_storage(tmp_path):
  searched(tmp_path / "sweep", points=3)
  with pytest.raises(ConfigError, match="the storage that this search was begun with"):
    start(tmp_path / "sweep", storage=f"sqlite:///{tmp_path}/other.db", points=3)


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ("redis://:secret@host/1", "a file, or a URL of sqlite, postgresql"),
    ("postgresql://me:secret@localhost:1/x?password=secret", "that can be opened"),
    ("sqlite:////nowhere/at/all.db", "that can be opened"),
    ("DIRECTORY", "that can be opened"),
    ("DIRECTORY/text", "that can be opened"),
  ],
)
def test_a_storage_that_cannot_be_opened(given, said, tmp_path):
  (tmp_path / "text").write_text("what is this\nno journal\n")
  with pytest.raises(ConfigError, match=r"--storage=.*: accepted is ") as raised:
    start(tmp_path / "sweep", storage=given.replace("DIRECTORY", str(tmp_path)))
  assert said in str(raised.value)
  assert "secret" not in str(raised.value)
  assert raised.value.__cause__ is None


def test_credentials_are_written_nowhere(tmp_path, monkeypatch):
  opened = []
  real = study.RDBStorage
  monkeypatch.setattr(study, "RDBStorage", lambda url, **options: opened.append(url) or real(f"sqlite:///{tmp_path}/s"))
  searched(tmp_path / "sweep", storage="postgresql://me:secret@host/base", points=3)
  assert opened == ["postgresql://me:secret@host/base"]
  written = files(tmp_path)
  assert len(written) > 6
  assert not any(b"secret" in content for content in written.values())
