"""The requirements files against the oldest versions, which are Colab's; pip itself is asked by make oldest."""

import importlib.util
import os
import subprocess
import tomllib

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

COLAB = {
  "absl-py": "1.4.0",
  "array-record": "0.8.3",
  "filelock": "3.32.3",
  "flax": "0.11.2",
  "grain": "0.2.18",
  "jax": "0.7.2",
  "matplotlib": "3.10.0",
  "numpy": "2.1.3",
  "optax": "0.2.8",
  "orbax-checkpoint": "0.12.4",
  "pillow": "11.3.0",
  "plotly": "5.24.1",
  "rich": "13.9.4",
  "scikit-learn": "1.6.1",
  "scipy": "1.16.3",
  "tensorflow-datasets": "4.9.10",
}  # August 2026
TPU_VM = COLAB | {"rich": "15.0.0", "pillow": "12.3.0"}


def read(name) -> dict[str, Requirement]:
  """A requirements file's own lines, without those of the files that it includes."""
  lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
  requirements = [Requirement(line) for line in lines if line and not line.startswith("-r")]
  return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def oldest() -> dict[str, Version]:
  pins = {}
  for name, requirement in read("constraints-oldest.txt").items():
    (pin,) = requirement.specifier
    assert pin.operator == "==", requirement
    pins[name] = Version(pin.version)
  return pins


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-ray.txt", "requirements-search.txt"])
def test_lower_bounds_are_the_oldest_versions(file):
  pins = oldest()
  for name, requirement in read(file).items():
    lower = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
    assert lower == [pins[name]], f"{requirement}: the oldest version that is tried is {pins[name]}"
    assert pins[name] in requirement.specifier


@pytest.mark.parametrize("machine", [COLAB, TPU_VM], ids=["colab", "tpu_vm"])
def test_what_colab_and_tpu_vms_have_is_accepted(machine):
  requirements = read("requirements.txt")
  assert set(machine) <= set(requirements)
  replaced = [f"{name} {version}" for name, version in machine.items() if version not in requirements[name].specifier]
  assert not replaced


def test_the_oldest_versions_are_those_of_colab():
  pins = oldest()
  assert {name: pins[name] for name in COLAB} == {name: Version(version) for name, version in COLAB.items()}
  assert pins["jaxlib"] == pins["jax"]  # jax's plugins and libtpu go with one release


def test_the_package_has_the_same_requirements():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())
  assert project["project"]["dynamic"] == ["dependencies"]
  assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}


def test_a_replaced_package_is_found_by_any_spelling():
  spec = importlib.util.spec_from_file_location("oldest", ROOT / ".ci" / "oldest.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  has = [{"name": "ml_dtypes", "version": "0.5.4"}, {"name": "jax", "version": "0.7.2"}]
  report = {"install": [{"metadata": {"name": n, "version": "0.6.0"}} for n in ("ML.Dtypes", "jaxtyping")]}
  assert module.replaced(has, report) == {"ml-dtypes": "0.5.4 → 0.6.0"}
  assert module.replaced(has, {"install": []}) == {}


@pytest.fixture
def interpreter(tmp_path):
  """The output of .ci/interpreter, with only these commands and these versions of pyenv's on the machine."""

  def write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)

  def run(commands, pyenv=()):
    for name, body in commands.items():
      write(tmp_path / "bin" / name, body)
    for version in pyenv:
      write(tmp_path / "pyenv" / "versions" / version / "bin" / "python", f"echo {version.rpartition('.')[0]}")
    env = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/nowhere", "PYENV_ROOT": str(tmp_path / "pyenv")}
    done = subprocess.run(
      ["/bin/bash", ROOT / ".ci" / "interpreter"], env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip().replace(f"{tmp_path}{os.sep}", "")

  return run


SHIM = 'echo "pyenv: python3.13: command not found" >&2; exit 127'


def test_the_interpreter_is_colabs_or_the_newest_that_runs(interpreter):
  commands = {"python3.13": SHIM, "python3.11": "echo 3.11", "python3.14": "echo 3.14"}
  assert interpreter(commands) == (0, "python3.11")
  assert interpreter({"python3": "echo 3.12"}) == (0, "python3")  # under no name of its own
  assert interpreter({}, pyenv=["3.13.0", "3.10.13"]) == (0, "pyenv/versions/3.13.0/bin/python")
  assert interpreter({"python3.13": "echo 3.13"}) == (0, "python3.13")


def test_no_interpreter_is_an_error(interpreter):
  assert interpreter({"python3": "echo 3.14", "python3.13": SHIM}) == (2, "")
