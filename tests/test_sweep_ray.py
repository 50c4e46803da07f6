"""Sweeps on Ray: a cluster whose node is taken away, nodes with a file system of their own, and what can go wrong."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from nin_jax import models
from nin_jax.config import default
from nin_jax.errors import ConfigError
from nin_jax.models.inception import width_config
from nin_jax.sweep import events, ray_cluster, run
from nin_jax.sweep.pool import Pool
from nin_jax.sweep.ray_engine import RayEngine, among
from nin_jax.sweep.record import Record
from nin_jax.sweep.trial import Trial
from nin_jax.train import Interrupted, read_config

ray = pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
SAME = ("steps", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "train_flops")


def trial(name, steps, seed=0, checkpoints=20):
  config = default()
  config.seed = seed
  config.model = model = models.defaults("inception")
  for block in ("inception_1b", "inception_2a", "inception_2b"):
    del model[block]
  model.stem_features = (4,)
  model.inception_1a = width_config(2, 0, 4, 0, 0, 2)
  config.data.batch_size = 16
  config.data.translate = 1
  config.train.steps = steps
  config.eval.every_steps = steps
  config.eval.train_images = 64
  config.checkpoint.every_steps = checkpoints
  config.lock()
  return Trial(name, {"seed": seed}, config, params=1, macs=1, train_flops=steps, seconds=None)


class Shown:
  """Keeps the events, and does something at some of them."""

  def __init__(self, act=lambda event: None):
    self.events, self._act = [], act

  def show(self, event):
    self.events.append(event)
    self._act(event)

  def of(self, kind):
    return [event for event in self.events if isinstance(event, kind)]


def sweep(workdir, groups, engine, act=lambda event: None):
  workdir.mkdir(exist_ok=True)
  record, shown = Record(workdir, [trial for group in groups for trial in group], retries=0), Shown(act)
  try:
    run.run(workdir, run.Planned(groups), record, engine, shown)
  finally:
    shown.rows = rows(workdir)
  return shown


def rows(workdir):
  return [json.loads(row) for row in (workdir / "results.jsonl").read_text().splitlines()]


def undisturbed(groups, workdir):
  """What the local engine makes of the same trials, one after the other, in a process with as many threads."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("NPROC", "1")
    with Pool(workdir, workers=1) as engine:
      return [numbers(row) for row in sweep(workdir, groups, engine).rows]


def numbers(result):
  return [result[name] for name in SAME]


@pytest.fixture(scope="module")
def short():
  """A directory whose name leaves room for those of Ray's sockets."""
  directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
  yield directory
  shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(short):
  """Two nodes on this machine, one CPU each."""
  with pytest.MonkeyPatch.context() as patch:
    for name, value in ray_cluster.QUIET.items():
      patch.setenv(name, value)
    patch.setenv("RAY_TMPDIR", short)
    os.mkdir(os.path.join(short, "ray"))
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.second = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_all_trials_end_though_a_node_is_taken_away(tmp_path, cluster, capfd):
  """The issue's own words: a two-node cluster, one node is removed during the sweep, and all trials finish."""
  groups = [[trial("0-long", 300, seed=1)], [trial("1-long", 300, seed=2)], [trial("2-short", 20, seed=3)]]
  second, removed = cluster.second.node_id[:4], []

  def remove(event):
    if isinstance(event, events.Started) and event.where.endswith(second) and not removed:
      removed.append(event.trials)
    if isinstance(event, events.Stepped) and event.trials in removed and event.step > 60 and cluster.second:
      cluster.remove_node(cluster.second, allow_graceful=False)
      cluster.second = None

  with RayEngine(tmp_path, cluster.address, most=3) as engine:
    assert engine.free() == 2
    shown = sweep(tmp_path, groups, engine, remove)

  assert capfd.readouterr().out == ""  # which is for the report
  assert not cluster.second
  starts = [event for event in shown.of(events.Started) if event.trials == removed[0]]
  assert len(starts) == 2
  assert starts[0].where != starts[1].where
  assert not shown.of(events.Lost)
  assert [row["trial"] for row in shown.rows] == ["0-long", "1-long", "2-short"]
  assert [row["status"] for row in shown.rows] == ["done"] * 3
  assert [row["attempts"] for row in shown.rows] == [1] * 3
  assert len(shown.of(events.Ended)) == 3
  assert [numbers(row) for row in shown.rows] == undisturbed(groups, tmp_path / "alone")
  after = shown.events[shown.events.index(starts[1]) :]
  first = next(event for event in after if isinstance(event, events.Stepped) and event.trials == removed[0])
  assert first.step >= 20, "it did not go on from its checkpoint"
  assert not (tmp_path / ".token").exists()


@pytest.mark.slow
def test_a_node_without_the_file_system_sends_what_it_has_made(tmp_path, cluster):
  (one,) = group = [trial("0-one", 20)]
  place = tmp_path / "trials" / one.id
  (place / "checkpoints" / "10").mkdir(parents=True)  # of an earlier attempt
  before = set(Path(tempfile.gettempdir()).glob("nin_jax-*"))
  with RayEngine(tmp_path, cluster.address) as engine:
    (tmp_path / ".token").write_text("of another file system")
    shown = sweep(tmp_path, [group], engine)
  assert [row["status"] for row in shown.rows] == ["done"]
  assert sorted(path.name for path in place.iterdir()) == ["config.json", "metrics.jsonl", "result.json", "tensorboard"]
  assert read_config(place).to_dict() == one.config.to_dict()
  result = json.loads((place / "result.json").read_text())
  assert [numbers(result)] == [numbers(row) for row in shown.rows]
  last = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
  assert (last["step"], last["split"]) == (20, "test")
  assert last["accuracy"] == result["test_accuracy"]
  assert (place / "tensorboard" / "events.out.tfevents.0.sent").stat().st_size > 100
  assert Record(tmp_path, [one], retries=0).done(one.id)
  assert set(Path(tempfile.gettempdir()).glob("nin_jax-*")) <= before


@pytest.mark.slow
def test_a_stopped_sweep_saves(tmp_path):
  """On a cluster of this machine alone, with two seeds in a program, while another group waits for its CPUs."""
  group = [trial("0-seed-0", 3000, checkpoints=10**6), trial("1-seed-1", 3000, 1, checkpoints=10**6)]
  waiting = [trial("2-waiting", 20)]

  told = []

  def stop(event):
    told.append(event)
    if isinstance(event, events.Stepped) and event.step > 20:
      os.kill(os.getpid(), signal.SIGTERM)

  with RayEngine(tmp_path, workers=2) as engine:
    address = ray.get_runtime_context().gcs_address
    with pytest.raises(Interrupted) as interrupted:
      sweep(tmp_path, [group, waiting], engine, stop)
    assert interrupted.value.signal == signal.SIGTERM
  assert {event.trials[0] for event in told if isinstance(event, events.Started)} == {"0-seed-0"}, (
    "two groups shared the CPUs of one"
  )
  assert not ray.is_initialized()
  host, _, port = address.rpartition(":")
  with pytest.raises(OSError, match="refused"):
    socket.create_connection((host, int(port)), 5)
  saved = sorted((tmp_path / "trials").glob("*/checkpoints/*"))
  assert [path.parts[-3] for path in saved] == ["0-seed-0", "1-seed-1"]
  assert int(saved[0].name) == int(saved[1].name) > 20
  assert not rows(tmp_path)


@pytest.mark.parametrize(
  ("address", "reason"),
  [
    ("127.0.0.1:{port}", "refused"),
    ("nohost.invalid:6379", r"\(.*\)"),
    ("ray://127.0.0.1:10001", "not of this form"),
    ("somewhere", "not of this form"),
    ("auto", r"\(.*\)"),
  ],
)
def test_a_cluster_that_is_not_there(tmp_path, address, reason, monkeypatch):
  with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]  # free again in a moment
  if address == "auto":
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
  address = address.format(port=port)
  shown = f"127.0.0.1:{port}" if address == "auto" else address
  expected = rf"--ray_address='{shown}': accepted is HOST:PORT .*{reason}"
  with pytest.raises(ConfigError, match=expected) as error, RayEngine(tmp_path, address):
    pass
  assert "\n" not in str(error.value)
  assert not ray.is_initialized()


def test_ray_is_not_installed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with pytest.raises(ConfigError, match=r"--engine='ray': accepted is local; or ray, after .*requirements-ray\.txt"):
    RayEngine(tmp_path)


@pytest.mark.parametrize(
  ("nodes", "workers", "most", "needs"),
  [
    ([{"CPU": 8}], 0, 99, {"CPU": 1}),
    ([{"CPU": 8}], 2, 99, {"CPU": 4}),
    ([{"CPU": 8}], 0, 3, {"CPU": 2}),
    ([{"CPU": 8}, {"CPU": 4}], 0, 3, {"CPU": 4}),
    ([{"CPU": 8}, {}], 1, 3, {"CPU": 8}),
    ([{}], 0, 3, {"CPU": 1}),
    ([{"CPU": 8, "GPU": 2}, {"CPU": 8}], 0, 3, {"CPU": 1, "GPU": 1}),
  ],
)
def test_what_a_group_takes_of_a_node(nodes, workers, most, needs, monkeypatch):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  assert ray_cluster.needs(nodes, workers, most) == needs


def test_an_event_of_some_trials_alone():
  evaluated = events.Evaluated(("a", "b", "c"), 5, (0.1, 0.2, 0.3))
  assert among(evaluated, ("c", "a")) == dataclasses.replace(evaluated, trials=("a", "c"), accuracies=(0.1, 0.3))
  assert among(events.Started(("a",), "here"), ("b",)) is None
  assert among(events.Ended("a", {}), ("b",)) is None
  assert among(events.Ended("a", {}), ("a",)) == events.Ended("a", {})
