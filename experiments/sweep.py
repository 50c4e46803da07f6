"""Trains a config's network once for each trial of a sweep; goes on by itself where the workdir has some of them.

python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck --plan
python -m experiments.sweep --config=configs/inception_digits.py --sweep=bottleneck --workdir=workdirs/bottleneck

A sweep is a function `sweep_NAME()` in the config file (see nin_jax/sweep/space.py). --config.section.field=value holds
for each of its trials. --plan prints what would be trained, and writes nothing.
"""

import json

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
WORKERS = flags.DEFINE_integer("workers", None, "So many trials at once; by default what fits.", lower_bound=1)
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
  directory = plan_file.write(plan, WORKDIR.value)
  from nin_jax.sweep import run  # TO BE JOINED: the running of a plan

  return run.run(plan, directory, ENGINE.value, WORKERS.value)


if __name__ == "__main__":
  command.run(main)
