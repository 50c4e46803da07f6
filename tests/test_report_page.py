"""What stands in the page, and that it is all of one file that lets nothing in."""

import base64
import hashlib
import json
import re

import pytest
import sweep_files

from nin_jax import report
from nin_jax.report import page as pages
from nin_jax.train import budget


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("page")
  sweep_files.write(workdir, **sweep_files.FEW)
  summary = report.summarize(report.read(workdir))
  return summary, pages.page(summary)


def data(page):
  return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_one_file_that_loads_nothing(sweep):
  _, page = sweep
  assert len(page.encode()) < 6e6
  own = page.replace(re.search(r"<script>(/\*.*?)</script>", page, re.DOTALL)[1], "")  # without plotly.js
  assert "plotly.js v" not in own
  assert not re.search(r"(src|href)\s*=|@import|url\(|https?://", own)
  assert "{{" not in own


def test_the_policy_allows_the_two_scripts_and_no_connection(sweep):
  _, page = sweep
  policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
  scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
  hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
  assert len(scripts) == 2
  assert re.search(r"script-src ([^;]*)", policy)[1] == " ".join(f"'sha256-{value}'" for value in hashes)
  assert policy.startswith("default-src 'none';")


def test_text_from_files_stays_text(sweep):
  _, page = sweep
  assert "<" not in re.search(r'type="application/json">(.*)</script>\n<script>/', page, re.DOTALL)[1]
  assert [row["error"] for row in data(page)["trials"] if row["error"]] == [sweep_files.ERROR]


def test_the_answer_and_the_front_of_each_cost(sweep):
  summary, page = sweep
  shown = data(page)
  assert shown["sentence"] == report.sentence(summary)
  assert shown["progress"] == "11 of 12 trials, 1 failed"
  assert [setting["accuracy"] for setting in shown["settings"]] == [
    pytest.approx(100 * setting.accuracy.mean) for setting in summary.settings
  ]
  fronts = {axis["number"]: axis["front"] for axis in shown["axes"]}
  assert fronts["macs"] == fronts["params"] == fronts["train_flops"] == [0, 1, 3]
  assert fronts["images_per_second"] == [3, 1, 0]  # the wide ones are slow, the narrow ones fast: more is better


def test_a_cost_that_spans_more_than_tenfold_is_logarithmic(tmp_path):
  rows = sweep_files.write(tmp_path, scales=(0.25, 1.0), trials=False)
  sweep_files.rewrite(tmp_path, [row | {"macs": 10**6 if "0.25" in row["trial"] else 10**7 + 1} for row in rows])
  axes = pages.content(report.summarize(report.read(tmp_path)))["axes"]
  assert {axis["number"]: axis["log"] for axis in axes} == {
    "macs": True,
    "params": False,
    "train_flops": False,
    "images_per_second": False,
  }


def test_curves_are_those_of_the_trials_with_the_mean_over_the_ones_that_are_done(sweep):
  _, page = sweep
  curves = data(page)["curves"][0]  # 0.125: seed 2 failed after 120 steps
  assert [len(seed["test"][0]) for seed in curves["seeds"]] == [10, 10, 2]
  assert [len(seed["train"][0]) for seed in curves["seeds"]] == [20, 20, 5]
  epochs, mean = curves["mean"]["test"]
  assert epochs == curves["seeds"][0]["test"][0]
  assert mean[-1] == pytest.approx(100 * (1 - 7.5 / 360), rel=1e-4)


def test_layers_are_those_of_the_cost_model(sweep):
  _, page = sweep
  shown = data(page)
  assert len(shown["networks"]) == 4
  for place, scale in zip(shown["network_of"].values(), sweep_files.FEW["scales"], strict=True):
    params, macs = sweep_files.COSTS[scale]
    for depth in ("modules", "layers"):
      rows = shown["networks"][place][depth]
      assert sum(row["macs"] for row in rows) == macs
      assert sum(row["params"] for row in rows) == params
  assert {row["path"] for row in shown["networks"][0]["modules"]} >= {"stem", "inception_1a", "classifier"}


def test_equal_networks_are_traced_once_and_what_cannot_be_told_is_said(tmp_path, monkeypatch):
  calls = []
  real = budget.inference_cost
  monkeypatch.setattr(budget, "inference_cost", lambda *given: calls.append(1) or real(*given))
  budget._model_cost.cache_clear()
  rows = sweep_files.write(tmp_path, scales=(0.25, 0.5, 1.0), failed=None, waiting=None)
  same = json.loads((tmp_path / "trials" / rows[0]["trial"] / "config.json").read_text())
  same["optimizer"]["learning_rate"] = 0.01
  (tmp_path / "trials" / rows[3]["trial"] / "config.json").write_text(json.dumps(same))
  same["data"]["name"] = "folder:/nowhere"
  (tmp_path / "trials" / rows[6]["trial"] / "config.json").write_text(json.dumps(same))
  content = pages.content(report.summarize(report.read(tmp_path)))
  assert len(calls) == 1
  assert content["network_of"] == {0: 0, 1: 0}
  assert len(content["not_counted"]) == 1
  assert content["not_counted"][0].startswith("data.name='folder:/nowhere'")
  assert content["not_counted"][0].endswith("(reduce_scale=1.0)")


def test_of_many_settings_the_front_alone_has_curves_and_layers(tmp_path, monkeypatch):
  monkeypatch.setattr(pages, "MOST", 1)
  sweep_files.write(tmp_path, scales=(0.25, 0.5))
  content = pages.content(report.summarize(report.read(tmp_path)))
  assert [curve["setting"] for curve in content["curves"]] == [0]
  assert list(content["network_of"]) == [0]
  assert "1 of 2 settings, those on the front" in content["progress"]


def test_a_sweep_whose_trials_lie_elsewhere_has_a_page(tmp_path):
  sweep_files.write(tmp_path, trials=False)
  content = pages.content(report.summarize(report.read(tmp_path)))
  assert content["networks"] == []
  assert content["not_counted"] == ["there is no config.json of a trial (6 settings)"]
  assert pages.page(report.summarize(report.read(tmp_path)))
