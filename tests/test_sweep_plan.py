"""Plans: trials are resolved, checked and counted; written, read and told apart."""

import json
import re

import pytest
from test_configs import load

from configs import googlenet_imagenet, inception_cifar10, inception_digits, nin_fashion_mnist
from nin_jax import cost, models
from nin_jax.errors import ConfigError
from nin_jax.sweep import estimate, limits, naming, plan_file, plan_table, planning, space
from nin_jax.sweep.plan import Plan, groups
from nin_jax.train import budget


@pytest.fixture(autouse=True)
def device(monkeypatch):
  """A CPU whose speed is not measured."""
  monkeypatch.setattr(estimate, "device", lambda precision: cost.roofline.Device("cpu", 4e11, 1e11))


def make(sweep, name="inception_digits", changes=None, **options) -> Plan:
  """The plan of a sweep; of the digits' network only the first module is left, and ten batches of images."""
  config = load(name)
  if name == "inception_digits":
    with config.unlocked():
      for module in ("inception_1b", "inception_2a", "inception_2b"):
        del config.model[module]
    config.data.train_split = "train[:640]"
  config.update_from_flattened_dict(changes or {})
  return planning.make(space.of(sweep), config, "some", f"configs/{name}.py", **options)


def overrides(plan):
  return [trial.overrides for trial in plan.trials]


@pytest.fixture(scope="module")
def widths():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(estimate, "device", lambda precision: cost.roofline.Device("cpu", 4e11, 1e11))
    return make({"model.reduce_scale": [0.125, 1], "seed": range(3)})


def test_googlenet_with_and_without_reductions():
  plan = make(googlenet_imagenet.sweep_reductions(), "googlenet_imagenet")
  with_them, without = plan.trials
  assert (with_them.params, with_them.macs) == (6_998_552, 1_582_671_872)
  assert without.macs == 1_582_671_872 + 3_947_847_680 - 1_103_972_352  # 4.427G
  assert without.flops == 2 * without.macs
  trained = 1_591_044_096  # both auxiliary heads
  # Forward and backward, but for the gradient of the images: the first convolution has one product less.
  assert with_them.train_flops == 2_400_000 * 32 * 2 * (3 * trained - 118_013_952)
  assert "1.583G" in plan_table.table(plan)
  assert "4.427G" in plan_table.table(plan)


def test_nin_s_published_counts_come_out_too():
  widths = {"model.block1.features": [(96, 64, 48)], "model.block2.features": [(128, 96, 48)]}
  plan = make(widths, "nin_mnist")  # as they are
  assert (plan.trials[0].params, plan.trials[0].macs) == (349_674, 50_699_712)
  cifar = make({"model.num_classes": [10]}, "nin_cifar10").trials[0]
  assert (cifar.params, cifar.macs) == (966_986, 222_486_528)


def test_a_trial_counts_what_its_own_config_does(widths):
  for trial in widths.trials[::3]:
    network = models.build(trial.config.model, (8, 8, 1))
    inference, training = (
      budget.inference_cost(network, (8, 8, 1)).total,
      budget.training_cost(network, trial.config.train, (8, 8, 1)).total,
    )
    assert (trial.params, trial.macs) == (inference["params"], inference["macs"])
    steps = 200  # 20 epochs of 10
    assert trial.train_flops == steps * 64 * training["train_flops"]
    assert trial.seconds > 0
  demo = planning.make(space.of({"seed": [0]}), load("inception_digits")).trials[0]
  assert (demo.params, demo.macs) == (128_298, 3_515_968)


def test_trials_are_resolved_typed_and_named(widths):
  assert [trial.id for trial in widths.trials] == [
    "000-reduce_scale-0.125-seed-0",
    "001-reduce_scale-0.125-seed-1",
    "002-reduce_scale-0.125-seed-2",
    "003-reduce_scale-1-seed-0",
    "004-reduce_scale-1-seed-1",
    "005-reduce_scale-1-seed-2",
  ]
  last = widths.trials[-1]
  assert last.overrides == {"model.reduce_scale": 1.0, "seed": 2}
  assert type(last.overrides["model.reduce_scale"]) is float  # 1 in the sweep
  assert (last.config.model.reduce_scale, last.config.seed, last.seed) == (1.0, 2, 2)
  assert last.setting == {"model.reduce_scale": 1.0}
  assert widths.base.model.reduce_scale == 1.0
  assert widths.base.seed == 0
  expected = widths.base.copy_and_resolve_references()
  expected.seed = 2
  assert last.config == expected


def test_seeds_share_a_program_and_a_trace(widths, monkeypatch):
  assert [[trial.id[:3] for trial in group] for group in groups(widths.trials)] == [
    ["000", "001", "002"],
    ["003", "004", "005"],
  ]
  apart = groups([widths.trials[i] for i in (0, 4, 1, 5)])
  assert [[trial.id[:3] for trial in group] for group in apart] == [["000", "001"], ["004", "005"]]
  counted = []
  real = budget.training_cost
  monkeypatch.setattr(budget, "training_cost", lambda *args: counted.append(args) or real(*args))
  plan = make({"optimizer.learning_rate": [0.1, 0.2], "model.reduce_scale": [0.6, 0.3], "seed": range(20)})
  assert len(plan.trials) == 80
  assert len(counted) == 2


def test_any_kind_of_field():
  sweep = {
    "model.inception_1a.reduce3x3": [8],
    "model.stem_features": [[16], (16, 8)],  # a list will do
    "data.normalize": ["scale"],
    "model.reductions": [True],
  }
  plan = make(sweep)
  assert plan.trials[1].config.model.stem_features == (16, 8)
  assert plan.trials[0].config.model.inception_1a.reduce3x3 == 8
  assert plan.trials[1].id == "001-reduce3x3-8-stem_features-16x8-normalize-scale-reductions-True"


def test_duplicates_are_dropped_and_counted():
  twice = space.chain({"model.reduce_scale": [0.5, 1, 1.0]}, {"seed": [0, 1]}, [{}])
  plan = make(twice)
  assert overrides(plan) == [{"model.reduce_scale": 0.5}, {"model.reduce_scale": 1.0}, {"seed": 1}]
  assert plan.duplicates == 3
  assert "3 trials in 2 programs; 3 duplicates dropped" in plan_table.table(plan)


def test_the_command_line_holds():
  plan = make({"model.reduce_scale": [0.25, 0.5], "seed": range(3)}, changes={"seed": 7}, held=["seed", "data.name"])
  assert [trial.seed for trial in plan.trials] == [7, 7]
  assert overrides(plan) == [{"model.reduce_scale": 0.25}, {"model.reduce_scale": 0.5}]
  assert (plan.held, plan.duplicates) == (("seed",), 4)
  assert "held by the command line, whatever the sweep says: seed=7" in plan_table.table(plan)


def test_limits_leave_out_and_count(widths):
  sweep, small = {"model.reduce_scale": [1, 0.125, 0.5], "seed": [0, 1]}, widths.trials[0]
  plan = make(sweep, max_macs=small.macs, max_params=10**9)
  assert overrides(plan) == [{"model.reduce_scale": 0.125, "seed": 0}, {"model.reduce_scale": 0.125, "seed": 1}]
  assert [trial.id[:3] for trial in plan.trials] == ["000", "001"]
  assert plan.left_out == {"max_macs": 4}
  assert "4 left out by --max_macs=153.4K" in plan_table.table(plan)
  both = make(sweep, max_macs=widths.trials[3].macs - 1, max_params=small.params)
  assert both.left_out == {"max_macs": 2, "max_params": 2}
  for name, least in (("max_macs", small.macs), ("max_params", small.params)):
    with pytest.raises(ConfigError, match=f"--{name}={least - 1}: accepted is {least} or more"):
      make(sweep, **{name: least - 1})


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("1.5G", 1_500_000_000),
    ("300M", 300_000_000),
    ("2e9", 2_000_000_000),
    ("128_298", 128_298),
    ("7", 7),
    ("0.1k", 100),
    (".5M", 500_000),
    ("1e3K", 1_000_000),
    ("128298.9", 128_298),
    ("4.43T", 4_430_000_000_000),
  ],
)
def test_limits_as_they_are_typed(text, value):
  assert limits.limit("--max_macs", text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1.5 GB", "nan", "inf", "1e999999999", "0.5", "1.5GM", "1,5G"])
def test_limits_that_are_none(text):
  with pytest.raises(ConfigError, match="--max_params="):
    limits.limit("--max_params", text)


@pytest.mark.parametrize(
  ("sweep", "said"),
  [
    ({"model.reduce_scal": [1, 2]}, ["model.reduce_scal=1: .*did you mean reduce_scale\\? \\(all trials\\)"]),
    ({"optimiser.learning_rate": [1]}, ["optimiser=1: .*did you mean optimizer\\?"]),
    ({"seed.x": [1]}, ["seed.x=1: accepted is a field of a section; seed is none"]),
    ({"model.inception_9z.conv3x3": [1]}, ["model.inception_9z=1: .*inception_"]),
    ({"model": ["nin"]}, ["model='nin': accepted is overrides of fields of this section"]),
    ({"seed": [0, 0.5]}, ["seed=0.5: accepted is a whole number \\(trial seed=0.5\\)"]),
    ({"train.epochs": ["1"], "seed": range(3)}, ["train.epochs='1': accepted is a number \\(all trials\\)"]),
    ({"seed": [0, -1]}, ["seed=-1: .*\\(trial seed=-1\\)"]),
    (
      {"model.reduce_scale": [0.5, -0.5], "seed": range(3)},
      ["model.reduce_scale=-0.5: .*1048576 \\(trial reduce_scale=-0.5, seed=0 and 2 more\\)"],
    ),
    (
      {"model.reduce_scale": [-1.0, 1.0], "data.crop": [0, 9]},
      ["model.reduce_scale=-1.0: .*scale=-1, crop=0 and 1 more", "data.crop=9: .*scale=-1, crop=9 and 1 more"],
    ),
    ({"train.epochs": [1e9, 1.0]}, ["train.epochs=1000000000.0: accepted is at most"]),
    ({"train.init_from": ["/no/such/run"]}, ["train.init_from="]),
    ({"data.name": ["no_such_set"]}, ["data.name='no_such_set'"]),
    ({"seed": range(-15, 0)}, [f"seed={seed}: " for seed in range(-15, -5)] + ["--sweep='5 more'"]),
  ],
  ids=str,
)
def test_impossible_trials_are_refused_by_name(sweep, said):
  with pytest.raises(ConfigError) as raised:
    make(sweep, begins=True)
  assert len(raised.value.mistakes) == len(said)
  for mistake, words in zip(raised.value.mistakes, said, strict=True):
    assert re.match(words, str(mistake)), mistake


def test_a_set_that_is_not_prepared(tmp_path):
  name, changes = "inception_fashion_mnist", {"data.dir": str(tmp_path)}
  plan = make({"seed": [0, 1]}, name, changes)
  assert {(trial.train_flops, trial.seconds) for trial in plan.trials} == {(None, None)}
  table = plan_table.table(plan)
  assert "–" in table
  assert "known once the data set is prepared" in table
  assert make({"train.steps": [10]}, name, changes).trials[0].train_flops > 0
  with pytest.raises(ConfigError, match=r"data.name='fashion_mnist': .*prepare_data"):
    make({"train.steps": [10]}, name, changes, prepared=True)


def test_names():
  fields = ["model.a.width", "model.b.width", "seed", "model.c.seed", "train.epochs"]
  assert list(naming.short_names(fields).values()) == ["a.width", "b.width", "seed", "c.seed", "epochs"]
  named = lambda **values: naming.trial_id(4, values, {name: name for name in values})
  assert named(rate=1e-5, flag=False, text="a/b c", minus=-0.5) == "004-rate-1e-05-flag-False-text-a_b_c-minus--0.5"
  assert named() == "004-base"
  assert naming.trial_id(1234, {"x": 1 / 3}, {"x": "x"}) == "1234-x-0.3333"
  long = named(**{f"field_{i}": i for i in range(30)})
  assert len(long) <= naming.MOST
  assert re.fullmatch(r"[A-Za-z0-9._-]+", long)


@pytest.mark.parametrize(
  ("name", "measured"), [("inception_digits", 0.032), ("nin_fashion_mnist", 0.29), ("inception_fashion_mnist", 0.096)]
)
def test_the_estimate_is_near_what_was_measured(name, measured):
  once, twice = planning.make(space.of({"train.steps": [1000, 2000]}), load(name)).trials
  assert 1 / 1.5 < (twice.seconds - once.seconds) / 1000 / measured < 1.5
  assert 4 < 2 * once.seconds - twice.seconds < 20  # before the first step


def test_an_accelerator_of_which_nothing_is_known(monkeypatch):
  monkeypatch.undo()
  estimate.device.cache_clear()
  monkeypatch.setattr(estimate, "_kind", lambda: "abacus")
  assert estimate.device("float32") is None
  estimate.device.cache_clear()
  monkeypatch.setattr(estimate, "_kind", lambda: "NVIDIA H100 80GB HBM3")
  assert estimate.device("bfloat16").peak_flops > 5e14
  estimate.device.cache_clear()


def test_the_sweeps_of_the_configs():
  widths = list(space.of(inception_digits.sweep_bottleneck()))
  assert len(widths) == 30
  assert len({overrides["model.reduce_scale"] for overrides in widths}) == 6
  assert {overrides["seed"] for overrides in widths} == {0, 1, 2, 3, 4}
  cccp = make(list(space.of(nin_fashion_mnist.sweep_cccp()))[::3], "nin_fashion_mnist")
  assert len({trial.params for trial in cccp.trials}) == 5
  assert 350_388 in {trial.params for trial in cccp.trials}
  assert set(inception_cifar10.sweep_random().ranges()) >= {"optimizer.learning_rate"}


def test_written_and_read(widths, tmp_path):
  directory = plan_file.write(widths, tmp_path / "new" / "sweep")
  assert [path.name for path in directory.iterdir()] == ["sweep.json"]
  assert plan_file.read(directory) == widths
  written = json.loads((directory / "sweep.json").read_text())
  assert set(written["trials"][0]) == {
    *("trial", "overrides", "seed", "params", "macs", "flops", "train_flops", "seconds")
  }
  assert (written["sweep"], written["config"]) == ("some", "configs/inception_digits.py")


def test_tuples_come_back(tmp_path):
  plan = make([{"model.stem_features": (16, 8), "optimizer.boundaries": (0.5, 1.0)}], max_macs=10**9)
  assert plan_file.read(plan_file.write(plan, tmp_path)) == plan


def test_the_same_sweep_goes_on(widths, tmp_path):
  plan_file.write(widths, tmp_path)
  sweep = {"model.reduce_scale": [0.125, 1], "seed": range(3)}
  plan_file.write(make(sweep, changes={"log.every_steps": 7, "checkpoint.keep": 1}, max_macs=10**12), tmp_path)
  assert plan_file.read(tmp_path).base.log.every_steps == 7


@pytest.mark.parametrize(
  ("sweep", "changes", "said"),
  [
    ({"model.reduce_scale": [0.125, 1], "seed": range(2)}, {}, r"\(6 trials → 4\)"),
    ({"model.reduce_scale": [0.125, 2], "seed": range(3)}, {}, "trial 003-reduce_scale-1-seed-0 → 003-reduce_scale-2"),
    (
      {"model.reduce_scale": [0.1250001, 1], "seed": range(3)},
      {},
      r"'model.reduce_scale': 0.125.* and 0 more|0.1250001",
    ),
    ({"model.reduce_scale": [0.125, 1], "seed": range(3)}, {"train.epochs": 3.0}, r"train.epochs 20.0 → 3.0"),
  ],
)
def test_another_sweep_is_refused(widths, tmp_path, sweep, changes, said):
  plan_file.write(widths, tmp_path)
  before = (tmp_path / "sweep.json").read_bytes()
  with pytest.raises(ConfigError, match=f"--workdir=.*the sweep that is in this one.*({said})"):
    plan_file.write(make(sweep, changes=changes), tmp_path)
  assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_directory_with_a_run_is_refused(widths, tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ConfigError, match="this one holds a run"):
    plan_file.write(widths, tmp_path)
  (tmp_path / "file").write_text("")
  for wrong in (tmp_path / "file", tmp_path / "file" / "below", "gs://bucket/sweep"):
    with pytest.raises(ConfigError, match="--workdir="):
      plan_file.write(widths, wrong)


def test_a_sweep_json_that_is_not_whole(widths, tmp_path):
  whole = plan_file.write(widths, tmp_path) / "sweep.json"
  text = whole.read_text()
  damaged = [
    text[:100],
    "",
    "[]",
    "3",
    "{}",
    text.replace('"trials"', '"trails"'),
    text.replace("model.reduce_scale", "x"),
  ]
  damaged += [text.replace('"overrides": {', '"overrides": [{', 1), "[" * 100_000, text.replace('"macs"', '"max"')]
  for content in damaged:
    whole.write_text(content)
    with pytest.raises(ConfigError, match=r"--workdir=.*whose sweep\.json is whole"):
      plan_file.read(tmp_path)
    with pytest.raises(ConfigError, match=r"--workdir="):
      plan_file.write(widths, tmp_path)
  with pytest.raises(ConfigError, match=r"whose sweep\.json is whole"):
    plan_file.read(tmp_path / "nowhere")


def test_a_table_in_a_hundred_columns(widths):
  lines = plan_table.table(widths).splitlines()
  assert len(lines) == 2 + 1 + 6 + 1 + 1
  assert max(map(len, lines)) <= 100
  assert lines[1].split() == ["trial", "reduce_scale", "seed", "params", "MACs", "FLOPs", "estimated"]
  assert lines[6].split()[:5] == ["003", "1", "0", "10.97K", "633.6K"]
  assert lines[-1].startswith("6 trials in 2 programs; about ")
  for seconds, words in ((7, "7 s"), (99, "99 s"), (100, "2 min"), (3600 * 2.25, "2.2 h"), (3600 * 47, "47 h")):
    assert plan_table.duration(seconds) == words
  assert plan_table.duration(86400 * 12) == "12 days"


def test_what_each_device_normalises_alone_is_trained_alone():
  config = inception_digits.get_config()
  config.train.sync_batch_norm = False
  plan = planning.make(space.of({"seed": [0, 1]}), config)
  assert [len(group) for group in groups(plan.trials)] == [1, 1]
