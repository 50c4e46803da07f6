"""Trains a config's network once for each trial of a sweep, and reports; goes on by itself where it was stopped.

python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck --plan
python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck --workdir=workdirs/bottleneck

A sweep is a function `sweep_NAME()` in the config file (see nin_jax/sweep/space.py). --config.section.field=value holds
for each of its trials. --plan prints what would be trained, and writes nothing.
"""

import json
import sys

from absl import flags
from ml_collections import config_flags

from experiments import command
from nin_jax.errors import ConfigError, line

CONFIG = command.define_config()
SWEEP = flags.DEFINE_string("sweep", None, "NAME of the config file's function sweep_NAME.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the sweep's files go; --plan needs none.")
PLAN = flags.DEFINE_bool("plan", False, "Print the trials and what they cost; train nothing.")
FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "How to print the plan.")
ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "What trains: processes of this machine, or Ray's.")
ADDRESS = flags.DEFINE_string(
  "ray_address", None, "HOST:PORT of a Ray cluster, or auto; by default one of this machine."
)
WORKERS = flags.DEFINE_integer("workers", None, "So many programs at once; by default what fits.", lower_bound=1)
RETRIES = flags.DEFINE_integer("retries", 2, "How many times a trial that failed is tried again.", lower_bound=0)
MAX_MACS = flags.DEFINE_string("max_macs", None, "Leave out trials with more MACs an image: 300M, 1.5G, 2e9.")
MAX_PARAMS = flags.DEFINE_string("max_params", None, "Leave out trials with more parameters.")
SEARCH = flags.DEFINE_enum("search", None, ["optuna"], "Search the sweep's ranges in place of training all of it.")
TRIALS = flags.DEFINE_integer("trials", None, "So many points of a search; by default the sample's.", lower_bound=1)
STORAGE = flags.DEFINE_string("storage", None, "A search's journal file or database URL; by default in the workdir.")


def main() -> int | None:
  import jax

  from nin_jax.sweep import limits, plan_file, plan_table, planning, search, sweep_file  # here: wrong flags come first

  if not (PLAN.value or WORKDIR.value):
    raise ConfigError("--workdir", WORKDIR.value, "a directory for the sweep's files (--plan needs none)")
  for flag, on, needs in (
    (TRIALS, SEARCH.value, "--search=optuna"),
    (STORAGE, SEARCH.value, "--search=optuna"),
    (ADDRESS, ENGINE.value == "ray", "--engine=ray"),
  ):
    if flag.value is not None and not on:
      raise ConfigError(f"--{flag.name}", flag.value, f"nothing without {needs}")
  if FORMAT.value != "table" and not PLAN.value:
    raise ConfigError("--format", FORMAT.value, "table without --plan")
  most = {"max_macs": limits.limit("--max_macs", MAX_MACS.value)}
  most["max_params"] = limits.limit("--max_params", MAX_PARAMS.value)
  jax.config.update("jax_platforms", "cpu")  # planning should not occupy an accelerator
  file = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
  about = (sweep_file.load(file, SWEEP.value), CONFIG.value, SWEEP.value, file, command.overrides())
  if SEARCH.value:
    plan = search.plan(*about, **most, points=TRIALS.value)
  else:
    plan = planning.make(*about, **most, begins=not PLAN.value, prepared=not PLAN.value)
  if PLAN.value:
    planned = json.dumps(plan_file.to_json(plan), indent=2) if FORMAT.value == "json" else plan_table.table(plan)
    command.show(planned)
    return None
  return _train(plan)


def _train(plan) -> int:
  """Trains what of a plan is still to be trained, and makes the report."""
  from nin_jax import report
  from nin_jax.sweep.training import train
  from nin_jax.train import Interrupted, WorkdirError

  try:
    record = train(plan, WORKDIR.value, ENGINE.value, WORKERS.value or 0, ADDRESS.value, RETRIES.value, STORAGE.value)
    for trial, error in record.failures().items():
      print(f"failed: {trial}: {line(error, 1000)}", file=sys.stderr)
    if record.any_done():
      made = report.write(WORKDIR.value)
      print(f"{report.table(made.summary)}\n\n{made.places}")
  except Interrupted as interrupted:
    print(f"{interrupted}; what was running is saved. Go on with:\n{command.again()}", file=sys.stderr)
    return 128 + interrupted.signal
  except WorkdirError as error:
    print(f"the sweep stopped: {error}. With that mended, go on with:\n{command.again()}", file=sys.stderr)
    return 1
  return 1 if record.faults() or not record.any_done() else 0


if __name__ == "__main__":
  command.run(main)
