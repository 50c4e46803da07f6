"""Files as a sweep leaves them, made in a moment: 6 settings × 3 seeds, one trial failed, one not run yet."""

import json
import math
import random

from configs import inception_digits

SCALES = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0)
FEW = {"scales": (0.125, 0.25, 0.5, 1.0), "waiting": (0.5, 1)}  # where each network is traced
COSTS = {  # params, MACs
  0.0625: (33_008, 851_136),
  0.125: (38_600, 980_288),
  0.25: (51_414, 1_342_528),
  0.5: (77_042, 2_067_008),
  0.75: (102_670, 2_791_488),
  1.0: (128_298, 3_515_968),
}
WRONG = {  # of 360 images, by seed; the knee is at 0.25
  0.0625: (13, 11, 12),
  0.125: (7, 8, 6),
  0.25: (4, 3, 3),
  0.5: (4, 4, 3),
  0.75: (4, 3, 3),
  1.0: (2, 4, 3),
}
FAILED, WAITING = (0.125, 2), (0.75, 1)  # (reduce_scale, seed)
ERROR = "TrainingStopped: step 120: loss is not finite </script><script>document.title='broken'</script> & <b>so</b>"
VERSIONS = {"python": "3.11.7", "jax": "0.10.2", "flax": "0.12.8"}


def write(workdir, seeds=(0, 1, 2), scales=SCALES, failed=FAILED, waiting=WAITING, trials=True):
  """Writes `sweep.json`, `results.jsonl`, and where `trials` holds each trial's config and metrics; gives the lines."""
  chance, speeds, plan, lines = random.Random(0), random.Random(1), [], []
  for scale in scales:
    for seed in seeds:
      params, macs = COSTS[scale]
      trial = f"{len(plan):03d}-reduce_scale-{scale:g}-seed-{seed}"
      costs = {"params": params, "macs": macs, "flops": 2 * macs, "train_flops": 6 * macs * 440 * 64}
      about = {"trial": trial, "overrides": {"model.reduce_scale": scale, "seed": seed}, "seed": seed}
      plan.append({**about, **costs, "seconds": 30.0})
      if (scale, seed) == waiting:
        continue
      if (scale, seed) == failed:
        reached = dict.fromkeys(("test_accuracy", "test_loss", "train_accuracy", "images_per_second", "wall_seconds"))
        line = {**about, "status": "failed", "error": ERROR, "attempts": 1, **costs, **reached}
      else:
        accuracy = 1 - WRONG[scale][seed] / 360
        speed = 1e9 / (macs + 2e5) * speeds.uniform(0.97, 1.03)
        reached = {"steps": 440, "test_accuracy": accuracy, "test_loss": 0.03 + (1 - accuracy) * 3}
        reached |= {
          "train_accuracy": min(1.0, accuracy + 0.006),
          "images_per_second": speed,
          "wall_seconds": 28160 / speed,
        }
        machine = {"device": "cpu", "devices": 1, "versions": VERSIONS}
        line = {**about, "status": "done", "error": None, "attempts": 1, **costs, **reached, **machine}
      lines.append(line)
      if trials:
        _trial(workdir / "trials" / trial, scale, seed, line, chance)
  workdir.mkdir(parents=True, exist_ok=True)
  base = inception_digits.get_config().to_dict()
  about = {"sweep": "bottleneck", "config": "configs/inception_digits.py", "base": base, "max_macs": None}
  (workdir / "sweep.json").write_text(
    json.dumps(about | {"max_params": None, "duplicates": 0, "left_out": [], "trials": plan})
  )
  rewrite(workdir, lines)
  return lines


def rewrite(workdir, lines):
  (workdir / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _trial(directory, scale, seed, line, chance):
  directory.mkdir(parents=True)
  config = inception_digits.get_config()
  config.model.reduce_scale, config.seed = scale, seed
  (directory / "config.json").write_text(json.dumps(config.to_dict()))
  rows, reached = [], line["test_accuracy"] or 0.5
  for step in range(22, 441 if line["status"] == "done" else 121, 22):
    fade = math.exp(-step / (80 + 30 * (1 - scale) + 3 * seed))
    numbers = {"loss": 2.3 * fade + (0.05 - 0.04 * scale) * chance.uniform(0.7, 1.3), "accuracy": 1 - 0.9 * fade}
    rows.append({"step": step, "epoch": step / 22.453, "split": "train", **numbers})
    if step % 44 == 0:
      accuracy = reached - (reached - 0.1) * (fade if step < 440 else 0)
      rows.append({"step": step, "epoch": step / 22.453, "split": "test", "loss": 0.1, "accuracy": accuracy})
  (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
