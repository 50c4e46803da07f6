"""Evaluates a checkpoint exactly and prints one JSON object.

python -m experiments.evaluate --workdir=workdirs/digits [--split=train] [--step=N] [--config.data.dir=… …]

The config is that of the run; --config.… overrides may change its precision, its eval section, and where its data are.
"""

import json
import sys

from absl import flags

from experiments import command, processes

WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["test", "train"], "Of the data set, as the config names it.")
STEP = flags.DEFINE_integer("step", None, "Of the checkpoint; the newest where it is not given.")


def main() -> int:
  from nin_jax import train  # here, so that a mistake in a flag is told at once

  config = flags.FLAGS.config if flags.FLAGS.config is not None else train.read_config(WORKDIR.value)
  try:
    measured = train.evaluate_checkpoint(config, WORKDIR.value, SPLIT.value, STEP.value)
  except (train.PeerLost, train.WorkdirError) as error:
    print(f"evaluation stopped: {error}", file=sys.stderr)
    return 1
  if train.first():
    command.show(json.dumps(measured))
  return 0


if __name__ == "__main__":
  command.run(processes.joined(main), command.define_run_config)
