"""The import rules: who may see whom, and what `import numfmt` may load."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"jax", "jaxlib", "numba", "llvmlite", "matplotlib"}


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and absolute name of all that a module imports, wherever in it; `from a import b` gives a.b."""
    parent = module if package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                base = resolve_name("." * level + (name or ""), parent) if level else name
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, resolve_name(name, parent) if name.startswith(".") else name


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def public(name: str) -> bool:
    """Whether a name below numfmt is one that `numfmt/__init__.py` imports, or in what other engines are built on."""
    source = (ROOT / "numfmt/__init__.py").read_text()
    exported = {f"numfmt.{found.rpartition('.')[2]}" for _, found in imports(source, "numfmt", package=True)}
    return name in exported or any(within(name, module) for module in ("numfmt.kernels", "numfmt.vectors"))


def allowed(module: str, name: str) -> bool:
    """Whether `module` may import `name`."""
    top = name.partition(".")[0]
    match module.split("."):
        case ["spec", *_]:
            return top == "spec" or top in sys.stdlib_module_names
        case ["numfmt", "_core", *_]:
            return within(name, "numfmt._core") or top in sys.stdlib_module_names
        case ["numfmt", *_]:
            return top not in {"spec", "tests", "jax", "jaxlib", "numfmt_jax"}
        case ["numfmt_jax", *_]:
            of_numfmt = within(name, "numfmt") and name != "numfmt"
            return top not in {"spec", "tests"} and (not of_numfmt or within(name, "numfmt._core") or public(name))
    raise AssertionError(f"no rule for {module}")


def violations(source: str, module: str, *, package: bool = False) -> list[str]:
    return [
        f"{module}, line {line}: imports {name}"
        for line, name in imports(source, module, package=package)
        if not allowed(module, name)
    ]


def modules() -> Iterator[tuple[Path, str]]:
    for package in ("spec", "numfmt", "numfmt_jax"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(("path", "module"), [pytest.param(*found, id=found[1]) for found in modules()])
def test_module_imports_only_what_it_may(path, module):
    assert violations(path.read_text(), module, package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("spec.oracle", "import numfmt"),
        ("spec.oracle", "from numfmt.formats import FloatFormat"),
        ("spec.oracle", "import numpy as np"),
        ("numfmt.arrays", "from spec import oracle"),
        ("numfmt.arrays", "import spec.oracle as judge"),
        ("numfmt.engines", "def engine():\n    import jax.numpy as jnp"),
        ("numfmt.engines", "import importlib\njax = importlib.import_module('jax')"),
        ("numfmt.engines", "if TYPE_CHECKING:\n    from jax import Array"),
        ("numfmt.arrays", "import numfmt_jax"),
        ("numfmt._core.float", "import numpy"),
        ("numfmt._core.float", "from numba import njit"),
        ("numfmt._core.float", "from jax import numpy as jnp"),
        ("numfmt._core.float", "from .. import formats"),
        ("numfmt._core.float", "__import__('numpy')"),
        ("numfmt_jax.quantize", "from spec.oracle import values"),
        ("numfmt_jax.quantize", "from numfmt.formats import FloatFormat"),
        ("numfmt_jax.quantize", "from numfmt import formats"),
    ],
)
def test_checker_catches(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("spec.oracle", "from fractions import Fraction\nfrom .values import Value\nfrom spec import formats"),
        ("numfmt.arrays", "import numpy as np\nimport ml_dtypes\nfrom ._core import float\nfrom numfmt import formats"),
        ("numfmt.engines", "def engine():\n    import numba"),
        ("numfmt._core.float", "from typing import NamedTuple\nfrom .rounding import increment\nfrom . import table"),
        ("numfmt_jax.quantize", "import jax\nfrom numfmt import FloatFormat\nfrom numfmt._core import float"),
    ],
)
def test_checker_lets_pass(module, source):
    assert violations(source, module) == []


def loaded(statement: str) -> set[str]:
    """Which of the peers a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys; print(json.dumps([*sys.modules]))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return PEERS & set(json.loads(done.stdout.splitlines()[-1]))


def test_import_numfmt_loads_no_peer():
    assert loaded("import numfmt") == set()


def test_a_loaded_peer_is_seen():
    assert "llvmlite" in loaded("import llvmlite")
