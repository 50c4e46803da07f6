"""Every config file: its network's published counts, and one step of training."""

import functools
import importlib
import pkgutil

import jax
import numpy as np
import pytest

import configs
from nin_jax import data, models
from nin_jax.config import default
from nin_jax.train import budget, setup, steps

NAMES = sorted(module.name for module in pkgutil.iter_modules(configs.__path__))

# GoogLeNet's Table 1: weights without biases, MACs.
TABLE_1 = {
  "stem/conv1": (9_408, 118_013_952),
  "stem/reduce2": (4_096, 12_845_056),
  "stem/conv2": (110_592, 346_816_512),
  "inception_3a": (163_328, 128_049_152),
  "inception_3b": (388_096, 304_267_264),
  "inception_4a": (375_552, 73_608_192),
  "inception_4b": (448_512, 87_908_352),
  "inception_4c": (509_440, 99_850_240),
  "inception_4d": (604_672, 118_515_712),
  "inception_4e": (867_328, 169_996_288),
  "inception_5a": (1_042_432, 51_079_168),
  "inception_5b": (1_442_816, 70_697_984),
  "classifier": (1_024_000, 1_024_000),
}
BLOCKS = [name for name in TABLE_1 if name.startswith("inception")]


def load(name, **changes):
  config = importlib.import_module(f"configs.{name}").get_config()
  config.lock()
  config.update_from_flattened_dict(changes)
  return config


@functools.cache
def network(name, **changes):
  config = load(name, **changes)
  shape = data.spec(config.data).image_shape
  return config, models.build(config.model, shape, config.precision), shape


@functools.cache
def inference(name, **changes):
  """What `experiments.cost` counts."""
  _, built, shape = network(name, **changes)
  return budget.inference_cost(built, shape)


@functools.cache
def weights(name, **changes):
  """Parameters by path, biases left out."""
  _, built, shape = network(name, **changes)
  params = models.variable_shapes(built, shape, train=False)["params"]
  leaves = jax.tree_util.tree_leaves_with_path(params)
  named = {"/".join(key.key for key in path): leaf.size for path, leaf in leaves}
  return {path: size for path, size in named.items() if not path.endswith("bias")}


def weights_below(prefix, name, **changes):
  return sum(size for path, size in weights(name, **changes).items() if path.startswith(f"{prefix}/"))


def macs_of_blocks(**changes):
  counted = inference("googlenet_imagenet", **changes)
  return sum(counted.subtotal(block)["macs"] for block in BLOCKS)


def test_the_files_that_scripts_rely_on():
  assert {
    "nin_cifar10",
    "nin_cifar100",
    "nin_svhn",
    "nin_mnist",
    "nin_imagenet",
    "nin_fashion_mnist",
    "inception_digits",
    "inception_cifar10",
    "googlenet_imagenet",
  } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_what_it_is_and_sets_only_fields_that_there_are(name):
  module = importlib.import_module(f"configs.{name}")
  assert module.__doc__.strip()
  config = module.get_config()
  known = default()
  known.model = models.defaults(config.model.name)
  given, there = (set(each.to_dict()) for each in (config, known))
  assert given == there
  for section in there - {"model", "seed", "precision", "lowering"}:
    assert set(config[section]) == set(known[section])
    for field in config[section]:
      assert type(config[section][field]) is type(known[section][field]), f"{section}.{field}"
  block = {
    field for repeated in ("block", "inception_") for field in (*known.model, *config.model) if repeated in field
  }
  assert set(config.model) - block == set(known.model) - block
  models.build(config.model, data.spec(config.data).image_shape)


@pytest.mark.parametrize(
  ("name", "params", "macs"),
  [
    ("nin_cifar10", 966_986, 222_486_528),
    ("nin_cifar100", 984_356, 223_592_448),
    ("nin_svhn", 1_986_026, 274_235_392),
    ("nin_mnist", 349_674, 50_699_712),
    ("nin_imagenet", 7_595_176, 1_100_188_800),
    ("googlenet_imagenet", 6_998_552, 1_582_671_872),
    ("googlenet_torchvision", 6_624_904, 1_498_376_192),
  ],
)
def test_published_totals(name, params, macs):
  total = inference(name).total
  assert (total["params"], total["macs"], total["flops"]) == (params, macs, 2 * macs)


def test_nin_on_cifar10_layer_by_layer():
  counted = inference("nin_cifar10")
  macs = [layer.macs for layer in counted.layers if layer.macs]
  assert macs == [
    14_745_600,
    31_457_280,
    15_728_640,
    117_964_800,
    9_437_184,
    9_437_184,
    21_233_664,
    2_359_296,
    122_880,
  ]
  assert sum(weights("nin_cifar10").values()) == 965_568
  # 5×5; ceil-mode pool 3×3/2 (+2·1, then two pixels a step); 5×5 (+4·2); pool (+2·2); 3×3 (+2·4).
  spatial = [layer for layer in counted.layers if layer.op in ("conv", "max_pool")]
  assert [layer.receptive_field for layer in spatial] == [5, 7, 15, 19, 27]
  assert [layer.jump for layer in spatial] == [1, 2, 2, 4, 4]


def test_nin_on_imagenet_sees_these_fields():
  # 11/4; pool 3/2 (+2·4); 5 (+4·8); pool (+2·8); 3 (+2·16); pool (+2·16); 3 (+2·32).
  spatial = [layer for layer in inference("nin_imagenet").layers if layer.op in ("conv", "max_pool")]
  assert [layer.receptive_field for layer in spatial] == [11, 19, 51, 67, 99, 131, 195]
  assert [layer.output_shape[1] for layer in spatial] == [54, 27, 27, 13, 13, 6, 6]


@pytest.mark.parametrize("row", TABLE_1)
def test_googlenet_row_by_row(row):
  counted = inference("googlenet_imagenet").subtotal(row)
  assert (weights_below(row, "googlenet_imagenet"), counted["macs"]) == TABLE_1[row]


def test_the_separable_stem_is_the_paper_s():
  assert inference("googlenet_separable").total["macs"] == 1_498_677_248
  assert weights_below("stem/conv1", "googlenet_separable") == 2_712  # "2.7K"
  assert inference("googlenet_separable").subtotal("stem/conv1")["macs"] == 2_712 * 112**2  # "34M"


def test_training_googlenet_adds_two_heads():
  config, built, shape = network("googlenet_imagenet")
  total = budget.training_cost(built, config.train, shape).total
  assert (total["params"], total["macs"]) == (13_378_280, 1_591_044_096)


def test_what_the_reductions_save():
  assert macs_of_blocks() == 1_103_972_352
  without = {"model.reductions": False}
  assert macs_of_blocks(**without) == 3_947_847_680
  whole = inference("googlenet_imagenet", **without).total["macs"]
  assert whole == 1_582_671_872 + 3_947_847_680 - 1_103_972_352  # 4.427G


def test_the_naive_module_piles_up_channels():
  naive = {"model.reductions": False, "model.pool_projection": False}
  widths, channels, macs = load("googlenet_imagenet").model, 192, 0
  for block in BLOCKS:
    side, w = {"3": 28, "4": 14, "5": 7}[block[-2]], widths[block]
    macs += side**2 * channels * (w.conv1x1 + 9 * w.conv3x3 + 25 * w.conv5x5)
    channels += w.conv1x1 + w.conv3x3 + w.conv5x5
  assert channels == 4_944
  assert weights_below("classifier", "googlenet_imagenet", **naive) == 1000 * channels
  assert macs_of_blocks(**naive) == macs == 12_085_441_536
  assert round(inference("googlenet_imagenet", **naive).total["macs"] / 1_582_671_872, 2) == 7.94


def test_what_they_save_in_one_branch():
  branch = lambda **changes: sum(
    inference("googlenet_imagenet", **changes).subtotal(f"inception_3a/{layer}")["macs"]
    for layer in ("reduce5x5", "conv5x5")
  )
  assert branch() == 12_443_648
  assert branch(**{"model.reductions": False}) == 120_422_400


def test_batch_norm_in_the_paper_s_network():
  total = inference("googlenet_imagenet", **{"model.norm": "batch"}).total
  assert (total["params"], total["macs"]) == (7_005_832, 1_582_671_872)


@pytest.fixture
def one_device(monkeypatch, quick_compilation):
  device = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *_: device)


# Small, but not too small for the network: an auxiliary head's 5×5 pool needs 5×5 after four halvings.
SIZES = {"googlenet_imagenet": 80, "googlenet_separable": 80, "googlenet_torchvision": 80, "nin_imagenet": 67}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_every_config_on_digits(name, one_device):
  config = load(name)
  size = SIZES.get(name) or data.spec(config.data).image_shape[0]
  with config.unlocked(), config.ignore_type():
    if config.data.crop:
      config.data.image_size, config.data.crop = size + 8, size
    else:
      config.data.image_size = size
    config.data.update(name="digits", train_split="train[:64]", test_split="test[:16]", batch_size=8)
    config.model.num_classes = 10
    for module in [field for field in config.model if field.startswith("inception_")]:
      if not module.endswith("a") and module != "inception_4d":  # one module a stage, and those with heads
        del config.model[module]
    config.train.steps = 1
  run = setup.set_up(config)
  step = steps.train_step(run.network, run.update, run.pipeline, config, run.total_steps, run.devices)
  batch = steps.shard(run.pipeline.train_batch(0), run.devices)
  first = run.replicate(run.first_state())
  state, metrics = step(first, run.arrays, batch, steps.stop_flags(0, run.devices))
  assert np.isfinite(metrics["loss"])
  assert metrics["spread"] > 0  # not dead
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
  measured = run.evaluate(state, "test")
  assert measured["count"] == 16
  assert np.isfinite(measured["loss"])
