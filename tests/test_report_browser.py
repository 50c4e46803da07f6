"""The page in a real browser: Debian's chromium, with the network off."""

import os
import re
import shutil

import pytest
import sweep_files

from nin_jax import report

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
  """The page, opened at 1280×900; what it said on the console and which connections it tried."""
  workdir = tmp_path_factory.mktemp("browser")
  sweep_files.write(workdir, **sweep_files.FEW)
  made = report.write(workdir)
  root = ["--no-sandbox"] if os.geteuid() == 0 else []
  said, asked = [], []
  with sync_api.sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*root, "--disable-gpu"])
    page = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True).new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(made.page.as_uri())
    page.wait_for_selector("#layers .bars path", state="attached")
    yield page, said, asked
    browser.close()


@pytest.fixture
def page(opened):
  return opened[0]


def axis_title(page, plot):
  return page.locator(f"#{plot} .xtitle").text_content()


def column(page, title):
  """The cells of a column of the trials that are shown."""
  titles = [text.strip() for text in page.locator("#trials th").all_text_contents()]
  return page.locator(f"#trials tbody tr:not([hidden]) td:nth-child({titles.index(title) + 1})").all_text_contents()


def test_it_opens_without_a_word_and_without_a_connection(opened):
  page, said, asked = opened
  assert said == []
  assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
  assert page.title() == "bottleneck: accuracy against cost"
  assert "model.reduce_scale=0.25: 99.07 ± 0.40 % at 1.343M MACs" in page.locator("#sentence").text_content()
  assert "11 of 12 trials, 1 failed" in page.locator("#progress").text_content()


def test_each_setting_and_each_seed_has_a_marker_and_its_interval(page):
  traces = page.locator("#scatter .scatterlayer .trace")
  counts = [traces.nth(i).locator(".point").count() for i in range(traces.count())]
  assert sorted(counts) == [0, 1, 4, 10]  # the front's line, the knee, means, seeds
  assert page.locator("#scatter .errorbar").count() == 4
  halves = page.evaluate("document.getElementById('scatter').data[2].error_y.array")
  assert halves[1] == pytest.approx(0.3984, abs=1e-3)


def test_another_cost_changes_the_axis_and_the_places(page):
  assert axis_title(page, "scatter") == "multiply-accumulates (MACs) an image"
  page.select_option("#axis", label="parameters")
  assert axis_title(page, "scatter") == "parameters"
  assert page.evaluate("document.getElementById('scatter').data[2].x") == [
    sweep_files.COSTS[scale][0] for scale in sweep_files.FEW["scales"]
  ]
  page.select_option("#axis", index=3)
  assert "images/s" in axis_title(page, "scatter")
  front = page.evaluate("document.getElementById('scatter').data[1].x")
  assert len(front) == 3
  assert front == sorted(front)
  page.select_option("#axis", index=0)


def test_a_click_on_a_head_sorts_by_number_with_nothing_last(page):
  page.click("#trials th:has-text('test accuracy, %')")
  up = column(page, "test accuracy, %")
  assert up[-2:] == ["–", "–"]
  assert [float(cell) for cell in up[:-2]] == sorted(float(cell) for cell in up[:-2])
  page.click("#trials th:has-text('test accuracy, %')")
  down = column(page, "test accuracy, %")
  assert down[-2:] == ["–", "–"]
  assert down[0] == up[-3]
  assert page.get_attribute("#trials th:has-text('test accuracy, %')", "aria-sort") == "descending"
  page.click("#trials th:has-text('MACs')")
  assert page.get_attribute("#trials th:has-text('test accuracy, %')", "aria-sort") == "none"
  macs = column(page, "MACs")
  assert macs.index("980.3K") < macs.index("1.343M")  # by value, not by letters


def test_the_filter_keeps_what_has_all_its_words(page):
  page.fill("#filter", "reduce_scale=1.0")
  assert len(column(page, "trial")) == 3
  assert page.locator("#shown").text_content() == "3 of 12 trials"
  page.fill("#filter", "failed")
  assert column(page, "error") == [sweep_files.ERROR]  # as text, with its tags
  page.fill("#filter", "no such trial")
  assert column(page, "trial") == []
  page.fill("#filter", "")
  assert len(column(page, "trial")) == 12


def test_another_setting_changes_the_layers(page):
  bars = lambda: page.evaluate("document.getElementById('layers').data.map(trace => trace.x)")
  first = bars()
  assert [sum(bar) for bar in first] == [sweep_files.COSTS[0.25][1], sweep_files.COSTS[1.0][1]]  # the knee and the best
  page.select_option("#network", label="reduce_scale=0.125")
  page.select_option("#beside", label="nothing")
  assert [sum(bar) for bar in bars()] == [sweep_files.COSTS[0.125][1]]
  page.select_option("#quantity", "params")
  assert [sum(bar) for bar in bars()] == [sweep_files.COSTS[0.125][0]]
  assert axis_title(page, "layers") == "parameters"
  page.select_option("#depth", "layers")
  assert len(bars()[0]) > len(first[0])
  assert page.locator("#layers .bars .point").count() == len(bars()[0])


def test_curves_are_drawn_and_can_be_hidden(page):
  lines = lambda plot: page.locator(f"#{plot} .scatterlayer path.js-line").count()
  assert lines("accuracy") == lines("loss") == 11 + 4
  page.click("#legend button:has-text('reduce_scale=0.25')")
  assert lines("accuracy") == lines("loss") == 11 + 4 - 4
  page.click("#legend button:has-text('reduce_scale=0.25')")
  assert lines("accuracy") == 11 + 4


def test_nothing_is_wider_than_a_phone(opened):
  page, said, _ = opened
  page.set_viewport_size({"width": 420, "height": 900})
  plot = page.locator("#scatter svg.main-svg").first
  sync_api.expect(plot).to_have_attribute("width", re.compile(r"^(3\d\d|4[01]\d)(\.\d+)?$"))
  assert page.evaluate("document.documentElement.scrollWidth") <= 420
  assert not re.search("error", " ".join(said), re.IGNORECASE)
  page.set_viewport_size({"width": 1280, "height": 900})
