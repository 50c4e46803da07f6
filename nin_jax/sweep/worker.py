"""A local worker process: python -m nin_jax.sweep.worker NAME [CORE …]; stays up and takes task after task.

Tasks come on standard input and events leave on standard output, one JSON object a line. It ends with its parent:
where standard input ends, so does the process, whatever it is doing; its trials' checkpoints are whole at any moment.
"""

import json
import os
import queue
import signal
import sys
import threading

from nin_jax import crashes, streams, temporary
from nin_jax.sweep import events


def main(name: str) -> None:
  """Works until standard input ends."""
  out = os.fdopen(os.dup(1), "w", encoding="utf-8")
  streams.set_up()
  os.dup2(2, 1)  # what libraries print is for the log, not for the parent
  received: queue.SimpleQueue = queue.SimpleQueue()

  def read() -> None:
    for row in sys.stdin.buffer:
      received.put(json.loads(row))
    temporary.remove_all()
    os._exit(0)

  threading.Thread(target=read, daemon=True).start()

  def tell(event: events.Event) -> None:
    out.write(json.dumps(events.to_json(event)) + "\n")
    out.flush()

  from nin_jax.sweep.work import work
  from nin_jax.train.compilation import keep_compiled

  keep_compiled()
  while True:
    work(received.get(), name, tell, lambda: received.get()["go"])


if __name__ == "__main__":
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on the terminal is the parent's, which asks by SIGTERM
  if cores := set(map(int, sys.argv[2:])):
    os.sched_setaffinity(0, cores)  # before JAX counts them
  crashes.with_stacks(lambda: main(sys.argv[1]))
