"""The first signal asks; what comes right after it is of the same hand, and a later SIGINT is of an impatient one."""

import os
import signal
import threading

import pytest

from nin_jax.train import signals
from nin_jax.train.signals import Interrupted, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_noted_once_and_only_a_late_sigint_acts_as_before(number):
  came, now = [], [10.0]
  before = {each: signal.signal(each, lambda *_, each=each: came.append(each)) for each in signals.SIGNALS}
  try:
    with StopRequest(clock=lambda: now[0]) as stop:
      assert stop.poll() == 0
      os.kill(os.getpid(), number)
      assert stop.poll() == number
      for each in signals.SIGNALS:  # twice at once, as `timeout` does
        os.kill(os.getpid(), each)
      now[0] += signals.GRACE_SECONDS
      os.kill(os.getpid(), signal.SIGTERM)
      assert (came, stop.poll()) == ([], number)
      os.kill(os.getpid(), signal.SIGINT)
      assert came == [signal.SIGINT]
    os.kill(os.getpid(), signal.SIGTERM)
    assert came == [signal.SIGINT, signal.SIGTERM]
  finally:
    for each, handler in before.items():
      signal.signal(each, handler)


def test_a_hangup_that_is_ignored_stays_so():
  """As under `nohup`, and in what a shell has let go of."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with StopRequest() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert stop.poll() == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back_when_nothing_came():
  before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

  def failing():
    with StopRequest():
      assert signal.getsignal(signal.SIGTERM) != before[0]
      raise KeyError

  with pytest.raises(KeyError):
    failing()
  assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_thread_leaves_the_handlers_alone():
  before, seen = signal.getsignal(signal.SIGTERM), []

  def run():
    with StopRequest() as stop:
      seen.append((stop.poll(), signal.getsignal(signal.SIGTERM)))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == [(0, before)]


def test_what_is_said_of_a_stopped_run():
  stopped = Interrupted(signal.SIGTERM, 7)
  assert (stopped.signal, stopped.step, str(stopped)) == (15, 7, "stopped by SIGTERM after step 7")


def test_only_the_signals_that_are_named_are_taken():
  before = signal.getsignal(signal.SIGTERM)
  with StopRequest([signal.SIGINT]):
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) != before


def test_a_notice_of_preemption_is_a_sigterm_from_then_on():
  calls = []

  def preempted(call):
    calls.append(call)
    return call == 3

  with StopRequest(preempted=preempted) as stop:
    assert [stop.poll() for _ in range(5)] == [0, 0, 15, 15, 15]
  assert calls == [1, 2, 3, 4, 5]
