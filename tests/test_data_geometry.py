import numpy as np
import pytest

from nin_jax.data import geometry


def test_areas_aspects_and_places_are_uniform():
  width, height, area, aspect = 500, 400, (0.1, 0.2), (0.5, 2.0)  # always fits: nothing is drawn again
  draw = lambda step, position: geometry.random_part(1, step, position, width, height, area, aspect)
  boxes = np.array([draw(step, position) for step in range(40) for position in range(50)])
  w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  assert (boxes >= 0).all()
  assert (boxes[:, 2:] <= (width, height)).all()
  uniform = {
    "area": (w * h / (width * height) - 0.1) / 0.1,
    "aspect": (np.log(w / h) + np.log(2)) / np.log(4),
    "left": boxes[:, 0] / (width - w),
    "top": boxes[:, 1] / (height - h),
  }
  for name, values in uniform.items():
    counts, _ = np.histogram(values, np.linspace(-0.02, 1.02, 6))
    assert counts.sum() == 2000, name
    assert np.abs(counts - 400).max() < 90, name  # five standard deviations


def test_parts_stay_within_the_ranges_where_they_have_to_be_drawn_again():
  draw = lambda i: geometry.random_part(0, i, 0, 90, 60, (0.08, 1.0), (3 / 4, 4 / 3))
  for left, top, right, bottom in map(draw, range(500)):
    assert 0 <= left < right <= 90
    assert 0 <= top < bottom <= 60
    assert 0.7 <= (right - left) / (bottom - top) <= 1.45
    assert (right - left) * (bottom - top) >= 0.07 * 90 * 60


@pytest.mark.parametrize(
  ("seed", "step", "position", "expected"),
  [(0, 0, 0, (12, 31, 169, 182)), (-1, 5, 3, (46, 30, 176, 181)), (2**63, 100_000, 255, (110, 14, 276, 184))],
)
def test_crops_stay_the_same_over_machines_and_versions(seed, step, position, expected):
  """A change here makes interrupted runs resume differently: bump it only on purpose."""
  assert geometry.random_part(seed, step, position, 300, 200, (0.08, 1.0), (3 / 4, 4 / 3)) == expected


def test_each_of_seed_step_and_position_counts():
  draws = {
    geometry.random_part(*numbers, 3000, 2000, (0.08, 1.0), (3 / 4, 4 / 3))
    for numbers in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**63, 0, 0)]
  }
  assert len(draws) == 5


def test_where_no_draw_fits_the_largest_central_part_is_taken():
  assert geometry.random_part(0, 0, 0, 1000, 10, (0.9, 1.0), (0.5, 2.0)) == (490, 0, 510, 10)
  assert geometry.random_part(0, 0, 0, 10, 1000, (0.9, 1.0), (0.5, 2.0)) == (0, 490, 10, 510)
  assert geometry.random_part(0, 0, 0, 1, 1, (0.9, 1.0), (0.5, 2.0)) == (0, 0, 1, 1)


def test_the_central_square():
  assert geometry.central_square(7, 4) == (1, 0, 5, 4)
  assert geometry.central_square(4, 7) == (0, 1, 4, 5)
