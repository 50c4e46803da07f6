"""The words that `drawn_commands.py` draws from. W stands for the directory of the files that commands read."""

import kill_a_sweep

# Two steps of a tiny network, and sweeps of it.
SMALL = """\
  config.data.train_split = "train[:200]"
  config.data.test_split = "test[:40]"
  config.eval.train_images = 32
  config.log.every_steps = 1
  return config
"""
FUNCTIONS = """
from nin_jax.sweep import space


def sweep_two():
  return {"model.inception_1a.reduce3x3": [1, 2]}


def sweep_search():
  return space.sample(2, {"optimizer.learning_rate": space.log_uniform(0.001, 0.1)})


def sweep_none():
  return None


def sweep_empty():
  return {}


def sweep_wrong():
  return [{"model.inception_1a.reduce3x3": -1}, {"no.such.field": 1}, {"seed": "x"}]


def sweep_raises():
  raise RuntimeError("a mistake\\nof two lines")
"""
NETWORK = kill_a_sweep.CONFIG.partition("def sweep_")[0].replace("STEPS", "2")
CONFIG = NETWORK.replace("  return config\n", SMALL) + FUNCTIONS
SWEEPS = ("two", "two", "two", "search", "search", "none", "empty", "wrong", "raises", "nowhere", "sweep_two", "")
# Config files with something wrong: name → text.
WRONG = {
  "syntax.py": "def get_config(:\n",
  "raises.py": "raise SystemExit(7)\n",
  "prints.py": CONFIG + "\nprint('printed')\n",
  "none.py": "def get_config():\n  return None\n",
  "number.py": "def get_config():\n  return 3\n",
  "empty.py": "",
  "recursive.py": "def get_config():\n  return get_config()\n",
  "nan.py": CONFIG.replace("  return config", "  config.eval.every_epochs = float('nan')\n  return config"),
  "bytes.py": "\ufeff# -*- coding: no-such -*-\n",
  "argument.py": CONFIG.replace("get_config()", "get_config(text)"),
  "name é [1].py": CONFIG,
}
ODD = (
  *("", " ", "0", "-1", "1", "2", "1e400", "nan", "-inf", "٣", "1_0", "0x10", "1 2", "9" * 5000, "True"),
  *("None", "()", "(1,", "é", "\u202eabc", "a\nb", "\x1b[31mred", "\udcff", "\ufeff", "%s{0}", "$(x)"),
  *("'\"", "-", "--", "=", "*", "[run]1", "a;b", "x" * 300, "y" * 5000, "__import__('os')"),
  *("gs://bucket/x", "http://[::1", "file:///x", "C:\\x", "auto", "localhost:1"),
)
# None that would be written to outside of W.
PATHS = (
  *("", ".", "..", "/dev/null", "/dev/full", "/proc/self/mem", "/proc/self/x", "~", "~nosuch/x"),
  *("W/no/such", "W/file", "W/file/below", "W/fifo", "W/loop", "W/dangling", "W/empty", "W/run"),
  *("W/begun", "W/sweep", "W/pictures", "W/new", "W/new é [1] {x}", "W/new\nline", "W/run/config.json"),
  *("W/run/checkpoints",),
  *("W/" + "x" * 300, "W/" + "x/" * 2500),
)
ENVIRONMENT = {
  "XDG_CACHE_HOME": (*PATHS, "relative"),
  "TFDS_DATA_DIR": PATHS,
  "HOME": ("", "W/file", "W/no/such"),
  "TMPDIR": ("W/no/such", "W/file"),
  "COLUMNS": ("0", "1", "x", "99999"),
  "TERM": ("", "dumb"),
  "JAX_NUM_PROCESSES": ("x", "2", "-1"),
  "JAX_PROCESS_ID": ("x", "5"),
  "JAX_COORDINATOR_ADDRESS": ("nonsense", "localhost:x", "localhost:99999"),
  "TPU_WORKER_HOSTNAMES": ("a,b",),
}
# Fields of the config, each with values that are likely to be right; and some that there are not.
FIELDS = {
  "seed": "1 4294967295",
  "precision": "bfloat16 float32",
  "lowering": "xla winograd patches auto",
  "data.name": "digits folder:W/pictures",
  "data.dir": "W/empty W/no",
  "data.cache_dir": "W/cache2 W/new/cache W/caché",
  "data.train_split": "train train[:50] train[80%:] train[:5]+test[:3]",
  "data.test_split": "test[:7] train[:20] train[80%:]",
  "data.batch_size": "1 16 64 30",
  "data.pipeline": "stream resident",
  "data.workers": "1 0",
  "data.broken_images": "skip",
  "data.channels": "1 3",
  "data.image_size": "8 12",
  "data.resize": "warp",
  "data.normalize": "scale gcn gcn_zca",
  "data.translate": "1 2",
  "data.crop": "6 8",
  "data.random_resized_crop": "(0.5,1.0) (0.1,0.2)",
  "data.random_aspect": "(1.0,1.0)",
  "data.flip": "true",
  "data.brightness": "0.5",
  "optimizer.name": "adamw sgd",
  "optimizer.learning_rate": "0.5 1e-9 1e10",
  "optimizer.momentum": "0.0 0.5",
  "optimizer.weight_decay": "0.1",
  "optimizer.learning_rate_factors": "(('.*',0.5),)",
  "optimizer.clip_norm": "1.0",
  "optimizer.schedule": "cosine polynomial",
  "optimizer.unit": "steps",
  "optimizer.warmup": "1.0",
  "optimizer.boundaries": "(1.0,2.0)",
  "optimizer.every": "0.5",
  "optimizer.power": "2.0",
  "train.epochs": "1.0",
  "train.steps": "1 3 7 1000000000",
  "train.init_from": "W/run W/begun",
  "train.label_smoothing": "0.1",
  "train.accumulate_steps": "2 4",
  "train.steps_per_call": "2 3 100",
  "train.remat": "true",
  "train.averaging": "ema polyak",
  "train.ema_decay": "0.9",
  "train.average_from": "0.5",
  "train.dead_steps": "0 1",
  "eval.batch_size": "1 7",
  "eval.every_epochs": "0.1 0.0",
  "eval.every_steps": "1 2",
  "eval.train_images": "1 0",
  "checkpoint.every_steps": "1 2",
  "checkpoint.keep": "1",
  "log.every_steps": "2 100",
  "log.tensorboard": "true",
  "model.name": "inception",
  "model.num_classes": "10 4",
  "model.norm": "none batch",
  "model.dropout": "0.5",
  "model.stem_features": "(2,3) (4,)",
  "model.linear": "('conv1x1',)",
  "model.downsample": "avg pointwise",
  "model.reduce_scale": "0.5 2.0",
  "model.init": "xavier gaussian",
  "model.inception_1a.conv3x3": "0 1",
  "model.inception_1a.reduce3x3": "0 3",
  "model.inception_1a": "1",
  "model.block1.features": "(2,)",
  "model.inception_9z.conv3x3": "1",
  "data": "digits",
  "train": "",
  "x": "1",
  "data.nam": "digits",
  "data.name.x": "1",
  ".": "1",
  "data.": "1",
  "é": "1",
}
# Of them those that may be changed of a run that is there.
FREE = (
  "lowering",
  "precision",
  "data.cache_dir",
  "data.workers",
  "data.broken_images",
  "eval.batch_size",
  "eval.every_steps",
  "eval.train_images",
  "checkpoint.every_steps",
  "checkpoint.keep",
  "log.every_steps",
  "log.tensorboard",
)
WORDS = """
  digits cifar10 mnist folder:W/pictures folder:W/run folder:W/fifo folder: train test train[:50] train[:0]
  train[80%:] train+test all stream resident skip warp gcn gcn_zca sgd adamw staircase polynomial cosine epochs
  steps ema polyak bfloat16 xla winograd patches nin inception googlenet batch none avg pointwise he (0.5,1.0)
  (1.0,0.5) (4,) (4,4) (('.*',0.5),) 0 1 2 3 4 8 16 32 64 0.1 0.5 1.0 1e-3 true false 1e9 1000000000 2147483648
  18446744073709551616 -5
"""
LOOSE = (
  "positional",
  "--nosuch=1",
  "--help",
  "--helpshort",
  "--",
  "--config",
  "-config.seed=1",
  "--flagfile=W/file",
  "--flagfile=W/no",
)
SENSIBLE = {
  "format": ("table", "json", "csv", "markdown"),
  "device": ("cpu", "h100", "tpu v4", "abacus"),
  "split": ("test", "train"),
  "step": ("1", "2", "0", "3"),
  "search": ("optuna",),
  "engine": ("local",),  # Ray's processes outlive a command that is killed for its time
  "storage": (
    "W/study.journal",
    "sqlite:///W/study.db",
    "sqlite://",
    "postgresql://u:secret@localhost:1/x",
    "W/file",
    "oracle://x",
  ),
  "max_macs": ("1M", "1", "1G"),
  "max_params": ("1k", "0", "1G"),
  "name": ("digits", "mnist", "cifar10", "no_such_set", "mnist:9.9.9"),
  "profile": ("1", "2"),
  "workers": ("1",),
  "num_processes": ("1", "1", "2"),
  "process_id": ("0", "0", "1"),
  "trials": ("1", "2"),
  "retries": ("0", "1"),
  "coordinator_address": ("localhost:0", "localhost:29871", "nowhere.invalid:1234", "[::1]:29872", ":1"),
  "image_size": ("8", "16", "100"),
  "depth": ("1", "2"),
}
BASES = {
  "train": ("--config=C", "--workdir=W/new"),
  "evaluate": ("--workdir=W/run",),
  "sweep": ("--config=C", "--sweep=two", "--workdir=W/new"),
  "report": ("--workdir=W/sweep",),
  "cost": ("--config=C",),
  "prepare_data": ("--name=mnist",),
}
PICTURES = ("--config.data.name=folder:W/pictures", "--config.model.num_classes=4", "--config.data.image_size=8")
DAMAGES = (
  "removed",
  "empty",
  "cut",
  "garbled",
  "a directory",
  "another JSON",
  "a link to nowhere",
  "a FIFO",
  "unreadable",
)
