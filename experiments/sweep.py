"""Trains a config's network once for each trial of a sweep; goes on by itself where the workdir has some of them.

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
from nin_jax.errors import ConfigError

CONFIG = command.define_config()
SWEEP = flags.DEFINE_string("sweep", None, "NAME of the config file's function sweep_NAME.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the sweep's files go; --plan needs none.")
PLAN = flags.DEFINE_bool("plan", False, "Print the trials and what they cost; train nothing.")
FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "How to print the plan.")
ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray"], "What trains: processes of this machine, or Ray's.")
RAY_ADDRESS = flags.DEFINE_string("ray_address", None, "HOST:PORT of a Ray cluster, or auto; none: this machine's own.")
WORKERS = flags.DEFINE_integer("workers", None, "So many trials at once; by default what fits.", lower_bound=1)
RETRIES = flags.DEFINE_integer("retries", 2, "How many times a trial that failed is tried again.", lower_bound=0)
MAX_MACS = flags.DEFINE_string("max_macs", None, "Leave out trials with more MACs an image: 300M, 1.5G, 2e9.")
MAX_PARAMS = flags.DEFINE_string("max_params", None, "Leave out trials with more parameters.")


def main() -> int | None:
  import jax

  from nin_jax.sweep import limits, plan_file, plan_table, planning, sweep_file  # here, as a wrong flag is told at once

  if not (PLAN.value or WORKDIR.value):
    raise ConfigError("--workdir", WORKDIR.value, "a directory for the sweep's files (--plan needs none)")
  most = {"max_macs": limits.limit("--max_macs", MAX_MACS.value)}
  most["max_params"] = limits.limit("--max_params", MAX_PARAMS.value)
  jax.config.update("jax_platforms", "cpu")  # planning should not occupy an accelerator
  file = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
  space = sweep_file.load(file, SWEEP.value)
  trains = not PLAN.value
  plan = planning.make(
    space, CONFIG.value, SWEEP.value, file, command.overrides(), **most, begins=trains, prepared=trains
  )
  if PLAN.value:
    print(json.dumps(plan_file.to_json(plan), indent=2) if FORMAT.value == "json" else plan_table.table(plan))
    return None
  return _run(plan, plan_file.write(plan, WORKDIR.value))


def _run(plan, directory) -> int:
  """Trains what of a plan is still to be trained, and makes the report."""
  from nin_jax import report, train
  from nin_jax.sweep import display, record, run
  from nin_jax.sweep import plan as plans
  from nin_jax.train import workdir

  groups = plans.groups(plan.trials)
  try:
    with workdir.alone(directory):
      recorded = record.Record(directory, plan.trials, RETRIES.value)
      with _engine(directory, len(groups)) as engine, display.Display(plan.trials) as shown:
        shown.done_before(recorded.over(), recorded.failures())
        run.run(directory, run.Planned(groups), recorded, engine, shown)
  except train.Interrupted as interrupted:
    print(f"{interrupted}; what was running is saved. Go on with:\n{command.again()}", file=sys.stderr)
    return 128 + interrupted.signal
  except train.WorkdirError as error:
    print(f"the sweep stopped: {error}. With that mended, go on with:\n{command.again()}", file=sys.stderr)
    return 1
  for trial, error in recorded.failures().items():
    print(f"failed: {trial}: {error}", file=sys.stderr)
  if recorded.over():
    made = report.write(directory)
    print(f"{report.table(made.summary)}\n\n{made.places}")
  return 1 if recorded.faults() or not recorded.over() else 0


def _engine(directory, most):
  """What trains, as --engine says."""
  from nin_jax.sweep import pool, ray_engine

  if ENGINE.value == "ray":
    return ray_engine.RayEngine(directory, RAY_ADDRESS.value, WORKERS.value or 0, most)
  return pool.Pool(directory, WORKERS.value or 0, most)


if __name__ == "__main__":
  command.run(main)
