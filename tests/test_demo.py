"""The demo: codes against a judge in float64 and against ml_dtypes, figures recomputed, fall-backs, manners.

demo/expected.json holds the SHA-256 of the codes of magika's weights. After a change that is meant to alter codes or
cases, `make demo ARGS=--update-expected` writes it again. The hashes do not vouch for themselves: every one of them is
that of codes computed here without numfmt's kernels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = json.loads((ROOT / "demo" / "expected.json").read_text(encoding="utf-8"))
CASES = list(EXPECTED["codes_sha256"])
SOURCES = ["auto", "digits"]


# The judge: formats as numbers from their standards, rounding by np.rint and friends in float64, exact in every step.


class Facts(NamedTuple):
    """Width, trailing significand bits, exponents of the smallest normal and of the largest value, that value."""

    bits: int
    t: int
    emin: int
    emax: int
    largest: float
    least: float | None = None  # fixed point: emin = emax, two's complement


FACTS = {
    "tf32": Facts(19, 10, -126, 127, (2 - 2.0**-10) * 2.0**127),
    "f16": Facts(16, 10, -14, 15, 65504.0),
    "bf16": Facts(16, 7, -126, 127, (2 - 2.0**-7) * 2.0**127),
    "e5m7": Facts(13, 7, -14, 15, 65280.0),
    "e5m2": Facts(8, 2, -14, 15, 57344.0),
    "e4m3fn": Facts(8, 3, -6, 8, 448.0),
    "e3m4": Facts(8, 4, -2, 3, 15.5),
    "int8": Facts(8, 0, 0, 0, 127.0, -128.0),
    "q0.7": Facts(8, 7, 0, 0, 127 / 128, -1.0),
    "e3m2": Facts(6, 2, -2, 4, 28.0),
    "e2m3": Facts(6, 3, 0, 2, 7.5),
    "e2m1": Facts(4, 1, 0, 2, 6.0),
}
ML_DTYPES = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "e5m2": ml_dtypes.float8_e5m2, "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e3m4": ml_dtypes.float8_e3m4, "e3m2": ml_dtypes.float6_e3m2fn, "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}  # fmt: skip
NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
], np.float32).astype(np.float64)  # fmt: skip


def judged_scale(values: np.ndarray, name: str, kind: str) -> np.float32:
    amax = float(np.max(np.abs(values)))
    if kind == "none" or not amax:
        return np.float32(1)
    if kind == "amax":
        return np.float32(amax)
    return np.float32(next(2.0**k for k in range(-40, 40) if amax <= FACTS[name].largest * 2.0**k))


def judged(x: np.ndarray, name: str, rounding: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, values and ulps for float64 operands that float32 holds."""
    if name == "nf4":
        codes = np.searchsorted((NF4[1:] + NF4[:-1]) / 2, x)  # no operand is a tie, which the caller asserts
        gap = np.clip(np.searchsorted(NF4, x), 1, 15)
        return codes, NF4[codes], NF4[gap] - NF4[gap - 1]
    facts = FACTS[name]
    e = np.clip(np.frexp(x)[1] - 1, facts.emin, facts.emax)
    e[x == 0] = facts.emin
    m = rounded(np.ldexp(np.abs(x), facts.t - e), rounding, index)
    negative = np.signbit(x)
    if facts.least is not None:
        signed = np.clip(np.where(negative, -m, m), facts.least * 2**facts.t, facts.largest * 2**facts.t)
        return signed.astype(np.int64) % 2**facts.bits, signed / 2**facts.t, np.full(x.shape, 2.0**-facts.t)
    values = np.minimum(np.ldexp(m, e - facts.t), facts.largest)
    codes = ((e - facts.emin) << facts.t) + np.ldexp(values, facts.t - e).astype(np.int64)
    codes += negative.astype(np.int64) << (facts.bits - 1)
    return codes, np.where(negative, -values, values), np.ldexp(1.0, e - facts.t)


def rounded(m: np.ndarray, rounding: str, index: int) -> np.ndarray:
    """Non-negative significands as whole numbers."""
    if rounding == "ties_to_even":
        return np.rint(m)
    if rounding == "toward_zero":
        return np.trunc(m)
    words = nf.random_bits((0, index), m.size)  # equal to jax.random.bits, which other tests show
    return np.trunc(m) + (np.floor((m - np.trunc(m)) * 2**32) + words >= 2**32)


# The demo and its runs


@pytest.fixture(scope="module")
def demo() -> Iterator[SimpleNamespace]:
    """The demo's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "demo"))
        yield SimpleNamespace(**{name: import_module(name) for name in ("weights", "measure", "run")})


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "demo/run.py", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **environment},
    )  # fmt: skip


@cache
def loaded(source: str) -> Any:
    """The demo's data; skips the test where the packages that it is in are absent."""
    weights = sys.modules["weights"]
    packages = ("magika", "onnx") if source == "auto" else ("sklearn",)
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return weights.magika_network() if source == "auto" else weights.digits_classifier()


def data_of(source: str) -> Any:
    data = loaded(source)
    if isinstance(data, str):
        pytest.skip(data + ("; `make demo` installs them" if source == "auto" else ""))
    return data


@pytest.fixture(scope="module")
def finished(demo: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: source → (finished process, output folder, figures), each source run once."""

    @cache
    def run(source: str) -> tuple[subprocess.CompletedProcess[str], Path, dict[str, Any]]:
        data_of(source)
        folder = tmp_path_factory.mktemp(source)
        process = run_demo("--data", source, "--output-dir", str(folder))
        assert process.returncode == 0, process.stderr
        return process, folder, json.loads((folder / "formats.json").read_text(encoding="utf-8"))

    return run


# Bits


@pytest.mark.parametrize("case", CASES)
def test_committed_hashes_are_those_of_an_independent_judge(demo: SimpleNamespace, case: str) -> None:
    name, rounding, kind = case.split(":")
    digest = hashlib.sha256()
    for index, tensor in enumerate(data_of("auto").tensors):
        x = (tensor.values / judged_scale(tensor.values, name, kind)).astype(np.float64)
        if name == "nf4":
            assert not np.isin(x, (NF4[1:] + NF4[:-1]) / 2).any()
        codes = judged(x, name, rounding, index)[0]
        digest.update(codes.astype("<u1" if codes.max() < 256 else "<u2" if codes.max() < 2**16 else "<u4").tobytes())
    assert digest.hexdigest() == EXPECTED["codes_sha256"][case]


@pytest.mark.parametrize("case", [c for c in CASES if c.split(":")[0] in ML_DTYPES and ":ties_to_even:" in c])
def test_committed_hashes_are_those_of_ml_dtypes(demo: SimpleNamespace, case: str) -> None:
    name, _, kind = case.split(":")
    digest = hashlib.sha256()
    for tensor in data_of("auto").tensors:
        x = tensor.values / judged_scale(tensor.values, name, kind)
        values = x.astype(ML_DTYPES[name])
        digest.update(values.view(f"<u{values.itemsize}").tobytes())
    assert digest.hexdigest() == EXPECTED["codes_sha256"][case]


def test_every_usual_case_has_a_committed_hash(demo: SimpleNamespace) -> None:
    assert [str(demo.measure.Case.parse(text)) for text in demo.measure.CASES] == CASES
    assert EXPECTED["model_sha256"] == demo.weights.MODEL_SHA256


def test_different_bits_are_reported(demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    data = demo.weights.Data("x", "x", (demo.weights.Tensor("x", np.float32([1, 2])),), EXPECTED["model_sha256"])
    rows = [demo.measure.measure(data.tensors, demo.measure.Case.parse("bf16"))]
    assert not demo.run.report_bits(data, rows)
    assert "DIFFERENT" in capsys.readouterr().out


# Figures


@pytest.mark.parametrize("source", SOURCES)
def test_figures_are_those_recomputed_in_float64(finished: Any, source: str) -> None:
    rows = finished(source)[2]["rows"]
    assert len(rows) == len(CASES)
    tensors = data_of(source).tensors
    for row in rows:
        name, rounding, kind = row["format"], row["rounding"], row["scale"]
        signal = noise = worst = 0.0
        saturated = flushed = 0
        for index, tensor in enumerate(tensors):
            scale = judged_scale(tensor.values, name, kind)
            x = (tensor.values / scale).astype(np.float64)
            _, y, ulp = judged(x, name, rounding, index)
            w = tensor.values.astype(np.float64)
            lost = w - y * float(scale)
            signal, noise = signal + float(w @ w), noise + float(lost @ lost)
            worst = max(worst, float(np.max(np.abs(y - x) / ulp)))
            largest = 1.0 if name == "nf4" else FACTS[name].largest
            least = (name in FACTS and FACTS[name].least) or -largest
            saturated += int(np.sum(x > largest) + np.sum(x < least))
            flushed += int(np.sum((y == 0) & (x != 0)))
        assert row["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-4)
        assert (row["max_error_ulps"], row["saturated"], row["flushed_to_zero"]) == (worst, saturated, flushed), row


@pytest.mark.parametrize("source", SOURCES)
def test_error_stays_within_the_bound_of_the_rounding(finished: Any, source: str) -> None:
    for row in finished(source)[2]["rows"]:
        if not row["saturated"]:
            bound = 0.5 if row["rounding"] == "ties_to_even" else math.nextafter(1, 0)
            assert row["max_error_ulps"] <= bound, row


@pytest.mark.parametrize("source", SOURCES)
def test_the_printed_table_is_the_json(finished: Any, source: str) -> None:
    process, _, figures = finished(source)
    printed = [line.split() for line in process.stdout.splitlines() if re.search(r" (none|2\^k|amax) +\d+ ", line)]
    for cells, row in zip(printed, figures["rows"], strict=True):
        assert cells[:4] == [row["format"], row["rounding"], row["scale"], str(row["bits"])]
        assert float(cells[4]) == pytest.approx(row["sqnr_db"], abs=0.0051)
        assert 0 <= row["max_error_ulps"] - float(cells[5]) < 0.001
        assert [int(cell.replace(",", "")) for cell in cells[6:]] == [row["saturated"], row["flushed_to_zero"]]


@pytest.mark.parametrize("source", SOURCES)
def test_own_lines_fit_80_columns(finished: Any, source: str) -> None:
    ours, rest = finished(source)[0].stdout.split("\n$ ")  # what follows is the command line's, up to:
    own = [*ours.splitlines(), *rest.partition("\nNext, ")[2].splitlines()]
    paths = ("Figures", "Picture", "  ")  # of the test's machine
    assert not [line for line in own if len(line) > 80 and not line.startswith(paths)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_second_run_with_one_thread_gives_the_same_bytes(finished: Any, source: str, tmp_path: Path) -> None:
    process, folder, _ = finished(source)
    again = run_demo("--data", source, "--output-dir", str(tmp_path), NUMFMT_THREADS="1")
    assert again.stdout.replace(str(tmp_path), str(folder)) == process.stdout
    for name in ("formats.json", "formats.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_wide_terminals_get_a_bar_for_each_row(demo: SimpleNamespace) -> None:
    tensors = (demo.weights.Tensor("x", np.float32([0.1, 0.3, 1.0])),)
    rows = [demo.measure.measure(tensors, demo.measure.Case.parse(text)) for text in ("bf16", "e2m1", "f32")]
    lines = demo.run.table(rows, 120)
    assert max(len(line) for line in lines) <= 120
    assert [bool(set(line) & set("█#")) for line in lines] == [False, False, True, True, False]
    assert "exact" in lines[-1]


@pytest.mark.parametrize("amax", [0.0, 2.0**-149, 0.3, 3.5, 447.9, 448.0, 449.0, 3e38])
def test_power_of_two_scales_are_the_smallest_that_saturate_nothing(demo: SimpleNamespace, amax: float) -> None:
    fmt = nf.get_format("e4m3fn")
    scale = demo.measure.scale_of(np.float32([amax, -amax / 2]), fmt, "2^k")
    amax = float(np.float32(amax))
    assert math.frexp(scale)[0] == 0.5
    assert amax <= 448 * scale
    assert amax > 448 * (scale / 2) or scale == 2.0**-126 or not amax


# Sources and manners


@pytest.mark.parametrize("package", ["magika", "onnx"])
def test_a_missing_package_is_named_and_digits_are_taken(
    demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    if package == "onnx":
        data_of("auto")
    data_of("digits")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find_spec(name))
    data, notes = demo.weights.load("auto")
    assert "digits" in data.title
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert f"pip install {'--no-deps magika==1.0.3' if package == 'magika' else 'onnx'}" in notes[0]


def test_another_model_is_refused_by_its_hash(demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    data_of("auto")
    monkeypatch.setattr(demo.weights, "MODEL_SHA256", 64 * "0")
    with pytest.raises(demo.weights.Unavailable, match="has SHA-256 fe2d2eb49c5f…, not 000000000000…"):
        demo.weights.magika_network()


def test_without_any_data_one_line_says_what_to_install(
    demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert demo.run.main([]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "pip install" in printed.err


def test_magika_is_read_without_being_imported(demo: SimpleNamespace) -> None:
    data = data_of("auto")
    assert "magika" not in sys.modules
    assert (data.size, len(data.tensors), EXPECTED["weights"]) == (784_214, 10, 784_214)
    assert "its other 9 fp32 parameters" in data.title  # 784,223 in all


def test_own_arrays_are_read_and_bad_files_refused_in_one_line(
    demo: SimpleNamespace, tmp_path: Path, capsys: Any
) -> None:
    good, infinite, text = tmp_path / "good.npy", tmp_path / "infinite.npy", tmp_path / "text.npy"
    np.save(good, np.arange(6.0).reshape(2, 3))
    np.save(infinite, np.array([1.0, np.inf]))
    text.write_text("1 2 3")
    assert demo.weights.load(str(good))[0].size == 6
    for path in (infinite, text, tmp_path / "absent.npy"):
        assert demo.run.main(["--data", str(path)]) == 3
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("case", "advice"),
    [
        ("e4m3fx", "e4m3fn"),
        ("bf16:to_even", "ties_to_even"),
        ("bf16::big", "none, 2^k, amax"),
        ("bf16:::x", "FORMAT[:ROUNDING"),
        ("e8m0", "with a zero"),
        ("binary128", "float64"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(
    demo: SimpleNamespace, capsys: Any, case: str, advice: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        demo.run.main(["--formats", case])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert advice in error


def test_hashes_are_not_written_for_other_data(demo: SimpleNamespace, capsys: Any) -> None:
    data_of("digits")
    before = demo.run.EXPECTED.read_bytes()
    assert demo.run.main(["--data", "digits", "--update-expected"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert demo.run.EXPECTED.read_bytes() == before


def test_one_weight_is_explained_by_the_command_line(
    demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def command_line(arguments: list[str]) -> None:
        print("explained", *arguments)
        raise SystemExit(0)

    tensors = (demo.weights.Tensor("x", np.float32([448, 17.25, 19, -19])),)
    monkeypatch.setitem(sys.modules, "numfmt.cli", SimpleNamespace(main=command_line))
    demo.run.explain_one(demo.weights.Data("x", "x", tensors))
    assert "explained explain e4m3fn 19.0" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "numfmt.cli", None)
    demo.run.explain_one(demo.weights.Data("x", "x", tensors))
    assert "no command line yet; the value becomes 20.0" in capsys.readouterr().out


def test_help_teaches_the_cases(demo: SimpleNamespace, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        demo.run.main(["--help"])
    text = capsys.readouterr().out
    assert "FORMAT[:ROUNDING[:SCALE]]" in text
    commands = re.findall(r"demo/run.py --formats (.*)", text)
    assert len(commands) == 3
    for command in commands:
        assert all(demo.measure.Case.parse(case) for case in command.split())
    assert max(len(line) for line in text.splitlines()) <= 80
