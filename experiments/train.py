"""Trains the network of a config; goes on by itself where the workdir has a checkpoint.

python -m experiments.train --config=configs/inception_digits.py --workdir=workdirs/digits [--config.seed=1 …]
"""

import sys

from absl import flags

from experiments import command, processes
from nin_jax import paths
from nin_jax.printable import printable

CONFIG = command.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go.", required=True)
PROFILE = flags.DEFINE_integer("profile", 0, "Write a trace of so many steps to WORKDIR/profile.", lower_bound=0)


def main() -> int:
  from nin_jax import train  # here, so that a mistake in a flag is told at once

  again = command.again()
  ended = (paths.directory("--workdir", WORKDIR.value) / "result.json").exists()
  try:
    result = train.train_and_evaluate(CONFIG.value, WORKDIR.value, PROFILE.value, command.overrides())
  except train.Interrupted as interrupted:
    if train.first():
      print(f"{interrupted}; the state is saved. Go on with:\n{again}", file=sys.stderr)
    return 128 + interrupted.signal
  except train.TrainingStopped as stopped:
    print(f"training stopped: {stopped}", file=sys.stderr)
    return 1
  except train.WorkdirError as error:
    checkpoints = paths.expand("--workdir", WORKDIR.value) / "checkpoints"
    kept = any(path.name.isdecimal() for path in checkpoints.glob("*"))
    mended = "The checkpoints before are whole; with that mended" if kept else "With that mended"
    print(f"training stopped: {error}. {mended}, resume with:\n{again}", file=sys.stderr)
    return 1
  except train.PeerLost as lost:
    print(
      f"training stopped: {lost}. Start all processes again to go on from the last checkpoint; this one with:\n{again}",
      file=sys.stderr,
    )
    return 1
  if not train.first():
    return 0
  if ended:
    print("this run had ended before; to train again, give another --workdir", file=sys.stderr)
  speed, loss = result["images_per_second"], result["test_loss"]
  shown = "nan" if loss is None else f"{loss:.3g}"  # as JSON has it
  print(
    f"test accuracy {result['test_accuracy']:.2%} (loss {shown}) after {result['steps']:,} steps, "
    f"train accuracy {result['train_accuracy']:.2%}; {result['params']:,} parameters, {result['macs']:,} MACs"
    + (f"; {speed:,.0f} images/s on {result['devices']} {result['device']}" if speed else "")
  )
  place = printable(WORKDIR.value)
  print(f"results: {place}/result.json, {place}/metrics.jsonl")
  return 0


if __name__ == "__main__":
  command.run(processes.joined(main))
