"""The most that accelerators can do: dense FLOP/s by type, and memory bandwidth, by JAX's `device_kind`.

Dense figures, without sparsity, per JAX device: on TPU v2 and v3 a device is one core, half a chip; from v4 on it is a
chip. float32 is what JAX does by default: bfloat16 passes through the matrix unit on TPUs, TF32 on NVIDIA since Ampere,
plain float32 cores before. None: the device has no such unit.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Peak:
  """One kind of device: FLOP/s by type, the memory's bandwidth in bytes/s, and the names people use for it."""

  kind: str
  float32: float
  bfloat16: float | None
  float16: float | None
  bandwidth: float
  names: tuple[str, ...] = ()


def _tpu(kind: str, tera: float, giga: float, *names: str) -> Peak:
  """One figure for both: on a TPU the default precision of float32 products is one bfloat16 pass."""
  return Peak(kind, tera * 1e12, tera * 1e12, None, giga * 1e9, names)


def _gpu(kind: str, float32: float, bfloat16: float | None, float16: float, giga: float, *names: str) -> Peak:
  half = None if bfloat16 is None else bfloat16 * 1e12
  return Peak(kind, float32 * 1e12, half, float16 * 1e12, giga * 1e9, names)


PEAKS = (
  # cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e: "Peak compute per chip (bf16)" and "HBM bandwidth".
  # v2 (45 TFLOP/s, 700 GB/s) and v3 (123 TFLOP/s, 900 GB/s) are halved: two cores to a chip, each a JAX device.
  _tpu("TPU v2", 22.5, 350, "v2"),
  _tpu("TPU v3", 61.5, 450, "v3"),
  _tpu("TPU v4", 275, 1228, "v4"),
  _tpu("TPU v5 lite", 197, 819, "TPU v5e", "v5e", "v5litepod"),
  _tpu("TPU v5", 459, 2765, "TPU v5p", "v5p"),
  _tpu("TPU v6 lite", 918, 1640, "TPU v6e", "v6e", "Trillium"),
  # NVIDIA's data sheets, tensor cores without sparsity: TF32, BF16, FP16, memory bandwidth.
  _gpu("NVIDIA H200", 494.7, 989.4, 989.4, 4800, "H200"),
  _gpu("NVIDIA H100 80GB HBM3", 494.7, 989.4, 989.4, 3350, "H100", "H100 SXM"),
  _gpu("NVIDIA H100 PCIe", 378, 756, 756, 2000, "H100 PCIe"),
  _gpu("NVIDIA A100-SXM4-80GB", 156, 312, 312, 2039, "A100", "A100-80GB"),
  _gpu("NVIDIA A100-SXM4-40GB", 156, 312, 312, 1555, "A100-40GB"),
  _gpu("NVIDIA A100-PCIE-40GB", 156, 312, 312, 1555),
  _gpu("NVIDIA A100 80GB PCIe", 156, 312, 312, 1935),
  _gpu("NVIDIA L4", 60.5, 121, 121, 300, "L4"),
  _gpu("NVIDIA L40S", 183, 362, 362, 864, "L40S"),
  # A10G: 70 TFLOP/s dense FP16 and 35 TF32 (AWS g5's data sheet; lower clocks than the A10's 125).
  _gpu("NVIDIA A10G", 35, 70, 70, 600, "A10G"),
  _gpu("NVIDIA A10", 62.5, 125, 125, 600, "A10"),
  # NVIDIA Ampere GA102 and Ada white papers, appendix A: FP16/BF16 with FP32 accumulation, TF32.
  _gpu("NVIDIA GeForce RTX 3090", 35.6, 71, 71, 936, "RTX 3090", "3090"),
  _gpu("NVIDIA GeForce RTX 4090", 82.6, 165.2, 165.2, 1008, "RTX 4090", "4090"),
  # Volta and Turing: float32 on the CUDA cores, float16 on the tensor cores, no bfloat16.
  _gpu("Tesla V100-SXM2-16GB", 15.7, None, 125, 900, "V100", "NVIDIA V100"),
  _gpu("Tesla V100-SXM2-32GB", 15.7, None, 125, 900),
  _gpu("Tesla T4", 8.1, None, 65, 320, "T4", "NVIDIA T4"),
  _gpu("Tesla P100-PCIE-16GB", 9.3, None, 18.7, 732, "P100"),
)
