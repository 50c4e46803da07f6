"""A small Inception net on Fashion-MNIST, of a size whose sweeps a CPU can train.

python -m experiments.train --config=configs/inception_fashion_mnist.py --config.data.dir=DIR --workdir=workdirs/fashion
python -m experiments.sweep --config=configs/inception_fashion_mnist.py --config.data.dir=DIR --sweep=bottleneck --plan

24,950 parameters, 2,396,944 MACs an image. Test accuracy after two epochs: 89.26 ± 0.32 % (mean and standard deviation
of the seeds 0, 1 and 2). The sweep took 28 min on two shared cores of an AMD EPYC, see
docs/results/bottleneck_fashion_mnist.md.
"""

from nin_jax import models
from nin_jax.config import default
from nin_jax.models.inception import width_config


def get_config():
  config = default()
  config.model = model = models.defaults("inception")
  for name in ("inception_1b", "inception_2b"):
    del model[name]
  model.stem_features = (8,)
  model.inception_1a = width_config(4, 4, 8, 2, 4, 4)
  model.inception_2a = width_config(16, 16, 24, 4, 8, 8)
  model.inception_3a = width_config(24, 24, 48, 8, 16, 16)
  config.data.name = "fashion_mnist"
  config.data.batch_size = 128
  config.data.flip = True
  config.optimizer.learning_rate = 0.1
  config.optimizer.nesterov = True
  config.optimizer.schedule = "cosine"
  config.optimizer.warmup = 0.5
  config.optimizer.weight_decay = 5e-4
  config.train.epochs = 2.0
  return config


def sweep_bottleneck():
  """How narrow the reductions may be: an eighth of their width to twice it; three seeds of each."""
  return {"model.reduce_scale": [0.125, 0.25, 0.5, 1.0, 2.0], "seed": range(3)}
