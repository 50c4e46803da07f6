"""PyTorch's side of `benchmarks.throughput`. Run by its parent: see `worker`."""

import itertools
import math
import time

import torch
from torch import nn

from benchmarks import cases, pytorch_networks, worker

AUXILIARY_WEIGHT = 0.3  # train.auxiliary_weight


class Side:
  """One case; `prepare` comes first."""

  def prepare(
    self, network: str, precision: str, batch: int, image_size: int, num_classes: int, compiled: bool
  ) -> dict:
    """Sets it up, and tells what it is that is measured.

    Args:
      network: of `pytorch_networks.NETWORKS`.
      precision: "float32", or "bfloat16" for autocast.
      batch: images a step.
      image_size: height and width.
      num_classes: labels.
      compiled: whether by torch.compile.
    """
    torch.manual_seed(0)
    self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if self._device.type == "cuda":  # as JAX does by default, and with the fastest of cuDNN's algorithms
      torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
      torch.backends.cudnn.benchmark = True
    built = pytorch_networks.NETWORKS[network]().to(self._device, memory_format=torch.channels_last)
    kernels = [parameter for parameter in built.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in built.parameters() if parameter.ndim == 1]
    self._optimizer = torch.optim.SGD(
      [{"params": kernels, "weight_decay": cases.WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
      lr=cases.LEARNING_RATE,
      momentum=cases.MOMENTUM,
      fused=True,
    )
    self._network = torch.compile(built) if compiled else built
    count, channels_last = cases.BATCHES_OF_NOISE, torch.channels_last
    images = torch.randn(count, batch, 3, image_size, image_size, device=self._device)
    labels = torch.randint(num_classes, (count, batch), device=self._device)
    self._batches = itertools.cycle(
      [(images[i].contiguous(memory_format=channels_last), labels[i]) for i in range(count)]
    )
    self._loss = nn.CrossEntropyLoss()
    self._autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=precision == "bfloat16")
    return {
      "inference": pytorch_networks.count(network, image_size, train=False),
      "training": pytorch_networks.count(network, image_size, train=True),
      "threads": torch.get_num_threads(),
    }

  def time(self, mode: str, count: int) -> dict:
    """{"seconds"} of so many steps of "training" or "inference", begun and ended with an idle device."""
    self._network.train(mode == "training")
    step = self._train if mode == "training" else self._infer
    self._wait()
    began = time.perf_counter()
    for _ in range(count):
      last = step()
    self._wait()
    seconds = time.perf_counter() - began
    assert math.isfinite(last.item()), f"the loss is {last.item()}"
    return {"seconds": seconds}

  def _train(self) -> torch.Tensor:
    images, labels = next(self._batches)
    self._optimizer.zero_grad()
    with self._autocast:
      logits, auxiliary = self._network(images)
      loss = self._loss(logits, labels)
      for more in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * self._loss(more, labels)
    loss.backward()
    self._optimizer.step()
    return loss

  def _infer(self) -> torch.Tensor:
    images, labels = next(self._batches)
    with torch.inference_mode(), self._autocast:
      logits, _ = self._network(images)
      return self._loss(logits, labels)

  def _wait(self) -> None:
    if self._device.type == "cuda":
      torch.cuda.synchronize()

  def memory(self) -> dict:
    """{"peak_bytes", "device_peak_bytes"}: see `worker.peak_memory`; the second on CUDA, else None."""
    on_cuda = self._device.type == "cuda"
    return {
      "peak_bytes": worker.peak_memory(),
      "device_peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
    }


def main() -> None:
  side = Side()
  worker.serve({"prepare": side.prepare, "time": side.time, "memory": side.memory})


if __name__ == "__main__":
  main()
