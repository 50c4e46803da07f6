"""The table, JSON and CSV of a cost."""

import csv
import io
import json
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export, lax

from nin_jax import cost
from nin_jax.cost import roofline
from nin_jax.cost.table import quantity, seconds

X = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(192, (5, 5), name="a_rather_long_name_for_a_block_of_layers/conv")(x)
    x = nn.relu(nn.Conv(8, (3, 3), strides=(2, 2), kernel_dilation=2, feature_group_count=8, name="grouped")(x))
    return nn.Dense(10, name="head")(x.mean((1, 2)))


def network(train=False, unknown=False):
  variables = jax.eval_shape(Net().init, jax.random.key(0), X)
  forward = lambda variables, x: Net().apply(variables, jnp.sort(x) if unknown else x)
  fn = jax.grad(lambda variables, x: forward(variables, x).sum()) if train else forward
  return cost.analyze(fn, variables, X, params=variables["params"])


@pytest.mark.parametrize(
  ("value", "text"),
  [(0, "–"), (None, "–"), (96, "96"), (999, "999"), (1000, "1.000K"), (999_990, "1.000M"), (222_486_528, "222.5M")],
)
def test_quantities_have_four_digits(value, text):
  assert quantity(value) == text


def test_times_have_their_unit():
  assert [seconds(t) for t in (2.0, 1.234e-3, 5e-6, 5e-8)] == ["2 s", "1.23 ms", "5 µs", "50 ns"]


def test_windows_given_in_numpy_integers_are_written_as_the_others():
  def pooled(of, x):
    with jax.named_scope("pool"):
      padding = ((0, 0), (of(1), of(1)), (of(1), of(1)), (0, 0))
      return lax.reduce_window(x, -jnp.inf, lax.max, (1, of(3), of(3), 1), (1, of(2), of(2), 1), padding)

  numpy, python = (cost.to_json(cost.analyze(lambda x, of=of: pooled(of, x), X)) for of in (np.int64, int))
  assert numpy == python
  (layer,) = json.loads(numpy)["layers"]
  assert (layer["kernel"], layer["strides"], layer["receptive_field"], layer["jump"]) == ([3, 3], [2, 2], 3, 2)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("device", [None, "t4"])
def test_the_table_is_aligned_and_totals(train, device):
  counted = network(train=train)
  text = cost.table(counted, train=train, roofline=device and roofline.device(device))
  body = text.split("\n\n")[0].splitlines()
  assert max(map(len, text.splitlines())) <= 132
  assert len(body) == len(counted.layers) + 4
  column = body[0].index("MACs") + 4
  assert all(line[column : column + 2].strip() == "" for line in body if "─" not in line), "the column is not aligned"
  assert body[-1].startswith("total")
  assert body[-1][:column].endswith(quantity(counted.total["macs"]))
  assert f"{counted.total['macs']:,} MACs" in text
  assert ("backward" in body[0]) == train
  assert ("bound by" in body[0]) == bool(device)
  assert ("Tesla T4" in text) == bool(device)
  assert "3×3/2d2g8" in text


def test_unknown_work_is_named_under_the_table():
  assert "sort (3.072K elements)" in cost.table(network(unknown=True))
  assert "sort" not in cost.table(network())


def test_json_keeps_the_contract():
  counted = network(train=True)
  text = cost.to_json(counted, model="toy", input_shape=(1, 32, 32, 3), roofline=roofline.device("t4"), precision="x")
  read = json.loads(text)
  assert (read["model"], read["input_shape"], read["unit"], read["precision"]) == ("toy", [1, 32, 32, 3], "MACs", "x")
  assert read["total"] == counted.total
  contract = {"path", "op", "kernel", "strides", "groups", "output_shape", "params", "macs", "flops", "activations"}
  contract |= {"bytes", "arithmetic_intensity", "receptive_field", "jump", "backward_macs", "bound_seconds", "bound_by"}
  assert all(contract <= set(layer) for layer in read["layers"])
  for key in ("params", "macs", "flops", "backward_macs", "bytes", "elementwise"):
    assert sum(layer[key] for layer in read["layers"]) == read["total"][key]
  assert read["roofline"]["device"] == "Tesla T4"
  assert text.count("\n") < len(counted.layers) + 20


def test_csv_has_a_line_per_layer_and_the_total():
  counted = network()
  rows = list(csv.DictReader(io.StringIO(cost.to_csv(counted))))
  assert [row["path"] for row in rows] == [*(layer.path for layer in counted.layers), "total"]
  assert rows[-1]["macs"] == str(counted.total["macs"])
  assert rows[1]["kernel"] == "3x3"


def reduce(w, x):
  with jax.named_scope("reduce"):
    return jax.nn.relu(jnp.einsum("nhwc,cd->nhwd", x, w))


def test_parameters_that_nobody_gave_are_unknown():
  w, x = jax.ShapeDtypeStruct((64, 16), jnp.float32), jax.ShapeDtypeStruct((1, 56, 56, 64), jnp.float32)
  counted = cost.analyze(reduce, w, x)
  read = json.loads(cost.to_json(counted))
  assert read["total"]["params"] is read["layers"][0]["params"] is None
  assert counted.by_module(1).total["params"] is counted.subtotal("reduce")["params"] is None
  row, total = list(csv.DictReader(io.StringIO(cost.to_csv(counted))))
  assert (row["params"], total["params"], total["macs"]) == ("", "", str(56 * 56 * 64 * 16))
  table = cost.table(counted)
  assert "parameters unknown   3,211,264 MACs" in table
  assert "params=…" in table
  assert not any(line.startswith("0 parameters") for line in table.splitlines())
  assert table.splitlines()[2].split()[4] == "?"
  known = cost.analyze(reduce, w, x, params={"reduce": {"kernel": w}})
  assert known.total["params"] == known["reduce"].params == 1024
  assert "1,024 parameters" in cost.table(known)
  assert "params=…" not in cost.table(known)
  assert "0 parameters" in cost.table(cost.analyze(reduce, w, x, params={})), "there are none"


def test_the_example_of_the_readme(capsys, tmp_path):
  readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
  (example,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "cost.analyze" in block]
  (tmp_path / "example.py").write_text(example)
  runpy.run_path(str(tmp_path / "example.py"))
  printed = capsys.readouterr().out
  assert printed.splitlines()[2].split()[:6] == ["reduce", "pointwise", "1×1", "56×56×16", "1.024K", "3.211M"]
  assert "1,024 parameters   3,211,264 MACs   6,422,528 FLOPs" in printed


def test_symbolic_dimensions_are_shown():
  b, h, w = export.symbolic_shape("b, h, w")
  f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  counted = cost.analyze(jnp.matmul, f32(b, 8), f32(8, 8))
  assert counted.total["macs"] == 64 * b
  for shown in (cost.table(counted), cost.table(counted, train=True), cost.table(counted.by_module(1))):
    assert "64*b MACs   128*b FLOPs" in shown
  read = json.loads(cost.to_json(counted, input_shape=(b, 8)))
  assert (read["total"]["macs"], read["total"]["flops"], read["input_shape"]) == ("64*b", "128*b", ["b", 8])
  assert (read["layers"][0]["bytes"], read["layers"][0]["arithmetic_intensity"]) == ("64*b + 256", None)
  assert list(csv.DictReader(io.StringIO(cost.to_csv(counted))))[-1]["macs"] == "64*b"
  device = roofline.device("t4")
  assert "64*b" in cost.table(counted, roofline=device)
  assert json.loads(cost.to_json(counted, roofline=device))["layers"][0]["bound_seconds"] is None

  variables = jax.eval_shape(Net().init, jax.random.key(0), X)
  for shape in ((b, 32, 32, 3), (1, h, w, 3), (b, h, h, 3)):
    counted = cost.analyze(Net().apply, variables, f32(*shape))
    assert counted.total["params"] == network().total["params"]
    first = counted.layers[0]
    assert str(first.macs) == str(shape[0] * shape[1] * shape[2] * 25 * 3 * 192)
    assert (first.kernel, first.receptive_field) == ([5, 5], 5)
    assert max(map(len, cost.table(counted).splitlines()[:5])) < 300, "long expressions are cut in the rows"
    assert len(json.loads(cost.to_json(counted))["layers"]) == len(counted.layers)
    assert counted.total["other"] == 0, "a dimension read as a value is no work"


def test_windows_over_symbolic_dimensions_are_unknown_not_compared():
  (h,) = export.symbolic_shape("h")
  pooled = lambda x: jax.named_scope("mean")(lambda x: nn.max_pool(x, (2, 2), (2, 2)).mean((1, 2)))(x)
  layer = cost.analyze(pooled, jax.ShapeDtypeStruct((1, h, h, 3), jnp.float32))["mean"]
  assert layer.op in ("max_pool", "elementwise")
  assert str(layer.output_shape) == "[1, 3]"


def test_what_json_cannot_hold_is_refused():
  with pytest.raises(TypeError, match="expected what JSON can hold"):
    cost.to_json(network(), precision=jnp.float32)


def test_modules_sum_their_layers():
  layer = cost.Layer
  counted = cost.Cost(
    (
      layer("stem", "conv", [3, 3], params=5, macs=7, activations=3, bytes=11, receptive_field=3, jump=1),
      layer("a/conv", "conv", [1, 1], params=2, macs=4, activations=8, bytes=1, receptive_field=9, jump=2),
      layer("a/pool", "max_pool", [3, 3], activations=100, elementwise=6, bytes=2, receptive_field=5, jump=2),
      layer("a/b/odd", "other", other={"sort": 3}, receptive_field=5, jump=2),
    )
  )
  stem, module = counted.by_module(1).layers
  assert stem == counted["stem"]
  assert (module.path, module.op, module.kernel) == ("a", "module", None)
  assert (module.params, module.macs, module.elementwise, module.bytes) == (2, 4, 6, 3)
  assert module.activations == 8, "a pool's are not in the sum, as in the total"
  assert (module.receptive_field, module.jump, module.other) == (9, 2, {"sort": 3})
  assert counted.by_module(1).total == counted.total
  assert counted.by_module(3).layers == counted.layers
  with pytest.raises(ValueError, match="depth=0"):
    counted.by_module(0)
