"""Peaks, names of devices, and bounds."""

import jax
import pytest

from nin_jax.cost import Layer, roofline
from nin_jax.cost.peaks import PEAKS
from nin_jax.errors import ConfigError


@pytest.mark.parametrize(
  ("name", "dtype", "kind", "tera", "giga"),
  [
    ("TPU v4", "bfloat16", "TPU v4", 275, 1228),
    ("tpu v5e", "bfloat16", "TPU v5 lite", 197, 819),
    ("TPU v3", "bfloat16", "TPU v3", 61.5, 450),  # a core, half a chip
    ("h100", "bfloat16", "NVIDIA H100 80GB HBM3", 989.4, 3350),
    ("NVIDIA H200", "float32", "NVIDIA H200", 494.7, 4800),  # TF32
    ("a100", "float16", "NVIDIA A100-SXM4-80GB", 312, 2039),
    ("t4", "float16", "Tesla T4", 65, 320),
    ("Tesla T4", "float32", "Tesla T4", 8.1, 320),
  ],
)
def test_published_peaks(name, dtype, kind, tera, giga):
  device = roofline.device(name, dtype)
  assert (device.kind, device.peak_flops, device.bandwidth) == (kind, pytest.approx(tera * 1e12), giga * 1e9)


def test_each_name_means_one_device():
  names = [roofline._plain(name) for peak in PEAKS for name in {peak.kind, *peak.names}]
  assert len(names) == len(set(names))


def test_an_unknown_device_asked_for_by_name_is_the_users_mistake():
  with pytest.raises(ConfigError, match=r"--device='abacus'.*cpu.*Tesla T4"):
    roofline.device("abacus")
  with pytest.raises(ConfigError, match=r"--device='t4'.*bfloat16.*float32 and float16"):
    roofline.device("t4", "bfloat16")
  with pytest.raises(ConfigError, match="precision='int8'"):
    roofline.device("t4", "int8")


class Stranger:
  platform, device_kind = "gpu", "NVIDIA X9000"


class T4:
  platform, device_kind = "gpu", "Tesla T4"


def test_nothing_is_claimed_of_an_unknown_current_device(monkeypatch):
  monkeypatch.setattr(jax, "devices", lambda *_: [Stranger()])
  assert roofline.current("float32") is None
  monkeypatch.setattr(jax, "devices", lambda *_: [T4()])
  assert roofline.current("bfloat16") is None
  assert roofline.current("float32").kind == "Tesla T4"


def test_the_cpu_is_measured_once_and_plausible():
  device = roofline.device("CPU")
  assert 1e8 < device.peak_flops < 1e14
  assert 1e8 < device.bandwidth < 1e13
  assert roofline.device("cpu") is device


def test_a_layer_is_bound_by_what_takes_longer():
  device = roofline.Device("toy", peak_flops=100.0, bandwidth=10.0)
  computing = roofline.bound(Layer("a", "conv", macs=500, bytes=50), device)
  assert (computing.seconds, computing.attainable_flops, computing.by) == (10.0, 100.0, "compute")
  moving = roofline.bound(Layer("b", "conv", macs=100, bytes=50), device)
  assert (moving.seconds, moving.attainable_flops, moving.by) == (5.0, 40.0, "memory")
  assert roofline.bound(Layer("c", "params"), device) is None
