"""Each convolution and pool of the networks: ours, XLA's and PyTorch's, and the matmul peak of each 1×1; in turns.

python -m benchmarks.ops [--networks nin_cifar10 googlenet_imagenet] [--precisions float32 bfloat16] [--json FILE]
  [--shapes 64x32x32x192:5x5:160 64x32x32x96:3x3/2:96/96 64x32x32x96:max3x3/2] [--least_macs 1e8]
  [--lowerings xla patches]

Forward, the gradient of the input (dx) and of the kernel (dw) as `jax.vjp` gives them, each compiled alone, without
bias; GFLOP/s by the formula, and ms for pools. The peak of a 1×1 is the plain row-major product of the same sizes and
type, the faster of XLA's and PyTorch's. `--lowerings` adds a column for each lowering that k×k convolutions can be
forced to; "nin_jax" is what they choose by themselves. With `--shapes` alone, no network is measured.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
from rich.table import Table

from benchmarks import layers, operations, output, turns
from benchmarks.cases import BATCHES, config_of
from benchmarks.operations import CONV, POINTWISE, POOL
from benchmarks.others import Others, warning
from benchmarks.worker import Worker
from nin_jax import data, streams

OURS, XLA, PYTORCH, MATMUL = "nin_jax", "xla", "pytorch", "matmul"
DEFAULTS = ("nin_cifar10", "googlenet_imagenet")
LARGE = 1e8  # MACs of a batch from which on a 1×1 counts in the mean


def measure(
  operation: dict, precision: str, workers: dict[str, Worker], lowerings: Sequence[str], rounds: int, seconds: float
) -> dict:
  """Measures one operation.

  Args:
    operation: see `layers.describe`.
    precision: the type of its arrays.
    workers: "nin_jax", and "pytorch" where there is one.
    lowerings: that a k×k convolution is forced to, besides.
    rounds: how often each column has its turn.
    seconds: that a turn lasts, but at least one call.

  Returns:
    The operation's fields, "precision" and {"directions": {direction: {"seconds": {column: median}, "rounds": {column:
    seconds, round by round}, "peak": the column of the faster product}}, "others": see `Others`}.
  """
  # Column → the worker that has it, and what it calls it.
  columns = {OURS: ("nin_jax", OURS), XLA: ("nin_jax", XLA)}
  if operation["op"] == CONV:
    columns |= {f"lowering {name}": ("nin_jax", f"lowering {name}") for name in lowerings}
  if PYTORCH in workers:
    columns[PYTORCH] = (PYTORCH, PYTORCH)
  if operation["op"] == POINTWISE and operation["groups"] == 1:
    columns |= {f"{MATMUL} of {side}": (side, MATMUL) for side in workers}
  told, parts = {}, []
  for direction in operations.directions(operation):
    sides: dict[str, Callable[[], float]] = {}
    for column, (side, theirs) in columns.items():
      one = workers[side].ask("prepare", operation=operation, precision=precision, column=theirs, direction=direction)
      if one["seconds"] is not None:
        count = max(1, round(seconds / one["seconds"]))
        sides[column] = partial(_seconds, workers[side], theirs, direction, count)
    others = Others(worker.pid for worker in workers.values())
    measured = turns.in_turns(sides, rounds)
    parts.append(others.part())
    medians = {column: statistics.median(values) for column, values in measured.items()}
    products = [column for column in medians if column.startswith(MATMUL)]
    told[direction] = {"seconds": medians, "rounds": measured, "peak": min(products, key=medians.get, default=None)}
    for worker in workers.values():
      worker.ask("forget")
  taken = None if None in parts else statistics.mean(parts)
  return {**operation, "precision": precision, "directions": told, "others": taken}


def _seconds(worker: Worker, column: str, direction: str, count: int) -> float:
  return worker.ask("time", column=column, direction=direction, count=count)["seconds"]


def speedup(result: dict, direction: str, column: str | None) -> float | None:
  """How many times faster ours is than a column, in one direction; None where that was not measured."""
  rounds = result["directions"].get(direction, {"rounds": {}})["rounds"]
  return turns.ratio(rounds[column], rounds[OURS]).median if column in rounds else None


def means(results: Sequence[dict]) -> list[dict]:
  """Geometric means over the distinct operations of each kind.

  Returns:
    {"precision", "op", "direction", "against" ("peak", "pytorch" or "xla"), "mean" (how many times faster ours is),
    "least", "count"}; for the 1×1 only those with at least `LARGE` MACs.
  """
  told = []
  for precision in dict.fromkeys(result["precision"] for result in results):
    for op in (POINTWISE, CONV, POOL):
      counted = [result for result in results if (result["precision"], result["op"]) == (precision, op)]
      counted = [result for result in counted if op != POINTWISE or result["macs"] >= LARGE]
      for against in ("peak", PYTORCH, XLA):
        for direction in operations.DIRECTIONS:
          column = lambda result, against=against, direction=direction: (
            result["directions"].get(direction, {}).get("peak") if against == "peak" else against
          )
          ratios = [speedup(result, direction, column(result)) for result in counted]
          ratios = [ratio for ratio in ratios if ratio is not None]
          if ratios:
            row = {"precision": precision, "op": op, "direction": direction, "against": against}
            told.append({**row, "mean": statistics.geometric_mean(ratios), "least": min(ratios), "count": len(ratios)})
  return told


def table(results: Sequence[dict], lowerings: Sequence[str]) -> Table:
  """GFLOP/s of each operation in each direction, ms for pools."""
  shown = Table(title="GFLOP/s, or ms (pools)", show_lines=False)
  columns = [OURS, XLA, *(f"lowering {name}" for name in lowerings), PYTORCH]
  columns = [column for column in columns if any(column in told["seconds"] for told in _directions(results))]
  for name in ("type", "operation", "million MACs", "", *columns, "peak", "ours / peak", "ours / PyTorch"):
    shown.add_column(name, justify="left" if name in ("type", "operation", "") else "right")
  for result in results:
    for direction, told in result["directions"].items():

      def speed(column: str | None, result=result, told=told) -> str:
        if column not in told["seconds"]:
          return ""
        seconds = told["seconds"][column]
        return f"{2 * result['macs'] / seconds / 1e9:,.0f}" if result["macs"] else f"{seconds * 1e3:.2f} ms"

      peak, against = speedup(result, direction, told["peak"]), speedup(result, direction, PYTORCH)
      by = {"matmul of nin_jax": " X", "matmul of pytorch": " P"}.get(told["peak"], "")
      shown.add_row(
        result["precision"],
        operations.name(result),
        f"{result['macs'] / 1e6:,.0f}" if result["macs"] else "",
        direction,
        *map(speed, columns),
        speed(told["peak"]) + by,
        f"{peak:.0%}" if peak else "",
        f"{against:.2f}" if against else "",
      )
  shown.caption = "peak: the product of the same sizes, X by XLA, P by PyTorch, whichever is faster"
  return shown


def _directions(results: Sequence[dict]) -> Iterator[dict]:
  return (told for result in results for told in result["directions"].values())


def table_of_means(found: Sequence[dict]) -> Table:
  """A row for each of `means`."""
  shown = Table(title=f"how many times faster ours is: geometric means (1×1: those with at least {LARGE:.0e} MACs)")
  for name in ("type", "operations", "direction", "than", "mean", "least", "of"):
    shown.add_column(name)
  for row in found:
    against = "the matmul peak" if row["against"] == "peak" else row["against"]
    speeds = (f"{row['mean']:.2f}", f"{row['least']:.2f}", str(row["count"]))
    shown.add_row(row["precision"], row["op"], row["direction"], against, *speeds)
  return shown


def main() -> None:
  streams.set_up()
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
  )
  parser.add_argument(
    "--networks", nargs="*", help="files in configs/; nin_cifar10 and googlenet_imagenet, if no shapes"
  )
  parser.add_argument(
    "--shapes",
    nargs="+",
    default=[],
    type=layers.of_shape,
    help="as 64x32x32x192:5x5/2:160, 64x32x32x96:3x3:96/96 in groups",
  )
  parser.add_argument("--batch", type=int, help="images, in place of each network's own")
  parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32"])
  parser.add_argument("--least_macs", type=float, default=0, help="of a batch; leaves smaller operations out")
  parser.add_argument("--ops", nargs="+", choices=[POINTWISE, CONV, POOL], default=[POINTWISE, CONV, POOL])
  parser.add_argument("--lowerings", nargs="*", default=[], help="of k×k convolutions, as xla patches")
  parser.add_argument("--rounds", type=int, default=3, help="how often each side has its turn")
  parser.add_argument("--seconds", type=float, default=0.1, help="that a turn lasts, but at least one call")
  parser.add_argument("--tuned_pytorch", action="store_true", help="PyTorch with our allocator's settings")
  parser.add_argument("--json", type=Path, help="where the results go as JSON")
  asked = parser.parse_args()
  networks = asked.networks if asked.networks is not None else [] if asked.shapes else list(DEFAULTS)
  jax.config.update("jax_platforms", "cpu")  # this process only counts; the accelerator is the workers'
  found: dict[str, dict] = {}  # the same operation may be in several networks
  for network in networks:
    batch = asked.batch or BATCHES.get(network, (64,))[0]
    config = config_of(network, "float32", batch)
    for operation in layers.of_network(config, data.spec(config.data).image_shape, batch):
      found.setdefault(f"{operations.name(operation)} {batch}", operation)
  chosen = [*found.values(), *asked.shapes]
  chosen = [operation for operation in chosen if operation["op"] in asked.ops and operation["macs"] >= asked.least_macs]
  console, about = output.begin("ops", sys.argv[1:])
  results: list[dict] = []
  with contextlib.ExitStack() as stack:
    has_torch = importlib.util.find_spec("torch") is not None
    workers = {OURS: stack.enter_context(Worker("benchmarks.nin_jax_ops", tuned=True, shares=has_torch))}
    if has_torch:
      workers[PYTORCH] = stack.enter_context(Worker("benchmarks.pytorch_ops", tuned=asked.tuned_pytorch, shares=True))
    with console.status("") as status:
      for precision in asked.precisions:
        for number, operation in enumerate(chosen, 1):
          status.update(f"{precision}, {number} of {len(chosen)}: {operations.name(operation)}")
          results.append(measure(operation, precision, workers, asked.lowerings, asked.rounds, asked.seconds))
          output.write(
            asked.json, about, {"results": results, "means": means(results)}
          )  # lest a run broken off loses all
  console.print(table(results, asked.lowerings))
  console.print(table_of_means(means(results)))
  if warns := warning([statistics.mean(result["others"] or 0.0 for result in results)] if results else []):
    console.print(warns)


if __name__ == "__main__":
  main()
