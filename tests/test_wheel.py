"""The wheel holds what it should and works in a clean environment outside the clone."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import numfmt

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "numfmt-emulator"
INFO = f"numfmt_emulator-{numfmt.__version__}.dist-info"
USE = """\
import numpy, numfmt
x = numpy.tile(numpy.float32([0.3, -500]), 2**17)  # enough for the compiled engine
print(numfmt.__file__, numpy.unique(numfmt.quantize(x, "e4m3fn")).tolist(), sep="\\n")
"""
VALUES = "[-448.0, 0.3125]"


def run(*command: str | Path, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def dependencies(name: str, seen: set[str]) -> set[str]:
    """Names of the installed distributions that `name` requires, directly or not; extras are left out."""
    for requirement in map(Requirement, distribution(name).requires or []):
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in seen:
            seen.add(requirement.name)
            dependencies(requirement.name, seen)
    return seen


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel; of the packages here it sees those that the wheel says it needs."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    python = folder / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = folder.glob("env/lib/python3.*/site-packages")
    for name in dependencies(PROJECT, set()):
        here = distribution(name)
        for top in {file.parts[0] for file in here.files or []} - {"..", "__pycache__"}:
            (packages / top).symlink_to(here.locate_file(top))
    return folder


def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def test_wheel_holds_the_packages_and_nothing_else(wheel):
    found = {name.partition("/")[0] for name in names(wheel)}
    packages = {path.name for path in (ROOT / "numfmt", ROOT / "numfmt_jax") if path.exists()}
    assert found == packages | {INFO}
    sources = {path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py")}
    assert sources == {name for name in names(wheel) if name.endswith(".py")}
    assert {f"{package}/py.typed" for package in packages} <= set(names(wheel))


def test_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{INFO}/METADATA").decode().partition("\n\n")[0].splitlines()
        entry_points = archive.read(f"{INFO}/entry_points.txt").decode()
        assert b"Apache License" in archive.read(f"{INFO}/licenses/LICENSE")
    assert {f"Name: {PROJECT}", "License-Expression: Apache-2.0", "Requires-Python: >=3.11"} <= set(metadata)
    assert "nfmt = numfmt.cli:main" in entry_points


def test_wheel_works_in_a_clean_environment(environment):
    where, values = run(environment / "env/bin/python", "-c", USE, cwd=environment).splitlines()
    assert where.startswith(str(environment))
    assert values == VALUES


def test_commands_work_in_a_clean_environment(environment):
    module = run(environment / "env/bin/python", "-m", "numfmt", "--version", cwd=environment)
    script = run(environment / "env/bin/nfmt", "--version", cwd=environment)
    assert numfmt.__version__ in module
    assert module == script


def test_wheel_works_without_numba(environment):
    hidden = "import sys; sys.modules['numba'] = None\n"  # what an import of a missing package meets
    assert run(environment / "env/bin/python", "-c", hidden + USE, cwd=environment).splitlines()[1] == VALUES


def test_clean_environment_is_clean(environment):
    """The tests above could not fail if the environment saw all that is installed here."""
    look = "from importlib.util import find_spec as f; print([n for n in ('pytest', 'spec', 'tests', 'jax') if f(n)])"
    assert run(environment / "env/bin/python", "-c", look, cwd=environment) == "[]\n"
