"""Sweeps as spaces: what they give, in which order, and what they are made of."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from nin_jax.errors import ConfigError
from nin_jax.sweep import space

AXES = {
  "rate": space.log_uniform(1e-3, 1.0),
  "width": space.power_of_two(4, 64),
  "parts": space.integers(1, 4),
  "dropout": space.uniform(0.0, 0.5),
  "norm": space.choice(["none", "batch"]),
}

lists = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=4), min_size=1)


@given(lists)
def test_a_product_is_row_major(axes):
  product = space.product(*(space.values(field, values) for field, values in axes.items()))
  expected = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
  assert list(product) == list(space.of(axes)) == expected
  assert len(product) == len(expected)
  assert list(product) == expected  # a second time
  assert {field: found.values for field, found in product.ranges().items()} == {f: tuple(v) for f, v in axes.items()}


@given(lists, lists)
def test_a_chain_has_the_one_then_the_other(first, second):
  chain = space.chain(first, list(space.of(second)))
  assert list(chain) == [*space.of(first), *space.of(second)]
  assert len(chain) == len(space.of(first)) + len(space.of(second))


def test_zip_walks_in_parallel():
  expected = [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
  assert list(space.zip(space.values("a", [1, 2]), space.values("b", [3, 4]))) == expected
  assert list(space.zip({"a": [1, 2], "b": [3, 4]})) == expected
  assert list(space.zip({"a": [1, 2]}, [{"b": 3}, {"b": 4}])) == expected


def test_spaces_within_spaces():
  settings = space.chain({"scale": [0.5, 1.0]}, space.values("off", [True]))
  found = list(space.product(settings, space.values("seed", range(2))))
  one = [{"scale": 0.5}, {"scale": 1.0}, {"off": True}]
  assert found == [{**setting, "seed": seed} for setting in one for seed in (0, 1)]


def test_values_are_python_s_own():
  found = list(space.values("x", np.linspace(0, 1, 3, dtype=np.float32))) + list(space.of([{"x": [np.int64(3), 4]}]))
  assert found == [{"x": 0.0}, {"x": 0.5}, {"x": 1.0}, {"x": (3, 4)}]
  assert [type(overrides["x"]) for overrides in found] == [float, float, float, tuple]
  assert type(found[3]["x"][0]) is int


def test_a_sample_is_the_same_on_any_machine():
  assert list(space.sample(3, AXES, seed=1)) == [
    {"rate": 0.00136743, "width": 4, "parts": 1, "dropout": 0.4314974934663459, "norm": "batch"},
    {"rate": 0.00377175, "width": 64, "parts": 2, "dropout": 0.32392511680107616, "norm": "none"},
    {"rate": 0.184569, "width": 4, "parts": 2, "dropout": 0.42941571342126944, "norm": "none"},
  ]


def test_a_sample_grows_without_changing():
  few, more = list(space.sample(5, AXES)), list(space.sample(20, {**AXES, "other": space.integers(0, 9)}))
  assert [{field: overrides[field] for field in AXES} for overrides in more[:5]] == few
  assert list(space.sample(5, AXES, seed=1)) != few


def test_a_sample_covers_its_ranges():
  points = list(space.sample(4000, AXES))
  assert {point["width"] for point in points} == {4, 8, 16, 32, 64}
  assert {point["parts"] for point in points} == {1, 2, 3, 4}
  assert {point["norm"] for point in points} == {"none", "batch"}
  rates, dropouts = (np.array([point[field] for point in points]) for field in ("rate", "dropout"))
  assert rates.min() >= 1e-3
  assert rates.max() <= 1.0
  assert np.log10(rates).mean() == pytest.approx(-1.5, abs=0.05)
  assert dropouts.mean() == pytest.approx(0.25, abs=0.01)
  assert 0 <= dropouts.min() < 0.01
  assert 0.49 < dropouts.max() <= 0.5
  assert abs(np.corrcoef(np.log(rates), dropouts)[0, 1]) < 0.05
  for field, low, high in (("width", 4, 64), ("parts", 1, 4)):
    counts = np.unique([point[field] for point in points], return_counts=True)[1]
    share = 4000 / len(counts)
    assert np.all(abs(counts - share) < 5 * math.sqrt(share)), (field, low, high)


@pytest.mark.parametrize("found", AXES.values(), ids=AXES)
def test_both_ends_of_a_range_may_come(found):
  ends = found.at(0), found.at(2**64 - 1)
  expected = (found.values[0], found.values[-1]) if isinstance(found, space.Choice) else (found.low, found.high)
  assert ends == pytest.approx(expected) if isinstance(expected[0], float) else ends == expected


def test_the_axes_of_a_search():
  searched = space.product(space.sample(10, AXES), {"seed": range(3)})
  assert searched.ranges() == {**AXES, "seed": space.choice([0, 1, 2])}
  assert len(searched) == 30
  assert searched.factors[0].size == 10


@pytest.mark.parametrize("dependent", [space.zip({"a": [1], "b": [2]}), space.chain({"a": [1]}), space.of([{"a": 1}])])
def test_what_has_no_independent_axes(dependent):
  for found in (dependent, space.product(dependent, {"c": [1]})):
    with pytest.raises(ConfigError, match="no independent axes"):
      found.ranges()


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: space.values("x", []), "x=\\[\\]: accepted is a list of"),
    (lambda: space.values("x", 3), "x=3: "),
    (lambda: space.values("x", "abc"), "x='abc': "),
    (lambda: space.values("x", [None]), "x=\\[None\\]: "),
    (lambda: space.values("x", [{}]), "x="),
    (lambda: space.values("", [1]), "sweep=''"),
    (lambda: space.values(3, [1]), "sweep=3"),
    (lambda: space.values("x", space.uniform(0, 1)), "space.sample"),
    (lambda: space.product(), "space.product="),
    (lambda: space.product({"a": [1], "b": [1]}, {"b": [2]}), "space.product='b': accepted is a field that is set"),
    (lambda: space.zip({"b": [1]}, space.chain({"b": [2]}, {"c": [1]})), "space.zip='b'"),
    (lambda: space.zip({"a": [1, 2], "b": [1]}), r"space.zip=\[2, 1\]: .* \(a: 2, b: 1\)"),
    (lambda: space.zip(), "space.zip="),
    (lambda: space.chain(), "space.chain="),
    (lambda: space.of([]), r"sweep=\[\]: "),
    (lambda: space.of({}), "space.product="),
    (lambda: space.of(None), "sweep=None: "),
    (lambda: space.of("seed"), "sweep='seed': "),
    (lambda: space.of([{"a": 1}, 3]), "sweep="),
    (lambda: space.of([{"a": object()}]), "a=<object"),
    (lambda: len(space.product({"a": range(1000)}, {"b": range(1000)})), "1e\\+06 trials"),
    (lambda: space.sample(0, AXES), "space.sample=0"),
    (lambda: space.sample(2.5, AXES), "space.sample=2.5"),
    (lambda: space.sample(1, {}), "space.sample={}"),
    (lambda: space.sample(1, {"x": [1, 2]}), "x=\\[1, 2\\]: accepted is a range"),
    (lambda: space.sample(1, AXES, seed=-1), "space.sample=-1"),
    (lambda: space.log_uniform(0, 1), "space.log_uniform=\\(0, 1\\)"),
    (lambda: space.log_uniform(1, 1), "space.log_uniform=\\(1, 1\\)"),
    (lambda: space.uniform(2, 1), "space.uniform=\\(2, 1\\)"),
    (lambda: space.uniform(0, math.inf), "space.uniform=\\(0, inf\\)"),
    (lambda: space.integers(1, 2.5), "space.integers=\\(1, 2.5\\)"),
    (lambda: space.power_of_two(3, 8), "space.power_of_two=\\(3, 8\\)"),
    (lambda: space.power_of_two(0, 8), "space.power_of_two=\\(0, 8\\)"),
    (lambda: space.choice([]), "space.choice=\\[\\]"),
  ],
)
def test_mistakes(make, said):
  with pytest.raises(ConfigError, match=said):
    make()


def test_config_files_need_not_wait_for_jax():
  code = "import sys; from nin_jax.sweep import space; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
