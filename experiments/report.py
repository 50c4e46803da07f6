"""Makes a sweep's report: a page, pictures, tables, TensorBoard's HParams; of a running sweep, on what there is.

python -m experiments.report --workdir=workdirs/bottleneck [--format=markdown]
"""

import sys

from absl import flags

from experiments import command

WORKDIR = flags.DEFINE_string("workdir", None, "The sweep's directory.", required=True)
FORMAT = flags.DEFINE_enum("format", "table", ["table", "markdown"], "How to print the settings.")


def main() -> int:
  from nin_jax import report  # here, so that a mistake in a flag is told at once
  from nin_jax.train import WorkdirError

  try:
    made = report.write(WORKDIR.value)
  except WorkdirError as error:
    print(f"report stopped: {error}", file=sys.stderr)
    return 1
  print(report.markdown(made.summary) if FORMAT.value == "markdown" else report.table(made.summary))
  print(f"\n{made.places}")
  return 0


if __name__ == "__main__":
  command.run(main)
