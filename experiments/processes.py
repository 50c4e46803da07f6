"""The flags of a run over several processes, and how such a process leaves."""

import os
import sys
import traceback
from collections.abc import Callable

from absl import flags

from experiments import command
from nin_jax import temporary
from nin_jax.errors import ConfigError

ADDRESS = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of process 0, in a run of several. Under Slurm and on TPU pods it is found.",
)
COUNT = flags.DEFINE_integer("num_processes", None, "How many there are.")
INDEX = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the other processes as the cluster's environment says.")


def _whole(flag: flags.FlagHolder, variable: str) -> int | None:
  """A flag's value, or where it isn't given an environment variable's."""
  text = os.environ.get(variable)
  if flag.value is not None or not text:
    return flag.value
  if not text.isdecimal():
    raise ConfigError(variable, text, "a whole number")
  return int(text)


def joined(main: Callable[[], int | None]) -> Callable[[], int | None]:
  """`main` within the run's other processes, if there are any; what it compiles is kept for the next start."""

  def inside() -> int | None:
    from nin_jax.train import compilation, processes  # here, so that a mistake in a flag is told at once

    compilation.keep_compiled()
    address = ADDRESS.value or os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    count, index = (_whole(COUNT, "JAX_NUM_PROCESSES"), _whole(INDEX, "JAX_PROCESS_ID"))
    processes.join(address, count, index, DISTRIBUTED.value)
    import jax

    if jax.process_count() == 1:
      return main()
    # Left as usual, a process would wait at its end for the others, which may wait for it.
    try:
      try:
        status = main()
      except ConfigError as error:
        command.fail(*error.mistakes)
    except SystemExit as error:
      status = error.code
    except BaseException:
      traceback.print_exc()
      status = 1
    if status:
      sys.stdout.flush()
      sys.stderr.flush()
      temporary.remove_all()
      os._exit(status)
    return status

  return inside
