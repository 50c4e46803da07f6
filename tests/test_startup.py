"""What a process does before its first step: what it imports, and what it finds compiled."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from test_commands import TINY, command, environment
from test_faults import contents

HEAVY = ("grain", "matplotlib", "orbax.checkpoint", "plotly", "sklearn", "tensorboardX", "tensorflow_datasets", "torch")


def python(code, **more):
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, env=environment(**more), capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_importing_the_package_imports_nothing_that_only_some_runs_need():
  names = "from nin_jax import cost, data, models, train; import sys; print(*sys.modules)"
  assert not set(python(names).split()) & set(HEAVY)


@pytest.fixture
def flags(tmp_path):
  (tmp_path / "tiny.py").write_text(TINY)
  return [f"--config={tmp_path / 'tiny.py'}", "--config.train.steps=6", "--config.checkpoint.every_steps=3"]


def start(cache, *flags, **more):
  env = environment(XDG_CACHE_HOME=str(cache), **more)
  return subprocess.Popen(command("train", *flags), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def ended(process):
  _, said = process.communicate(timeout=300)
  assert process.returncode == 0, said
  assert "cache" not in said
  return process


def programs(cache):
  return {path.name for path in (cache / "nin_jax" / "programs").glob("*-cache")}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_what_is_found_compiled_gives_the_same_bits(flags, tmp_path, devices):
  more = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
  runs = {}
  for name in ("cold", "warm"):
    ended(start(tmp_path / "cache", *flags, f"--workdir={tmp_path / name}", **more))
    runs[name] = contents(tmp_path / name), programs(tmp_path / "cache")
  assert runs["warm"] == runs["cold"]  # nothing was compiled that was not there
  assert any("step" in name or "fun" in name for name in runs["cold"][1])
  ended(start(tmp_path, *flags, f"--workdir={tmp_path / 'off'}", JAX_ENABLE_COMPILATION_CACHE="0", **more))
  assert contents(tmp_path / "off") == runs["cold"][0]
  assert not (tmp_path / "nin_jax" / "programs").exists()


@pytest.mark.slow
def test_two_processes_that_compile_at_once(flags, tmp_path):
  both = [start(tmp_path / "cache", *flags, f"--workdir={tmp_path / name}") for name in ("one", "other")]
  for process in both:
    ended(process)
  assert contents(tmp_path / "one") == contents(tmp_path / "other")


KEEP = """
from nin_jax.train import compilation
compilation.keep_compiled()
import jax
print(jax.jit(lambda x: x + 1)(2))
print(jax.config.jax_compilation_cache_dir)
"""


def test_a_directory_of_the_users_own_is_taken_as_it_is(tmp_path):
  own = str(tmp_path / "own")
  said = python(KEEP, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=own)
  assert said.split() == ["3", own]
  assert not (tmp_path / "nin_jax").exists()


def test_what_is_kept_is_bounded(tmp_path):
  code = KEEP.replace("compilation.keep", "compilation.MAX_BYTES = 20_000; compilation.keep", 1)
  code += "for n in range(20): jax.jit(lambda x: x * n + jax.numpy.sin(x))(2.0)\n"
  python(code, XDG_CACHE_HOME=str(tmp_path))
  kept = [path.stat().st_size for path in (tmp_path / "nin_jax" / "programs").glob("*-cache")]
  assert kept
  assert sum(kept) <= 20_000


def test_what_a_killed_process_left_half_written_is_written_anew(tmp_path):
  python(KEEP, XDG_CACHE_HOME=str(tmp_path))
  directory = tmp_path / "nin_jax" / "programs"
  program = next(directory.glob("jit__lambda*-cache"))
  whole = program.read_bytes()
  program.write_bytes(whole[: len(whole) // 2])
  program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
  os.utime(program, (time.time() - 100,) * 2)
  python(KEEP, XDG_CACHE_HOME=str(tmp_path))
  assert len(program.read_bytes()) > len(whole) // 2


def test_the_benchmark_says_how_much_sooner(flags, tmp_path):
  words = [sys.executable, "-m", "benchmarks.startup", "--rounds=1", flags[0], f"--json={tmp_path / 'out.json'}"]
  done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  measured = json.loads((tmp_path / "out.json").read_text())
  assert measured["import_seconds"]["from nin_jax import train"] > 0
  steps = measured["first_step_seconds"][flags[0].removeprefix("--config=")]
  assert steps["ratio"] == steps["cold"] / steps["warm"] > 0
