"""What the user reads of a sweep: lines in a pipe, a few that stay in place on a (pseudo-)terminal."""

import io
import itertools
import threading

import pytest
from ml_collections import ConfigDict
from terminals import COLOUR, ESCAPE, Clock, Terminal, ordinary

from nin_jax.sweep import captions
from nin_jax.sweep.display import Display
from nin_jax.sweep.events import Ended, Evaluated, Failed, Lost, Pruned, Started, Stepped
from nin_jax.sweep.trial import Trial

SCALES = (0.25, 0.5, 1.0)


def trial(number, flops=100, **overrides):
  overrides = {name.replace("__", "."): value for name, value in overrides.items()}
  config = ConfigDict({"seed": overrides.get("seed", 0)})
  return Trial(f"{number:03}", overrides, config, 1000, 10_000, flops, None)


def plan(scales=SCALES, seeds=range(3), flops=100):
  return [
    trial(number, flops, model__reduce_scale=scale, seed=seed)
    for number, (scale, seed) in enumerate(itertools.product(scales, seeds))
  ]


def plain(trials):
  stream, clock = io.StringIO(), Clock()
  return Display(trials, stream, clock), stream, clock


A, B, C = ("000", "001", "002"), ("003", "004", "005"), ("006", "007", "008")


def end(display, *ids, accuracy=0.98):
  for index, id in enumerate(ids):
    display.show(Ended(id, {"test_accuracy": accuracy + 0.001 * index}))


def test_a_pipe_gets_a_line_for_what_ends_and_one_of_progress_from_time_to_time():
  display, stream, clock = plain(plan())
  with display:
    display.show(Started(A, "worker 1"))
    display.show(Started(B, "worker 2"))
    clock.now += 10
    for step in range(1, 101):
      display.show(Stepped(A, step, 100))
      clock.now += 0.5
    display.show(Evaluated(A, 100, (0.97, 0.98, 0.99)))
    end(display, *A)
    display.show(Failed("004", "loss is not finite\nat step 7", True))
    display.show(Lost(("003", "005"), "killed by signal 9"))
    clock.now += 3700
    display.show(Started(("003", "005"), "worker 1"))
    end(display, "003")
    display.show(Ended("005", {"test_accuracy": 0.5}))
    display.note("a note")
  assert stream.getvalue().splitlines() == [
    "0/9 trials",
    "0/9 trials  6 running  eta 2:30",  # 120 FLOPs took 20 s, 777 are left: 129.5 s; and 10 s of compiling, twice
    "0/9 trials  6 running  eta 2:01",
    "done  reduce_scale=0.25  seeds 0 1 2  test accuracy 98.10 ± 0.10 %  1:00",
    "failed  004: loss is not finite at step 7",
    "worker 2 was lost (killed by signal 9); its trials go on from their checkpoints",
    "3/9 trials  2 running  1 failed  eta 1:41",
    "done  reduce_scale=0.5  seeds 0 2  test accuracy 74.00 ± 33.94 %  0:00",
    "a note",
    "5/9 trials  1 failed  stopped after 1:02:40",
  ]


def test_the_time_left():
  """Three groups of 300 FLOPs: each compiles 10 s and trains 20 s, one after the other."""
  display, _, clock = plain(plan())
  display.show(Started(A, "worker 1"))
  clock.now += 10
  assert display.seconds_left() is None
  display.show(Stepped(A, 1, 201))  # 0.1 s a step from here on
  assert display.seconds_left() is None
  clock.now += 10
  display.show(Stepped(A, 101, 201))
  assert display.seconds_left() == pytest.approx(10 + 2 * (10 + 20.1))
  clock.now += 4  # the time left runs on between events
  assert display.seconds_left() == pytest.approx(6 + 2 * (10 + 20.1))
  clock.now += 1000
  assert display.seconds_left() == 0
  clock.now -= 998  # 16 s after the first step: 6 s late
  display.show(Stepped(A, 161, 201))
  end(display, *A)
  assert display.seconds_left() == pytest.approx(16 / (200 / 201) * 2 + 2 * 10)
  display.show(Started(B, "worker 1"))
  clock.now += 4
  assert display.seconds_left() == pytest.approx(16 / (200 / 201) * 2 + 2 * 10 - 4)


def test_a_search_adds_trials_as_it_goes():
  """Four trials of 100 FLOPs and 20 s; of the second, half is trained."""
  display, stream, clock = plain([])
  first, second = trial(0, learning_rate=0.1), trial(1, learning_rate=0.2)
  display.add([], 4)
  with display:
    display.add([first], 3)
    display.show(Started((first.id,), "worker 1"))
    display.show(Stepped((first.id,), 1, 201))
    clock.now += 20
    display.show(Stepped((first.id,), 201, 201))
    assert display.seconds_left() == pytest.approx(3 * 20.1)
    end(display, first.id)
    display.add([second], 2)
    display.show(Started((second.id,), "worker 1"))
    display.show(Stepped((second.id,), 1, 201))
    clock.now += 10
    display.show(Stepped((second.id,), 101, 201))
    display.show(Pruned((second.id,), 101, (0.25,)))
    assert display.seconds_left() == pytest.approx(2 * 20.1)
    display.add([], 0)  # it finds nothing more
  assert stream.getvalue().splitlines() == [
    "0/4 trials",
    "done  learning_rate=0.1  seed 0  test accuracy 98.00 %  0:20",
    "1/4 trials  1 running  eta 0:50",  # the rest of the second, and two more
    "pruned  learning_rate=0.2  test accuracy 25.0 % after step 101  0:10",
    "2/2 trials  done in 0:30",
  ]


def test_towards_the_end_the_slowest_group_decides():
  display, _, clock = plain(plan(scales=SCALES[:2]))
  display.show(Started(A, "worker 1"))
  display.show(Started(B, "worker 2"))
  for step in range(1, 12):
    display.show(Stepped(A, 10 * step - 9, 101))
    display.show(Stepped(B, step, 101))
    clock.now += 1
  assert display.seconds_left() == pytest.approx(90 - 1)
  end(display, *A)
  assert display.seconds_left() == pytest.approx(90 - 1)


def test_trials_that_an_engine_moves_itself_have_one_line():
  display, stream, clock = plain(plan())
  with display:
    display.show(Started(A, "node 1"))
    display.show(Stepped(A, 50, 100))
    clock.now += 10
    display.show(Stepped(A, 60, 100))
    display.show(Started(A, "node 2"))  # node 1 has gone
    display.show(Stepped(A, 40, 100))
    assert [(group.where, group.step) for group in display._groups] == [("node 2", 40)]
    end(display, *A)
  assert stream.getvalue().splitlines() == [
    "0/9 trials",
    "node 1 was lost; its trials go on at node 2",
    "done  reduce_scale=0.25  seeds 0 1 2  test accuracy 98.10 ± 0.10 %  0:00",
    "3/9 trials  stopped after 0:10",
  ]


def test_what_earlier_starts_did_says_nothing_about_the_speed():
  display, stream, clock = plain(plan())
  with display:
    display.done_before(A, ["003"])
    display.show(Started(("004", "005"), "worker 1"))
    display.show(Stepped(("004", "005"), 50, 100))  # from their checkpoint
    assert display.seconds_left() is None
    clock.now += 10
    display.show(Stepped(("004", "005"), 60, 100))  # 20 FLOPs in 10 s
    assert display.seconds_left() == pytest.approx((80 + 300) / 2)
    display.show(Started(("003",), "worker 1"))  # once more
    assert display.seconds_left() == pytest.approx((80 + 400) / 2)
    display.show(Lost(("004", "005"), ""))
    clock.now += 1
    display.show(Started(("004", "005"), "worker 2"))
    clock.now += 1
    display.show(Stepped(("004", "005"), 55, 100))  # lost a little
    assert display.seconds_left() > (90 + 400) / 2
    display.show(Stepped(("004", "005"), 40, 100))  # lost all that was made here
    assert display.seconds_left() is None
  assert stream.getvalue().splitlines() == [
    "0/9 trials",
    "3/9 trials  1 failed",
    "worker 1 was lost; its trials go on from their checkpoints",
    "3/9 trials  stopped after 0:12",
  ]


def test_trials_count_by_their_work():
  trials = [trial(0, 900, seed=0), trial(1, 100, seed=1)]
  display, _, clock = plain(trials)
  display.show(Started(("000",), "here"))
  display.show(Stepped(("000",), 1, 9))
  clock.now += 8
  display.show(Stepped(("000",), 9, 9))
  display.show(Ended("000", {"test_accuracy": 0.5}))
  assert display.seconds_left() == pytest.approx(1)
  display.show(Failed("001", "impossible", True))
  assert display.seconds_left() == 0


@pytest.mark.parametrize(
  ("trials", "line"),
  [
    ([trial(0, seed=7)], "done  seed 7  test accuracy 50.00 %  0:05"),
    (plan(SCALES[:1], range(10)), "done  seeds 0–9  test accuracy 50.45 ± 0.30 %  0:05"),
    ([trial(0, a__x=1, seed=0), trial(1, a__x=2, seed=0)], "done  x=2  seed 0  test accuracy 50.10 %  0:05"),
  ],
)
def test_a_group_that_ended(trials, line):
  display, stream, clock = plain(trials)
  display.show(Started(tuple(trial.id for trial in trials), "here"))
  clock.now += 5
  end(display, *(trial.id for trial in trials), accuracy=0.5)
  assert stream.getvalue().splitlines()[-1] == line


def test_settings_are_short_and_unmistakable():
  trials = [
    trial(0, optimizer__name="sgd", data__name="digits", train__epochs=2, optimizer__rate=0.1, seed=3),
    trial(1, optimizer__name="adam", data__name="folder", train__epochs=2, optimizer__rate=0.30000000000000004, seed=9),
    trial(2, optimizer__name="adam", train__epochs=2, optimizer__rate=1e-05, seed=11),
  ]
  names = captions.varied(trials)
  assert captions.setting(trials[:1], names) == "optimizer.name sgd  data.name digits  rate 0.1"
  assert captions.setting(trials[1:], names) == "optimizer.name adam  data.name folder  rate 0.3 1e-05"
  assert captions.setting(trials[2:], names, "=") == "optimizer.name=adam  rate=1e-05"
  assert captions.seeds(trials) == "seeds 3 9 11"


@pytest.fixture
def environment(monkeypatch):
  return ordinary(monkeypatch)


def on_terminal(environment, columns=80, rows=24, workers=3, fail=False):
  """Runs part of a sweep, as many groups at once as there are workers; the last group is still compiling."""
  environment.setenv("COLUMNS", str(columns))  # rich asks the process's own streams for the size, not this one
  environment.setenv("LINES", str(rows))
  terminal, clock = Terminal(columns, rows), Clock()
  trials = plan(scales=[0.25 * (1 + index) for index in range(workers + 1)])
  groups = [tuple(trial.id for trial in trials[start : start + 3]) for start in range(0, len(trials), 3)]
  try:
    with Display(trials, terminal.stream, clock) as display:
      draw = display._live.refresh if display._live else lambda: None  # otherwise four times a second
      draw()
      for index, group in enumerate(groups[:-1]):
        display.show(Started(group, f"worker {1 + index}"))
      clock.now += 7
      draw()
      for step in (1, 60, 119, 120):
        clock.now += 5
        for group in groups[:-2]:
          display.show(Stepped(group, step, 1200))
          display.show(Evaluated(group, step, (0.97, 0.98, 0.9824)))
        draw()
      display.show(Failed(groups[0][1], "loss is not finite", True))
      draw()
      end(display, groups[0][0], groups[0][2])
      draw()
      display.show(Started(groups[-1], "worker 1"))
      draw()
      if fail:
        raise KeyboardInterrupt
  except KeyboardInterrupt:
    pass
  terminal.close()
  return terminal


def test_the_screen(environment):
  terminal = on_terminal(environment, 90)
  assert [line.replace("━", "-").replace("╸", "-").replace("╺", "-") for line in terminal.screens()[-2]] == [
    "failed  001: loss is not finite",
    "done  reduce_scale=0.25  seeds 0 2  test accuracy 98.05 ± 0.07 %  0:27",
    "---------------------------------------------  2/12 trials  9 running  1 failed  eta 2:16",
    "worker 1  reduce_scale 1  seeds 0 1 2     --------  compiling 0:00",
    "worker 2  reduce_scale 0.5  seeds 0 1 2   --------    120/1,200  acc 97.7 %",
    "worker 3  reduce_scale 0.75  seeds 0 1 2  --------  compiling 0:27",
  ]
  assert terminal.screens()[-1][2].endswith("  2/12 trials  1 failed  stopped after 0:27")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize(("rows", "workers"), [(24, 3), (10, 12), (4, 5), (3, 2), (2, 2)])
def test_what_stays_in_place_fits_any_terminal(environment, columns, rows, workers):
  room = max(0, rows - 3)
  screens = on_terminal(environment, columns, rows, workers).screens()[1:-1]
  for screen in screens:
    first = next(index for index, line in enumerate(screen) if "/" in line and " trials" in line)
    groups = screen[first + 1 :]
    assert len(groups) <= room
    assert all(len(line) < columns for line in screen[first:])
  assert len(groups) == min(workers, room)
  if workers > room > 0:
    assert groups.pop() == f"… and {workers - room + 1} more"
  assert all("reduce_scale" in line for line in groups)


@pytest.mark.parametrize(
  ("columns", "line"),
  [
    (40, "reduce_scale 0.5  seeds 0…    120/1,200"),
    (60, "reduce_scale 0.5  seeds 0 1 2     120/1,200  acc 97.7 %"),
    (76, "reduce_scale 0.5  seeds 0 1 2   BAR    120/1,200  acc 97.7 %"),
    (80, "worker 2  reduce_scale 0.5  seeds 0 1 2   BAR    120/1,200  acc 97.7 %"),
  ],
)
def test_columns_make_room_on_narrow_terminals(environment, columns, line):
  screen = on_terminal(environment, columns).screens()[-2]
  assert any(shown.replace("╸━━━━━━━", "BAR") == line for shown in screen), screen


def test_a_line_waits_for_its_worker_s_next_group_and_not_for_long(environment):
  terminal, clock = Terminal(80), Clock()
  with Display(plan(), terminal.stream, clock) as display:
    for group, where in ((A, "worker 1"), (B, "worker 2")):
      display.show(Started(group, where))
      display.show(Stepped(group, 9, 10))
    end(display, *A, *B)
    display.show(Started(C, "worker 2"))
    display._live.refresh()
    clock.now += 5
    display._live.refresh()
  terminal.close()
  workers = [[line[:8] for line in screen if line.startswith("worker")] for screen in terminal.screens()]
  assert [shown for shown, _ in itertools.groupby(workers)][-3:] == [["worker 1", "worker 2"], ["worker 2"], []]


def test_failures_and_losses_before_anything_is_known(environment):
  terminal, clock = Terminal(80), Clock()
  with Display(plan(), terminal.stream, clock) as display:
    display.show(Failed("000", "its config is impossible", True))
    display.show(Started(B, "a-node-with-a-very-long-name.example.org"))
    display.show(Lost(B, "gone"))
    display._live.refresh()
    display.show(Stepped(B, 5, 10))  # was on its way
    for id in (*A[1:], *B, *C):
      display.show(Failed(id, "impossible", True))
  terminal.close()
  assert terminal.screens()[-1][0] == "failed  000: its config is impossible"
  assert " 0/9 trials  9 failed  done in 0:00" in "\n".join(terminal.screens()[-1])


def test_events_and_drawing_do_not_wait_for_each_other(environment):
  terminal = Terminal(80)
  trials = plan(range(1, 60))

  def sweep():
    with Display(trials, terminal.stream) as display:
      drawing = threading.Thread(target=lambda: [display._live.refresh() for _ in range(100)])
      drawing.start()
      for number in range(0, len(trials), 3):
        group = tuple(trial.id for trial in trials[number : number + 3])
        display.show(Started(group, f"worker {number % 4}"))
        for step in range(1, 11):
          display.show(Stepped(group, step, 10))
        end(display, *group)
      drawing.join()

  thread = threading.Thread(target=sweep, daemon=True)
  thread.start()
  thread.join(20)
  assert not thread.is_alive()
  terminal.close()
  assert ESCAPE.sub("", terminal.text).count("done  reduce_scale=") == 59


@pytest.mark.parametrize("fail", [False, True])
def test_the_cursor_comes_back(environment, fail):
  text = on_terminal(environment, fail=fail).text
  assert "\x1b[?25l" in text
  assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
  assert ESCAPE.sub("", text).endswith("\n")


def test_no_color(environment):
  assert COLOUR.search(on_terminal(environment).text)
  environment.setenv("NO_COLOR", "1")
  assert not any(code not in ("\x1b[0m", "\x1b[2m") for code in COLOUR.findall(on_terminal(environment).text))


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_terminals_that_cannot_go_back_get_lines(environment, name, value):
  environment.setenv(name, value)
  text = on_terminal(environment).text
  assert not ESCAPE.search(text)
  assert "done  reduce_scale=0.25  seeds 0 2  test accuracy 98.05 ± 0.07 %  0:27\r\n" in text
