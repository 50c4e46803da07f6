"""Sweeps of small runs, drawn at random, for `campaign.py`."""

import random
from pathlib import Path

import drawn_runs

# What `sweep_drawn` returns, and the flags that it takes. A search is repeated exactly by one worker.
GRIDS = {
  "seeds together": '{"optimizer.learning_rate": [0.01, 0.003], "seed": [0, 1, 2]}',
  "a chain": (
    'space.chain(space.values("train.averaging", ["polyak", "ema"]), space.zip(space.values("precision", '
    '["bfloat16", "float32"]), space.values("optimizer.name", ["adamw", "sgd"])))'
  ),
  "a sample": 'space.product(space.sample(2, {"optimizer.learning_rate": space.log_uniform(1e-3, 0.1)}, seed=5), '
  'space.values("seed", [3, 4]))',
}
SEARCH = 'space.sample(9, {"optimizer.learning_rate": space.log_uniform(1e-6, 0.3)})'
SEARCHES = {"a search": SEARCH, "a search with seeds": f'space.product({SEARCH}, {{"seed": [0, 1]}})'}


def draw(chance: random.Random, directory: Path) -> tuple[drawn_runs.Drawn, list[str], str]:
  """Writes a config with a sweep into a directory; returns it, the flags of the sweep, and words on it."""
  kind = chance.choice([*GRIDS, *SEARCHES])
  flags = ["--sweep=drawn", f"--workers={chance.choice([1, 2]) if kind in GRIDS else 1}"]
  if kind in SEARCHES:
    flags += ["--search=optuna", f"--max_params={chance.choice(['1M', '1G'])}"]
  text = f"from nin_jax.sweep import space\n\n\ndef sweep_drawn():\n  return {(GRIDS | SEARCHES)[kind]}\n"
  drawn = drawn_runs.draw(chance, directory, text)
  return drawn, flags, f"{kind} with {flags[1][2:]} of: {drawn.words}"
