"""The command as a shell sees it."""

import os

import pytest
import sweep_files
from test_commands import assert_mistake, run

from nin_jax import report
from nin_jax.train import WorkdirError


def test_it_writes_all_files_and_prints_the_table_and_their_paths(tmp_path):
  sweep_files.write(tmp_path, scales=(0.25,))
  done = run("report", f"--workdir={tmp_path}")
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout.startswith("setting")
  assert "The knee is model.reduce_scale=0.25: 99.07 ± 0.40 % at 1.343M MACs." in done.stdout
  for name in ("report.html", "pareto.png", "pareto.svg", "report.md"):
    assert str(tmp_path / name) in done.stdout
    assert (tmp_path / name).stat().st_size > 100
  assert len(list(tmp_path.glob("trials/*/tensorboard/events.out.tfevents.hparams"))) == 3


def _empty(workdir):
  workdir.rmdir()


def _no_plan(workdir):
  (workdir / "results.jsonl").write_text("")


def _none_done(workdir):
  sweep_files.write(workdir, trials=False)
  sweep_files.rewrite(workdir, [])


def _corrupt(workdir):
  sweep_files.write(workdir, trials=False)
  with (workdir / "results.jsonl").open("a") as file:
    file.write('{"trial": ')


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (_empty, "the directory of a sweep (python"),
    (_no_plan, "which has a sweep.json"),
    (_none_done, "none is yet"),
    (_corrupt, "results.jsonl is whole (line 18"),
  ],
)
def test_what_is_no_sweep_is_the_users_mistake(tmp_path, make, said):
  workdir = tmp_path / "sweep"
  workdir.mkdir()
  make(workdir)
  assert_mistake(run("report", f"--workdir={workdir}"), "--workdir=", str(workdir), said)


def test_a_disk_that_cannot_be_written_to_is_told_of(tmp_path):
  sweep_files.write(tmp_path, trials=False, scales=(0.25,))
  os.mkdir(tmp_path / "report.html")  # in the file's place
  with pytest.raises(WorkdirError, match=r"report\.html can't be written"):
    report.write(tmp_path)
