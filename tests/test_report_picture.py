"""The picture: what is drawn, and that it is the same each time."""

import dataclasses
import io
import random
import re

import numpy as np
import pytest
import sweep_files
from PIL import Image

from nin_jax import report
from nin_jax.report import picture
from nin_jax.report.statistics import Estimate, Setting


def summary(workdir, **more):
  sweep_files.write(workdir, trials=False, **more)
  return report.summarize(report.read(workdir))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  return picture.draw(summary(tmp_path_factory.mktemp("picture")))


def comments(svg):
  """matplotlib writes each text that it draws as a comment beside its outlines."""
  return re.findall(r"<!-- (.*?) -->", svg.decode())


def test_the_axes_the_settings_and_the_knee_are_named(drawn):
  said = comments(drawn["svg"])
  assert {"test accuracy (%)", "multiply-accumulates (MACs) an image", "Pareto front", "the knee"} <= set(said)
  assert {f"reduce_scale={scale}" for scale in sweep_files.SCALES} <= set(said)
  assert "bottleneck: 17 of 18 trials, 1 failed" in said


def test_the_png_is_large_enough_to_print_and_not_empty(drawn):
  image = np.asarray(Image.open(io.BytesIO(drawn["png"])).convert("RGB"))
  assert image.shape[1] >= 1200
  assert (image == np.array([0xD5, 0x5E, 0x00])).all(-1).sum() > 100  # the knee's ring
  assert 0.01 < (image < 250).any(-1).mean() < 0.5


def test_it_is_the_same_each_time(drawn, tmp_path):
  again = picture.draw(summary(tmp_path))
  assert again == drawn
  assert b"<dc:date>" not in drawn["svg"]


@pytest.mark.parametrize("seed", range(3))
def test_names_do_not_cover_each_other(tmp_path, monkeypatch, seed):
  boxes, chance = [], random.Random(seed)
  real = picture._place
  monkeypatch.setattr(picture, "_place", lambda *given: (boxes.append(real(*given)), boxes[-1])[1])
  settings = [
    Setting({"width": i}, (), Estimate(1, 0.9 + chance.random() / 100), {"macs": 1000 + chance.random()})
    for i in range(14)
  ]
  picture.draw(dataclasses.replace(summary(tmp_path), settings=tuple(settings), front=(), knee=None))
  placed = [box for box in boxes if box]
  assert len(placed) >= 10
  assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])


def test_a_name_is_no_mathematics(tmp_path):
  rows = sweep_files.write(tmp_path, scales=(0.25,), seeds=(0,), trials=False)
  name = tmp_path / "sweep.json"
  name.write_text(
    name.read_text().replace('"bottleneck"', '"$\\\\frac"').replace('"model.reduce_scale": 0.25', '"a": "$x_"')
  )
  assert rows
  assert picture.draw(report.summarize(report.read(tmp_path)))["png"]


def test_a_wide_range_of_costs_is_logarithmic(tmp_path):
  rows = sweep_files.write(tmp_path, scales=(0.25, 1.0), trials=False)
  sweep_files.rewrite(tmp_path, [row | {"macs": 2 * 10**6 if "0.25" in row["trial"] else 10**9} for row in rows])
  said = comments(picture.draw(report.summarize(report.read(tmp_path)))["svg"])
  assert {"10M", "100M", "1G"} <= set(said)
