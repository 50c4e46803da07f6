"""Counts that are kept between starts: the same as counted, and counted anew whenever anything differs."""

import json

import jax
import numpy as np
import pytest

from configs import inception_digits
from nin_jax.train import budget, kept_count
from nin_jax.train.costs import Costs
from nin_jax.train.kept_count import NAME, kept
from nin_jax.train.setup import set_up


@pytest.fixture
def cache(tmp_path):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
  yield tmp_path / "programs"
  jax.config.update("jax_compilation_cache_dir", before)


def counts(cache):
  return [number for number, _ in json.loads((cache / NAME).read_text()).values()]


def never():
  raise AssertionError("counted anew")


def test_an_equal_key_is_counted_once(cache):
  assert kept({"width": 3, "name": "a"}, lambda: 7) == 7
  assert kept({"name": "a", "width": 3}, never) == 7
  assert kept({"width": 4, "name": "a"}, lambda: 8) == 8
  assert sorted(counts(cache)) == [7, 8]


def test_a_config_s_values_may_be_of_numpy(cache):
  assert kept({"rate": np.float32(0.5)}, lambda: 7) == 7
  assert kept({"rate": np.float32(0.25)}, lambda: 8) == 8
  assert kept({"rate": np.float32(0.5)}, never) == 7


def test_other_code_counts_anew(cache, monkeypatch):
  assert kept({}, lambda: 7) == 7
  monkeypatch.setattr(kept_count, "_code", lambda: "changed")
  assert kept({}, lambda: 9) == 9


@pytest.mark.parametrize(
  "content",
  [
    *("", "[]", "{", '{"KEY": "7"}', '{"KEY": -7}', '{"KEY": true}', '{"KEY": null}', '{"KEY": 7}', '{"KEY": [7]}'),
    *('{"KEY": [8, SUM]}', '{"KEY": ["7", SUM]}', '{"KEY": [7, null]}', '{"KEY": [7.0, SUM]}', '{"OTHER": [7, SUM]}'),
  ],
)
def test_what_is_no_count_is_counted_anew(cache, content):
  kept({}, lambda: 7)
  ((key, (_, checksum)),) = json.loads((cache / NAME).read_text()).items()
  (cache / NAME).write_text(content.replace("KEY", key).replace("SUM", str(checksum)))
  assert kept({}, lambda: 9) == 9
  assert kept({}, never) == 9


def test_the_newest_are_kept(cache, monkeypatch):
  monkeypatch.setattr(kept_count, "MOST", 3)
  for number in range(1, 6):
    kept({"number": number}, lambda number=number: number)
  assert counts(cache) == [3, 4, 5]


def test_without_a_cache_or_one_that_can_be_written_it_is_counted(cache):
  cache.parent.joinpath("file").write_text("")
  for directory in (None, "gs://bucket/programs", str(cache.parent / "file" / "below")):
    jax.config.update("jax_compilation_cache_dir", directory)
    assert [kept({}, lambda: 7), kept({}, lambda: 8)] == [7, 8]
  assert not cache.exists()


def test_a_step_s_flops_are_those_of_its_config(cache, monkeypatch):
  def flops(**fields):
    config = inception_digits.get_config()
    config.update_from_flattened_dict(fields)
    return Costs(set_up(config)).step_flops

  first = flops()
  assert flops(**{"model.inception_1a.conv1x1": 17}) > first
  monkeypatch.setattr(budget, "training_cost", lambda *_: never())
  assert flops() == first
  assert flops(**{"data.batch_size": 2 * inception_digits.get_config().data.batch_size}) == 2 * first
  with pytest.raises(AssertionError, match="counted anew"):
    flops(**{"precision": "bfloat16"})
