"""Draws the learning curves of runs: python docs/results/plot_curves.py OUT.png WORKDIR [WORKDIR …]"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main(out: str, workdirs: list[str]) -> None:
  figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
  for workdir, colour in zip(workdirs, plt.cm.viridis([0.1, 0.5, 0.8] * len(workdirs)), strict=False):
    rows = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    seed = json.loads((Path(workdir) / "config.json").read_text())["seed"]
    for split, style in (("train", {"lw": 1.2}), ("test", {"ls": "none", "marker": "o", "ms": 6})):
      chosen = [row for row in rows if row["split"] == split]
      epochs = [row["epoch"] for row in chosen]
      losses.plot(epochs, [row["loss"] for row in chosen], color=colour, **style)
      values = [100 * row["accuracy"] for row in chosen]
      accuracies.plot(epochs, values, color=colour, label=f"{split}, seed {seed}", **style)
  losses.set(xlabel="epoch", ylabel="loss (nats)", yscale="log", xlim=0)
  accuracies.set(xlabel="epoch", ylabel="accuracy (%)", xlim=0, ylim=(50, 100))
  for axes in (losses, accuracies):
    axes.grid(alpha=0.3)
  losses.yaxis.set_major_formatter("{x:g}")
  losses.yaxis.set_minor_formatter("{x:g}")
  accuracies.legend(loc="lower right", ncols=len(workdirs), frameon=False)
  figure.savefig(out, dpi=120)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
