"""Training and inference against PyTorch: the same networks, update rule and batches, in turns.

python -m benchmarks.throughput [--networks nin_cifar10 googlenet_torchvision] [--precisions float32 bfloat16]
  [--batch 64 128] [--rounds 7] [--seconds 2] [--tuned_pytorch] [--compiled_pytorch] [--json FILE]

Each side is a process of its own, which steps while the others wait: ours as the entry points set it up, PyTorch's as
the user's environment has it. `--tuned_pytorch` adds PyTorch with our allocator's settings, `--compiled_pytorch` with
torch.compile. Ours is the step of `nin_jax.train` with its input, from a resident data set of noise; PyTorch's batches
are tensors already. Both keep channels last, drop out in training, and decay kernels alone; parameters and MACs are
counted on both sides and have to be equal. Without PyTorch, ours runs alone.

A ratio is the median over the rounds of ours / theirs, with the smallest and the largest; speeds are medians. Peak
memory is the whole process's on a CPU, with compilation where nothing was cached, and the device's on an accelerator.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.table import Table

from benchmarks import output, turns
from benchmarks.cases import BATCHES, config_of
from benchmarks.others import Others, warning
from benchmarks.worker import Worker
from nin_jax import streams

MODES = ("inference", "training")  # in this order: a process's peak memory only grows
OURS, PYTORCH, TUNED, COMPILED = "nin_jax", "pytorch", "pytorch_tuned", "pytorch_compiled"
PEAK = "peak"  # of the matrix product, FLOP/s


def measure(
  network: str, precision: str, batch: int, others: Sequence[str], rounds: int, seconds: float, modes: Sequence[str]
) -> list[dict]:
  """One result for each mode.

  Args:
    network: of `BATCHES`.
    precision: "float32" or "bfloat16".
    batch: images a step.
    others: the sides besides ours.
    rounds: how often each side has its turn.
    seconds: that a turn lasts, but at least one step.
    modes: of `MODES`.

  Returns:
    {"network", "precision", "batch", "mode", "params", "macs", "sides": {side: {"images_per_second" (median), "rounds",
    "steps_per_turn", "peak_bytes", "device_peak_bytes"}}, "ratios": {side: {"median", "least", "most"}}, "of_peak" (of
    ours), "peak_flops", "device", "others" (see `Others`)}; `params` and `macs` of the mode, in training with auxiliary
    heads.
  """
  config = config_of(network, precision, batch)
  with contextlib.ExitStack() as stack:
    sides = {OURS: stack.enter_context(Worker("benchmarks.nin_jax_steps", tuned=True, shares=bool(others)))}
    about = sides[OURS].ask("prepare", network=network, precision=precision, batch=batch)
    for side in others:
      sides[side] = stack.enter_context(Worker("benchmarks.pytorch_steps", tuned=side == TUNED, shares=True))
      case = {"image_size": about["image_size"], "num_classes": config.model.num_classes, "compiled": side == COMPILED}
      theirs = sides[side].ask("prepare", network=network, precision=precision, batch=batch, **case)
      check_equal(about, theirs)
    results = []
    for mode in modes:
      counts = {side: _steps(worker, mode, seconds) for side, worker in sides.items()}
      measure_one = {side: partial(_speed, worker, mode, counts[side], batch) for side, worker in sides.items()}
      if about["peak_known"]:
        measure_one[PEAK] = lambda: sides[OURS].ask("peak")["flops_per_second"]
      others_meanwhile = Others(worker.pid for worker in sides.values())
      measured = turns.in_turns(measure_one, rounds)
      taken = others_meanwhile.part()
      memory = {side: worker.ask("memory") for side, worker in sides.items()}
      case = {"network": network, "precision": precision, "batch": batch, "mode": mode, "others": taken}
      results.append(case | summary(about, mode, batch, measured, counts, memory))
  return results


def check_equal(ours: dict, theirs: dict) -> None:
  """Raises AssertionError where the two sides' networks differ in parameters or MACs."""
  for mode in MODES:
    if ours[mode] != theirs[mode]:
      raise AssertionError(f"not the same network in {mode}: ours has {ours[mode]}, PyTorch's {theirs[mode]}")


def summary(about: dict, mode: str, batch: int, measured: dict, counts: dict, memory: dict) -> dict:
  """What `measure` returns for one mode, but for the case; `measured` has speeds and `PEAK`, round by round."""
  speeds = {side: values for side, values in measured.items() if side != PEAK}
  of_peak = None
  if PEAK in measured:
    flops = about["step_flops"][mode] / batch
    of_peak = turns.ratio([flops * speed for speed in measured[OURS]], measured[PEAK]).median
  return {
    **about[mode],
    "sides": {
      side: {"images_per_second": statistics.median(rounds), "rounds": rounds, "steps_per_turn": counts[side]}
      | memory[side]
      for side, rounds in speeds.items()
    },
    "ratios": {side: vars(turns.ratio(speeds[OURS], rounds)) for side, rounds in speeds.items() if side != OURS},
    "of_peak": of_peak,
    "peak_flops": statistics.median(measured[PEAK]) if PEAK in measured else None,
    "peak": "of the measured matmul peak" if about["platform"] == "cpu" else "model FLOPs utilisation (MFU)",
    "device": about["device"],
  }


def _steps(worker: Worker, mode: str, seconds: float) -> int:
  """How many steps a turn has; the first ones, which compile and warm up, are left out."""
  worker.ask("time", mode=mode, count=2)
  return max(1, round(seconds / worker.ask("time", mode=mode, count=1)["seconds"]))


def _speed(worker: Worker, mode: str, count: int, batch: int) -> float:
  """Images per second in one turn."""
  return count * batch / worker.ask("time", mode=mode, count=count)["seconds"]


def table(results: Sequence[dict]) -> Table:
  """A row for each result."""
  others = list(dict.fromkeys(side for result in results for side in result["ratios"]))
  shown = Table(title="images per second (peak memory)")
  for name in ("network", "batch", "type", "", OURS, "of peak"):
    shown.add_column(name)
  shown.caption = f"of peak: {results[0]['peak']}; on {results[0]['device']}" if results else None
  for side in others:
    shown.add_column(side)
    shown.add_column("ratio (least–most)")
  for result in results:
    cells = [result["network"], str(result["batch"]), result["precision"], result["mode"]]
    cells += [_shown(result["sides"][OURS]), f"{result['of_peak']:.0%}" if result["of_peak"] else "–"]
    for side in others:
      ratio = result["ratios"][side]
      cells += [
        _shown(result["sides"][side]),
        f"[bold]{ratio['median']:.2f}[/bold] ({ratio['least']:.2f}–{ratio['most']:.2f})",
      ]
    shown.add_row(*cells)
  return shown


def _shown(side: dict) -> str:
  peak = side["device_peak_bytes"] or side["peak_bytes"]
  return f"{side['images_per_second']:,.1f}" + (f" ({peak / 2**30:.2f} GiB)" if peak else "")


def main() -> None:
  streams.set_up()
  parser = argparse.ArgumentParser(
    description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
  )
  defaults = ["nin_cifar10", "googlenet_torchvision"]
  parser.add_argument("--networks", nargs="+", choices=list(BATCHES), default=defaults, help="files in configs/")
  parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
  parser.add_argument("--batch", nargs="+", type=int, help="images a step, in place of each network's own")
  parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
  parser.add_argument("--rounds", type=int, default=7, help="how often each side has its turn")
  parser.add_argument("--seconds", type=float, default=2.0, help="that a turn lasts, but at least one step")
  parser.add_argument("--tuned_pytorch", action="store_true", help="adds PyTorch with our allocator's settings")
  parser.add_argument("--compiled_pytorch", action="store_true", help="adds PyTorch with torch.compile")
  parser.add_argument("--ours_alone", action="store_true", help="leaves PyTorch out")
  parser.add_argument("--json", type=Path, help="where the results go as JSON")
  asked = parser.parse_args()
  others = [PYTORCH, *[TUNED] * asked.tuned_pytorch, *[COMPILED] * asked.compiled_pytorch]
  if asked.ours_alone or importlib.util.find_spec("torch") is None:
    others = []
  console, about = output.begin("throughput", sys.argv[1:])
  results: list[dict] = []
  for network in asked.networks:
    for precision in asked.precisions:
      for batch in asked.batch or BATCHES[network]:
        console.print(f"{network}, {precision}, batch {batch} …", markup=False, end="", soft_wrap=True)
        new = measure(network, precision, batch, others, asked.rounds, asked.seconds, asked.modes)
        for result in new:
          speeds = ", ".join(f"{side} {told['images_per_second']:,.1f}" for side, told in result["sides"].items())
          console.print(f" {result['mode']}: {speeds};", markup=False, end="", soft_wrap=True)
        console.print()
        results += new
        output.write(asked.json, about, {"results": results})  # after each, lest a run broken off leaves nothing
  console.print(table(results))
  if warns := warning(result["others"] for result in results):
    console.print(warns)


if __name__ == "__main__":
  main()
