"""A plan → its results: the one call that trains a sweep."""

import contextlib
from pathlib import Path

from nin_jax.sweep import plan_file, run, search
from nin_jax.sweep.display import Display
from nin_jax.sweep.plan import Plan, groups
from nin_jax.sweep.pool import Pool
from nin_jax.sweep.ray_engine import RayEngine
from nin_jax.sweep.record import Record
from nin_jax.train import workdir


def train(
  plan: Plan,
  directory: str | Path,
  engine: str = "local",
  workers: int = 0,
  address: str | None = None,
  retries: int = 2,
  storage: str | None = None,
) -> Record:
  """Trains what of a plan, or of a search, is still to be trained; goes on where an earlier call stopped.

  Args:
    plan: from `planning.make` or `search.plan`.
    directory: the sweep's workdir; see README.
    engine: "local", processes of this machine, or "ray".
    workers: how many groups of trials are trained at once; 0: what fits.
    address: of the Ray cluster; see `RayEngine`.
    retries: see `Record`.
    storage: of a search; see `search.source`.

  Returns:
    What has become of the trials.

  Raises:
    ConfigError: the user's mistake: the workdir is another sweep's, or in use; the engine or the storage isn't there.
    Interrupted: SIGTERM, SIGINT or SIGHUP; what was running is saved.
    WorkdirError: nothing can be written any more.
  """
  plan_file.check(search.resume(plan, directory) if plan.search else plan, directory)
  with contextlib.ExitStack() as stack:
    stack.enter_context(workdir.alone(workdir.locate(directory)))
    if plan.search:
      plan = search.resume(plan, directory)
    record = Record(workdir.locate(directory), plan.trials, retries)  # before anything is written: it may refuse
    directory, display = plan_file.write(plan, directory), Display(plan.trials)
    source = search.source(plan, directory, record, storage) if plan.search else run.Planned(groups(plan.trials))
    most = source.points if plan.search else len(groups(plan.trials))
    chosen = RayEngine(directory, address, workers, most) if engine == "ray" else Pool(directory, workers, most)
    stack.enter_context(chosen)
    if plan.search:
      display.add((), source.to_come)
      source.added = lambda group: display.add(group, source.to_come)
    display.done_before(record.over(), record.failures())
    stack.enter_context(display)
    run.run(directory, source, record, chosen, display)
    if plan.search:
      display.add((), source.to_come)
      display.note(source.summary())
  return record
