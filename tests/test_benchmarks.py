"""The benchmarks' own logic: the same networks on both sides, and what is made of the times. No time is asserted."""

import functools
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from benchmarks import cases, layers, noise, operations, ops, others, throughput, turns
from nin_jax import data, models
from nin_jax.train import budget
from nin_jax.train.compilation import quick

SIZES = {"nin_cifar10": 32, "googlenet_torchvision": 224, "googlenet_imagenet": 224}


def config_and_shape(network: str):
  config = cases.config_of(network, "float32", 2)
  return config, data.spec(config.data).image_shape


@pytest.fixture(scope="module")
def pytorch_networks():
  pytest.importorskip("torch", reason="PyTorch (requirements-bench.txt) is not installed")
  from benchmarks import pytorch_networks

  return pytorch_networks


@pytest.mark.parametrize("network", SIZES)
def test_both_sides_count_the_same_parameters_and_macs(network, pytorch_networks):
  config, shape = config_and_shape(network)
  ours = models.build(config.model, shape)
  for train, cost in (
    (False, budget.inference_cost(ours, shape)),
    (True, budget.training_cost(ours, config.train, shape)),
  ):
    theirs = pytorch_networks.count(network, SIZES[network], train)
    assert theirs == {name: cost.total[name] for name in ("params", "macs")}


@pytest.mark.parametrize("network", SIZES)
def test_both_sides_compute_the_same_function(network, pytorch_networks):
  """With our variables PyTorch's network gives our logits: nothing is left out on either side."""
  import torch

  side = min(SIZES[network], 96)
  ours = models.build(cases.config_of(network, "float32", 2).model, (side, side, 3))
  random = np.random.default_rng(0)
  shapes = models.variable_shapes(ours, (side, side, 3), train=False)
  variables = jax.tree_util.tree_map_with_path(
    lambda path, leaf: random.uniform(*_range(path[-1].key, leaf.shape), leaf.shape).astype(np.float32), shapes
  )
  theirs = pytorch_networks.NETWORKS[network]().eval()
  theirs.auxiliary = None
  modules = [module for module in theirs.modules() if list(module.parameters(recurse=False))]
  for row in budget.inference_cost(ours, (side, side, 3)).layers:
    if not row.macs:
      continue
    params, statistics = (_at(variables.get(kind, {}), row.path) for kind in ("params", "batch_stats"))
    kernel, module = params["kernel"], modules.pop(0)
    kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
    _copy({"weight": kernel.reshape(module.weight.shape), "bias": params.get("bias")}, module)
    if norm := params.get("norm"):
      mean, var = statistics["norm"]["mean"], statistics["norm"]["var"]
      _copy({"weight": norm["scale"], "bias": norm["bias"], "running_mean": mean, "running_var": var}, modules.pop(0))
  assert not modules
  images = random.standard_normal((1, side, side, 3), np.float32)
  with torch.inference_mode():
    expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2))[0].numpy()
  apply = jax.jit(lambda variables, images: ours.apply(variables, images)[0], compiler_options=quick("cpu"))
  assert np.ptp(expected) > 0.1
  np.testing.assert_allclose(apply(variables, images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def _range(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
  """Of random variables that keep the maps of a size."""
  if name == "kernel":
    limit = (6 / np.prod(shape[:-1])) ** 0.5
    return -limit, limit
  return (0.5, 1.5) if name in ("scale", "var") else (-0.2, 0.2)


def _at(tree: dict, path: str) -> dict:
  return functools.reduce(lambda tree, name: tree.get(name, {}), path.split("/"), tree)


def _copy(arrays: dict, module) -> None:
  import torch

  for name, array in arrays.items():
    assert (array is None) == (getattr(module, name) is None)
    if array is not None:
      getattr(module, name).data.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def test_networks_that_differ_are_refused():
  ours = {"inference": {"params": 1, "macs": 2}, "training": {"params": 1, "macs": 2}}
  throughput.check_equal(ours, {**ours, "threads": 2})
  with pytest.raises(AssertionError, match="training"):
    throughput.check_equal(ours, {**ours, "training": {"params": 1, "macs": 3}})


def test_sides_take_turns():
  order = []
  measured = turns.in_turns({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 3)
  assert order == ["a", "b"] * 3
  assert measured == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_ratio_is_of_neighbours_in_time():
  """Both sides get ten times slower in the last two rounds: medians of either alone would say 20."""
  ratio = turns.ratio([200.0, 300.0, 20.0, 40.0, 10.0], [100.0, 100.0, 10.0, 10.0, 10.0])
  assert (ratio.median, ratio.least, ratio.most) == (2.0, 1.0, 4.0)


def test_a_summary_has_medians_ratios_and_the_part_of_the_peak():
  counts = {"params": 5, "macs": 7}
  about = {
    "inference": counts,
    "training": {"params": 6, "macs": 8},
    "step_flops": {"inference": 400.0, "training": 1200.0},
    "platform": "cpu",
    "device": "cpu",
  }
  measured = {"nin_jax": [10.0, 40.0, 30.0], "pytorch": [10.0, 20.0, 10.0]}
  memory = {side: {"peak_bytes": 1, "device_peak_bytes": None} for side in measured}
  steps = dict.fromkeys(measured, 2)
  measured["peak"] = [10_000.0, 10_000.0, 20_000.0]
  found = throughput.summary(about, "training", 4, measured, steps, memory)
  assert (found["params"], found["macs"]) == (6, 8)
  assert found["sides"]["nin_jax"]["images_per_second"] == 30.0
  assert found["ratios"]["pytorch"] == {"median": 2.0, "least": 1.0, "most": 3.0}
  assert set(found["sides"]) == {"nin_jax", "pytorch"}
  assert found["of_peak"] == pytest.approx(300 * 30 / 20_000)


@pytest.mark.parametrize("network", ["nin_cifar10", "googlenet_imagenet"])
def test_the_operations_are_the_whole_network(network):
  config, shape = config_and_shape(network)
  found = layers.of_network(config, shape, 2)
  total = budget.inference_cost(models.build(config.model, shape), shape).total["macs"]
  assert sum(operation["macs"] * len(operation["paths"]) for operation in found) == 2 * total
  assert [operation["paths"] for operation in found if not operation["dx"]] == [found[0]["paths"]]
  pools = [path for operation in found if operation["op"] == operations.POOL for path in operation["paths"]]
  assert len(pools) == {"nin_cifar10": 2, "googlenet_imagenet": 13}[network]


def test_a_shape_of_ones_own():
  operation = layers.of_shape("64x32x31x192:5x3/2:160")
  assert operation["output"] == [64, 16, 16, 160]
  assert operation["macs"] == 64 * 16 * 16 * 160 * 5 * 3 * 192
  assert layers.of_shape("8x14x14x64:max3x3/2")["output"] == [8, 7, 7, 64]
  assert layers.of_shape("8x14x14x64:1x1:32")["op"] == operations.POINTWISE
  grouped = layers.of_shape("8x14x14x64:3x3/2:96/32")
  assert grouped["groups"] == 32
  assert grouped["macs"] == 8 * 7 * 7 * 96 * 3 * 3 * 2
  for wrong in ("64x32x32x192:5x5", "64x32x32x192:max3x3:4", "32x32x192:1x1:4", "1x4x4x6:3x3:6/4", "1x4x4x6:3x3:6/0"):
    with pytest.raises(ValueError, match="accepted"):
      layers.of_shape(wrong)


@pytest.mark.parametrize("direction", ["forward", "dx", "dw"])
def test_the_peak_is_the_product_that_a_1x1_is(direction):
  operation = layers.of_shape("4x6x5x3:1x1:7")
  m, k, n = operations.product(operation, direction)
  assert m * k * n == operation["macs"]
  results = {"forward": 4 * 6 * 5 * 7, "dx": 4 * 6 * 5 * 3, "dw": 3 * 7}
  assert m * n == results[direction]


def test_means_are_geometric_and_leave_small_1x1_out():
  def result(macs: float, ours: float, peak: float) -> dict:
    rounds = {"nin_jax": [ours] * 3, "matmul of nin_jax": [peak] * 3, "xla": [2 * ours] * 3}
    directions = {"forward": {"rounds": rounds, "peak": "matmul of nin_jax"}}
    return {"precision": "float32", "op": operations.POINTWISE, "macs": macs, "directions": directions}

  rows = ops.means([result(2e8, 1.0, 0.5), result(1e8, 1.0, 2.0), result(9e7, 1.0, 100.0)])
  by = {row["against"]: row for row in rows}
  assert by["peak"]["mean"] == pytest.approx(1.0)
  assert (by["peak"]["least"], by["peak"]["count"]) == (0.5, 2)
  assert by["xla"]["mean"] == pytest.approx(2.0)
  assert "pytorch" not in by


def test_noise_stands_in_for_a_data_set_that_is_not_there(monkeypatch, tmp_path):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  config = cases.config_of("nin_cifar10", "bfloat16", 16)
  setup = noise.set_up_on_noise(config)
  assert setup.pipeline.arrays["train"]["images"].shape == (16 * cases.BATCHES_OF_NOISE, 32, 32, 3)
  images, labels = setup.pipeline.load_train(setup.arrays, jnp.arange(64), jnp.arange(64), jax.random.key(0))
  assert images.mean() == pytest.approx(0.0, abs=1e-3)
  assert images.std() == pytest.approx(1.0, abs=1e-3)
  assert set(np.unique(labels)) == set(range(10))


def test_what_others_take_is_noticed():
  """A process that computes is counted as another, and not counted where it is one's own."""
  spin = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
  with subprocess.Popen([sys.executable, "-c", spin]) as neighbour:
    try:
      alone, together = others.Others([]), others.Others([neighbour.pid])
      if alone.part() is None:
        pytest.skip("this system has no /proc/stat")
      time.sleep(1.0)
      assert alone.part() > together.part()
    finally:
      neighbour.kill()
  assert others.warning([0.01, None]) is None
  assert "30%" in others.warning([0.3, 0.1])


def test_our_side_alone_from_the_command_line(tmp_path):
  path = tmp_path / "made" / "throughput.json"
  flags = ["--networks", "nin_cifar10", "--precisions", "float32", "--batch", "2", "--rounds", "2", "--ours_alone"]
  command = [sys.executable, "-m", "benchmarks.throughput", *flags, "--seconds", "0.01", "--json", path]
  subprocess.run(command, cwd=ROOT, check=True, timeout=120)
  told = json.loads(path.read_text())
  assert told["cores"] >= 1
  assert told["versions"]["jax"] == jax.__version__
  assert [result["mode"] for result in told["results"]] == ["inference", "training"]
  for result in told["results"]:
    assert (result["params"], result["macs"]) == (966_986, 222_486_528)
    assert result["ratios"] == {}
    side = result["sides"]["nin_jax"]
    assert len(side["rounds"]) == 2
    assert min(side["rounds"]) <= side["images_per_second"] <= max(side["rounds"])
    assert side["peak_bytes"] > 2**27
    assert result["of_peak"] > 0
