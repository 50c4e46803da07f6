"""Means and times with a clock that the test sets, and when a run is stopped."""

import json
import math

import pytest

from nin_jax.train.meter import Meter, TrainingStopped


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


def ended(meter, clock, step, seconds, loss=1.0, accuracy=0.5, spread=1.0):
  clock.now += seconds
  meter.add(step, loss, accuracy, spread, objective=loss)


def test_means_since_the_last_log_line(clock):
  meter = Meter(0, clock=clock)
  for step, (loss, accuracy) in enumerate([(3.0, 0.0), (1.0, 0.5)], 1):
    ended(meter, clock, step, 1, loss, accuracy)
  assert meter.means() == {"loss": 2.0, "accuracy": 0.25, "step_seconds": 1.0}
  ended(meter, clock, 3, 4, 7.0, 1.0)
  assert meter.means() == {"loss": 7.0, "accuracy": 1.0, "step_seconds": 4.0}


def test_the_first_step_of_a_process_is_not_timed(clock):
  meter = Meter(0, clock=clock)
  ended(meter, clock, 1, 60)
  assert meter.means()["step_seconds"] is None
  assert meter.step_seconds is None
  ended(meter, clock, 2, 2)
  ended(meter, clock, 3, 4)
  assert meter.means()["step_seconds"] == 3
  assert meter.step_seconds == 3
  assert meter.state["wall_seconds"] == 66


def test_steps_that_end_together_share_the_time_of_their_call(clock):
  meter = Meter(0, clock=clock)
  for first in (1, 4, 7):
    clock.now += 60 if first == 1 else 6
    for number in range(3):
      meter.add(first + number, 1.0, 0.5, 1.0, 1.0, ended=0 if number else 3)
  assert meter.step_seconds == 2
  meter.skip()
  ended(meter, clock, 10, 60)
  ended(meter, clock, 11, 2)
  assert meter.step_seconds == 2
  assert meter.means()["step_seconds"] == 2


def test_pauses_are_wall_time_but_no_step_s(clock):
  meter = Meter(0, clock=clock)
  ended(meter, clock, 1, 1)
  ended(meter, clock, 2, 1)
  meter.pause()
  clock.now += 50
  meter.pause()
  assert meter.state["wall_seconds"] == 52
  meter.resume()
  ended(meter, clock, 3, 3)
  assert meter.step_seconds == 2
  assert meter.state["wall_seconds"] == 55


def test_a_restart_goes_on_with_the_same_means(clock):
  meter = Meter(3, clock=clock)
  ended(meter, clock, 1, 10, loss=1.0)
  ended(meter, clock, 2, 2, loss=2.0, spread=0.0)
  meter.means()
  ended(meter, clock, 3, 4, loss=3.0, spread=0.0)
  state = json.loads(json.dumps(meter.state))
  clock.now = 7.0  # another process's clock
  again = Meter(3, state, clock)
  with pytest.raises(TrainingStopped, match="steps 2 to 4"):
    ended(again, clock, 4, 30, loss=5.0, spread=0.0)
  assert again.state["wall_seconds"] == 16 + 30
  again.state["dead"] = 0
  ended(again, clock, 5, 6, loss=7.0)
  assert again.means() == {"loss": 5.0, "accuracy": 0.5, "step_seconds": 6.0}
  assert again.step_seconds == (2 + 4 + 6) / 3


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops(clock, loss):
  meter = Meter(0, clock=clock)
  ended(meter, clock, 6, 1)
  with pytest.raises(TrainingStopped, match=r"the loss is -?(nan|inf) at step 7 \(it was finite up to step 6\)"):
    ended(meter, clock, 7, 1, loss=loss)
  assert meter.state["loss"] == 1.0  # no part of what a checkpoint would hold


def test_a_dead_network_stops_after_so_many_steps_in_a_row(clock):
  meter = Meter(3, clock=clock)
  for step, spread in enumerate([0.0, 0.0, 0.1, 0.0, 0.0], 1):
    ended(meter, clock, step, 1, spread=spread)
  with pytest.raises(TrainingStopped, match=r"dead: in steps 4 to 6 .* the loss is 2\.302585.*model\.last_relu=False"):
    ended(meter, clock, 6, 1, loss=math.log(10), spread=0.0)


def test_nothing_is_dead_where_nobody_asks(clock):
  meter = Meter(0, clock=clock)
  for step in range(1, 200):
    ended(meter, clock, step, 1, spread=0.0)
