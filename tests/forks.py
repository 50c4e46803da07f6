"""Runs commands in forks of one process that has imported everything: a run then takes a tenth of the time.

A line on stdin is a JSON list, the command's name and its flags; the answer is a line of JSON: status, stdout, stderr.
Nothing that starts threads, as JAX's devices do, happens before a fork.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
import warnings


def main() -> None:
  import tensorflow_datasets  # noqa: F401

  from nin_jax import train  # noqa: F401

  warnings.simplefilter("ignore", DeprecationWarning)  # libraries' idle threads
  for line in sys.stdin:
    name, *flags = json.loads(line)
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
      pid = os.fork()
      if not pid:
        command(name, flags, stdout, stderr)
      status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
      stdout.seek(0), stderr.seek(0)
      print(json.dumps([status, stdout.read(), stderr.read()]), flush=True)


def command(name: str, flags: list[str], stdout, stderr) -> None:
  """Never returns: the fork ends as the command does."""
  os.dup2(stdout.fileno(), 1)
  os.dup2(stderr.fileno(), 2)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  sys.argv = [f"experiments/{name}.py", *flags]
  status: object = 0
  try:
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
  except SystemExit as ended:
    status = ended.code
  except BaseException:
    traceback.print_exc()
    status = 1
  sys.stdout.flush(), sys.stderr.flush()
  os._exit(status or 0)


if __name__ == "__main__":
  main()
