"""Our side of `benchmarks.throughput`: the steps that `experiments.train` and `experiments.evaluate` take.

Run by its parent: see `worker`.
"""

import collections
import math
import time

import jax

from benchmarks import cases, noise, worker
from nin_jax import models
from nin_jax.cost import roofline
from nin_jax.train import budget, steps
from nin_jax.train.costs import Costs
from nin_jax.train.program import Alone


class Side:
  """One case; `prepare` comes first."""

  def prepare(self, network: str, precision: str, batch: int) -> dict:
    """Sets it up, and tells what it is that is measured."""
    config = cases.config_of(network, precision, batch)
    self._setup = setup = noise.set_up_on_noise(config)
    self._program, self._batch, self._step = Alone(setup), batch, 0
    self._state = self._program.place({0: setup.first_state()})
    self._cost = cost = Costs(setup)
    unmapped = models.build(config.model, setup.image_shape, precision)
    training = budget.training_cost(unmapped, config.train, setup.image_shape).total
    first = setup.devices[0]
    return {
      "inference": {name: cost.inference[name] for name in ("params", "macs")},
      "training": {name: training[name] for name in ("params", "macs")},
      "step_flops": {"inference": cost.inference["flops"] * batch, "training": cost.step_flops},
      "peak_known": cost.peak is not None,
      "image_size": setup.image_shape[0],
      "device": first.device_kind if first.platform == "cpu" else f"{len(setup.devices)} × {first.device_kind}",
      "platform": first.platform,
    }

  def time(self, mode: str, count: int) -> dict:
    """{"seconds"} of so many steps of "training" or "inference", begun and ended with an idle device."""
    return {"seconds": {"training": self._train, "inference": self._infer}[mode](count)}

  def _train(self, count: int) -> float:
    state = self._state
    with self._program.batches(self._step) as batches:
      began = time.perf_counter()
      for _ in range(count):
        state, metrics = self._program.step(state, [next(batches)], 0)
      jax.block_until_ready((state, metrics))
      seconds = time.perf_counter() - began
    self._state, self._step = state, self._step + count
    ((numbers,),) = self._program.numbers(metrics)
    assert math.isfinite(numbers["objective"]), f"the loss is {numbers['objective']}"
    return seconds

  def _infer(self, count: int) -> float:
    setup = self._setup
    compiled, devices = setup.compiled, setup.devices
    batch = next(setup.pipeline.eval_batches("test", self._batch))
    examples = compiled.load["test"](setup.arrays, steps.shard(batch, devices))
    variables, flags = setup.evaluated(self._state), steps.stop_flags(0, devices)
    jax.block_until_ready((examples, variables))
    running: collections.deque = collections.deque()  # as in `evaluation.evaluate`
    began = time.perf_counter()
    for _ in range(count):
      running.append(compiled.evaluate(variables, examples, flags))
      if len(running) > steps.ahead(devices):
        jax.block_until_ready(running.popleft())
    jax.block_until_ready(list(running))
    return time.perf_counter() - began

  def peak(self) -> dict:
    """{"flops_per_second"} of matrix products, on all devices: accelerators' from a table, a CPU's measured now."""
    if self._setup.devices[0].platform == "cpu":
      return {"flops_per_second": roofline.cpu_peak(self._setup.config.precision)}
    return {"flops_per_second": self._cost.peak}

  def memory(self) -> dict:
    """{"peak_bytes", "device_peak_bytes"}: see `worker.peak_memory`; the second of an accelerator, or None."""
    told = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in self._setup.devices]
    on_cpu = self._setup.devices[0].platform == "cpu"
    return {"peak_bytes": worker.peak_memory(), "device_peak_bytes": None if on_cpu or None in told else max(told)}


def main() -> None:
  from nin_jax.train.compilation import keep_compiled

  keep_compiled()
  side = Side()
  worker.serve({"prepare": side.prepare, "time": side.time, "peak": side.peak, "memory": side.memory})


if __name__ == "__main__":
  main()
