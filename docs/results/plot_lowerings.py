"""Draws training curves by lowering: python docs/results/plot_lowerings.py OUT.png WORKDIR [WORKDIR …]

Runs of one `config.lowering` and several seeds are a band, from their least to their most, and a line, their mean.
"""

import collections
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

COLOURS = ("tab:blue", "tab:green", "tab:orange", "tab:red")


def main(out: str, workdirs: list[str]) -> None:
  runs = collections.defaultdict(list)
  for workdir in map(Path, workdirs):
    lowering = json.loads((workdir / "config.json").read_text())["lowering"]
    runs[lowering].append([json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()])
  figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
  for (lowering, of_seeds), colour in zip(sorted(runs.items()), COLOURS, strict=False):
    for panel, name in zip(axes, ("loss", "accuracy"), strict=True):
      rows = [[row for row in run if row["split"] == "train"] for run in of_seeds]
      steps, values = [row["step"] for row in rows[0]], np.array([[row[name] for row in run] for run in rows])
      panel.plot(steps, values.mean(0), color=colour, lw=1.5, label=f"lowering={lowering}")
      panel.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
      tests = [[row for row in run if row["split"] == "test"] for run in of_seeds]
      for run in tests:
        panel.plot([row["step"] for row in run], [row[name] for row in run], "o", color=colour, ms=4)
      last = np.array([run[-1][name] for run in tests])
      print(
        f"{lowering}: test {name} {last.mean():.4f} ± {last.std(ddof=1):.4f} ({', '.join(f'{v:.4f}' for v in last)})"
      )
  axes[0].set(xlabel="step", ylabel="loss (nats)")
  axes[1].set(xlabel="step", ylabel="accuracy")
  for panel in axes:
    panel.grid(alpha=0.3)
    panel.set_xlim(0)
  axes[0].legend(frameon=False)
  figure.savefig(out, dpi=120)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
