"""What else the machine did meanwhile: PyTorch's threads wait for each other, and lose most to a neighbour."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

NOTABLE = 0.05


class Others:
  """From its making on, the part of the machine's CPU time that other processes took, or the host from a guest.

  Args:
    pids: of the benchmark's own processes, this one apart.
  """

  def __init__(self, pids: Iterable[int]):
    self._pids = [os.getpid(), *pids]
    self._began = self._now()

  def part(self) -> float | None:
    """0 to 1; None where the system does not say."""
    if self._began is None:
      return None
    busy, seconds = (now - then for now, then in zip(self._now(), self._began, strict=True))
    return max(0.0, busy / (seconds * (os.cpu_count() or 1)))

  def _now(self) -> tuple[float, float] | None:
    """CPU seconds of all other processes, and the time."""
    try:
      tick = os.sysconf("SC_CLK_TCK")
      user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]
      )
      own = 0
      for pid in self._pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        own += int(fields[11]) + int(fields[12])
    except (OSError, ValueError):
      return None
    return (user + nice + system + irq + softirq + steal - own) / tick, time.monotonic()


def warning(parts: Iterable[float | None]) -> str | None:
  """A line, where others took a notable part."""
  most = max((part for part in parts if part is not None), default=0.0)
  return (
    f"others took up to {most:.0%} of the machine meanwhile: measure again when it is idle" if most > NOTABLE else None
  )
