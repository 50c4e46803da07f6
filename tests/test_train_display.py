"""What the user reads: plain lines in a pipe, one line that stays in place on a (pseudo-)terminal."""

import io

import pytest
from terminals import COLOUR, ESCAPE, Clock, Terminal, ordinary

from nin_jax.train.display import Display


def train_row(step, **numbers):
  row = {"split": "train", "step": step, "epoch": step / 469, "loss": 0.8124, "accuracy": 0.7123}
  return row | {"learning_rate": 0.1, "images_per_second": 1234.4} | numbers


def plain(total_steps, start_step=0):
  stream, clock = io.StringIO(), Clock()
  return Display(total_steps, start_step, stream, clock), stream, clock


def test_a_pipe_gets_a_line_an_event():
  display, stream, clock = plain(1404)
  with display:
    clock.now += 30  # compilation
    display.advance(1)
    clock.now += 39.8
    display.advance(200)
    display.show(train_row(200))
    display.advance(201)
    display.doing("evaluating")
    display.show({"split": "test", "step": 469, "epoch": 1.0, "loss": 0.41, "accuracy": 0.853})
    clock.now += 300
    display.advance(1404)
    display.show(train_row(1404, loss=None, learning_rate=None, images_per_second=12345))
  assert stream.getvalue().splitlines() == [
    "step 0/1,404  compiling",
    "step 200/1,404  epoch 0.43  loss 0.812  accuracy 71.2 %  lr 0.1  1,234 images/s  eta 4:01",
    "step 469  test: loss 0.410  accuracy 85.3 %",
    "step 1,404/1,404  epoch 2.99  loss nan  accuracy 71.2 %  12.3k images/s  done in 6:10",
  ]


def test_a_resumed_run_goes_by_its_own_speed():
  display, stream, clock = plain(1000, start_step=900)
  with display:
    clock.now += 60
    display.advance(901)
    assert display.seconds_left() is None
    clock.now += 9
    display.advance(910)
    assert display.seconds_left() == pytest.approx(90)
    clock.now += 5  # the time left runs on between steps
    assert display.seconds_left() == pytest.approx(85)
    clock.now += 500
    assert display.seconds_left() == 0
  assert stream.getvalue() == "step 900/1,000  compiling\n"


def test_rows_alone_are_enough_and_a_late_one_does_not_turn_the_run_back():
  display, _, clock = plain(100)
  with display:
    display.show(train_row(10))
    clock.now += 10
    display.show(train_row(20))
    assert display.seconds_left() == pytest.approx(80)
    display.advance(21)
    display.show(train_row(20))
    assert display.seconds_left() == pytest.approx(79 * 10 / 11)


def test_an_evaluation_that_is_shown_is_over():
  display, stream, clock = plain(100)
  display.advance(1)
  clock.now += 1
  display.advance(2)
  display.doing("evaluating")
  display.show({"split": "test", "step": 2, "epoch": 1.0, "loss": 0.41, "accuracy": 0.853})
  display.show(train_row(2))
  assert stream.getvalue().endswith("eta 1:38\n")


@pytest.mark.parametrize(
  ("numbers", "shown"),
  [
    ({"loss": 2.302585}, "loss 2.30 "),
    ({"loss": 1.2345e-05}, "loss 1.23e-05 "),
    ({"loss": 99.99}, "loss 100 "),
    ({"loss": 12345.6}, "loss 12,346 "),
    ({"loss": float("nan")}, "loss nan "),
    ({"learning_rate": 1e-4}, "lr 0.0001 "),
    ({"learning_rate": 0.0123456}, "lr 0.0123 "),
    ({"images_per_second": 7.126}, " 7.13 images/s"),
    ({"images_per_second": 99.97}, " 100 images/s"),
    ({"images_per_second": 9999.7}, " 10.0k images/s"),
    ({"images_per_second": 456_789}, " 457k images/s"),
    ({"images_per_second": 1_234_567}, " 1.23M images/s"),
    ({"accuracy": 1.0}, "accuracy 100.0 %"),
  ],
)
def test_numbers_are_short(numbers, shown):
  display, stream, _ = plain(10_000)
  display.show(train_row(50, **numbers))
  assert shown in stream.getvalue()


@pytest.mark.parametrize(
  ("seconds_a_step", "shown"),
  [(0.0421, "eta 0:42"), (3.723, "eta 1:02:03"), (0.0597, "eta 1:00"), (270, "eta 3 d 3 h")],
)
def test_durations_are_read_at_a_glance(seconds_a_step, shown):
  display, stream, clock = plain(1002)
  display.advance(1)
  clock.now += seconds_a_step
  display.advance(2)
  display.show(train_row(2))
  assert stream.getvalue().rstrip().endswith(shown)


@pytest.fixture
def environment(monkeypatch):
  return ordinary(monkeypatch)


def on_terminal(environment, columns, total=1404, start=0, fail=False):
  environment.setenv("COLUMNS", str(columns))  # rich asks the process's own streams for the width, not this one
  terminal, clock = Terminal(columns), Clock()
  try:
    with Display(total, start, terminal.stream, clock) as display:
      draw = display._live.refresh if display._live else lambda: None  # otherwise four times a second
      draw()
      clock.now += 7
      draw()
      display.advance(start + 1)
      clock.now += 40
      display.show(train_row(start + 200))
      draw()
      display.doing("evaluating")
      draw()
      display.show({"split": "test", "step": start + 200, "loss": 0.41, "accuracy": 0.853})
      if fail:
        raise KeyboardInterrupt
      display.show(train_row(total))
  except KeyboardInterrupt:
    pass
  terminal.close()
  return terminal


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("total", [1404, 2_400_000])
def test_the_line_fits_any_terminal_and_keeps_the_position(environment, columns, total):
  frames = [
    frame for frame in on_terminal(environment, columns, total).frames() if "/" in frame and "test:" not in frame
  ]
  assert len(frames) >= 5
  for frame in frames:
    assert len(frame) < columns
    assert f"/{total:,}" in frame


@pytest.mark.parametrize(
  ("columns", "fields"),
  [
    (80, ["200/1,404", "epoch 0.43", "loss 0.812", "acc 71.2 %", "1,234 img/s", "eta 4:02"]),
    (120, ["200/1,404", "epoch 0.43", "loss 0.812", "accuracy 71.2 %", "lr 0.1", "1,234 images/s", "eta 4:02"]),
  ],
)
def test_all_the_numbers_stand_beside_the_bar(environment, columns, fields):
  frames = on_terminal(environment, columns).frames()
  assert any(frame.endswith("  ".join(fields) + " ") or frame.endswith("  ".join(fields)) for frame in frames)


def test_the_bar_says_what_takes_so_long(environment):
  frames = on_terminal(environment, 120).frames()
  assert any(frame.rstrip().endswith("0/1,404  compiling 0:07") for frame in frames)
  assert any(frame.rstrip().endswith("evaluating 0:00") for frame in frames)
  assert frames[-1].rstrip().endswith("done in 0:47")


def test_evaluations_are_printed_once_above_the_bar(environment):
  frames = [frame.rstrip() for frame in on_terminal(environment, 80).frames()]
  assert frames.count("step 200  test: loss 0.410  accuracy 85.3 %") == 1


def test_a_resumed_run_starts_the_bar_at_its_step(environment):
  frames = on_terminal(environment, 80, start=702).frames()
  assert "  702/1,404  compiling 0:00" in frames[0]


@pytest.mark.parametrize("fail", [False, True])
def test_the_cursor_comes_back(environment, fail):
  text = on_terminal(environment, 80, fail=fail).text
  assert "\x1b[?25l" in text
  assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
  assert ESCAPE.sub("", text).endswith("\n")


def test_no_color(environment):
  assert COLOUR.search(on_terminal(environment, 80).text)
  environment.setenv("NO_COLOR", "1")
  assert not COLOUR.search(on_terminal(environment, 80).text)


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_terminals_that_cannot_go_back_get_lines(environment, name, value):
  environment.setenv(name, value)
  text = on_terminal(environment, 80).text
  assert not ESCAPE.search(text)
  assert "step 200/1,404  epoch 0.43  loss 0.812  accuracy 71.2 %  lr 0.1  1,234 images/s  eta 4:02\r\n" in text
