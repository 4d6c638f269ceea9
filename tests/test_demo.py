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
BLOCKS = list(EXPECTED["blocks_sha256"])
FILES = "12"  # that the network is asked about here
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
    "s2f6": Facts(8, 6, 0, 0, 127 / 64, -2.0),
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


# The same for blocks. Each takes blocks of float32, (..., k), padded with zeros, and gives their codes and what scales them.


def in_blocks(array: np.ndarray, axis: int, k: int) -> np.ndarray:
    moved = np.moveaxis(array, axis, -1)
    short = -moved.shape[-1] % k
    return np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, short)]).reshape(*moved.shape[:-1], -1, k)


def out_of_blocks(codes: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    n = shape[axis]
    return np.moveaxis(codes.reshape(*codes.shape[:-2], -1)[..., :n], -1, axis)


def power_of_two_scales(x: np.ndarray, emax: int) -> np.ndarray:
    """E8M0 codes by the floor rule."""
    amax = np.abs(x).max(axis=-1).astype(np.float64)
    return np.where(amax > 0, np.maximum(np.frexp(amax)[1] - 1 - emax, -127), -127) + 127


def judged_mx(element: str) -> Any:
    def encode(x: np.ndarray) -> list[np.ndarray]:
        scales = power_of_two_scales(x, math.floor(math.log2(FACTS[element].largest)))
        codes = judged(np.ldexp(x.astype(np.float64), 127 - scales[..., None]), element, "ties_to_even", 0)[0]
        return [codes.astype(np.uint8), scales.astype(np.uint8)]

    return encode


def judged_micro(x: np.ndarray) -> list[np.ndarray]:
    """MX4: pairs whose exponents both lie below the block's are scaled down once more."""
    scales = power_of_two_scales(x, 0)
    pairs = np.abs(x).reshape(*x.shape[:-1], -1, 2).max(axis=-1)
    shifts = (pairs < np.ldexp(1.0, scales - 127)[..., None]).astype(np.uint8)
    steps = np.ldexp(x.astype(np.float64), 128 - scales[..., None] + np.repeat(shifts, 2, axis=-1))
    codes = np.minimum(np.rint(np.abs(steps)), 3).astype(np.uint8)
    return [codes | (np.signbit(x) * np.uint8(4)), scales.astype(np.uint8), shifts]


def e2m1(y: np.ndarray) -> np.ndarray:
    return y.astype(ML_DTYPES["e2m1"]).view(np.uint8)


def e4m3(y: np.ndarray) -> np.ndarray:
    return np.minimum(y, np.float32(448)).astype(ML_DTYPES["e4m3fn"])


def judged_nvfp4(x: np.ndarray) -> list[np.ndarray]:
    """scaling.md 4.1, in binary32."""
    f, amax = np.float32, np.abs(x).max()
    s_enc = f(448 * 6) / amax
    s = e4m3(np.abs(x).max(axis=-1) * (s_enc * (f(1) / f(6))))
    inverse = np.minimum(f(1) / (s.astype(f) * (f(1) / s_enc)), np.finfo(f).max)
    return [e2m1(x * inverse[..., None]), s.view(np.uint8), np.float32(amax / np.float64(2688))]


def judged_4over6(x: np.ndarray) -> list[np.ndarray]:
    """scaling.md 4.3: the block's maximum becomes 6 or 4, whichever leaves the smaller mean error."""
    f, amax = np.float32, np.abs(x).max()
    s_enc = f(448 * 6) / amax
    base = np.abs(x).max(axis=-1) / f(6) * s_enc
    made = []
    for candidate in (base, base * f(1.5)):
        s = e4m3(candidate)
        inverse = np.minimum(f(1) / (s.astype(f) * (f(1) / s_enc)), np.finfo(f).max)
        codes = e2m1(x * inverse[..., None])
        values = codes.view(ML_DTYPES["e2m1"]).astype(f) * s.astype(f)[..., None] * amax / f(448 * 6)
        error = np.zeros(base.shape, f)
        for i in range(x.shape[-1]):
            error = error + np.abs(values[..., i] - x[..., i])
        made.append((codes, s.view(np.uint8), error))
    four = made[1][2] < made[0][2]
    return [
        np.where(four[..., None], made[1][0], made[0][0]),
        np.where(four, made[1][1], made[0][1]),
        amax / f(448 * 6),
    ]


def judged_nf4(x: np.ndarray) -> list[np.ndarray]:
    amax = np.abs(x).max(axis=-1)
    y = (x * (np.float32(1) / np.where(amax > 0, amax, np.float32(1)))[..., None]).astype(np.float64)
    assert not np.isin(y, (NF4[1:] + NF4[:-1]) / 2).any()
    return [np.searchsorted((NF4[1:] + NF4[:-1]) / 2, y).astype(np.uint8), amax]


def judged_q4_0(x: np.ndarray) -> list[np.ndarray]:
    f = np.float32
    d = np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], -1)[..., 0] / f(-8)
    y = x * np.where(d == 0, f(0), f(1) / np.where(d == 0, f(1), d))[..., None]
    return [np.minimum(np.trunc(y + f(8.5)), 15).astype(np.uint8), d.astype(np.float16)]


def judged_int4(x: np.ndarray) -> list[np.ndarray]:
    scale = np.abs(x).max(axis=-1) / np.float32(7)
    q = np.rint(x.astype(np.float64) / np.where(scale > 0, scale, 1)[..., None].astype(np.float64))
    return [(np.clip(q, -7, 7).astype(np.int8) & 15).astype(np.uint8), scale]


JUDGED_BLOCKS = {  # elements of a block, whether blocks run over the flattened array, and the judge
    "mxint8": (32, False, judged_mx("s2f6")),
    "mxfp8_e4m3": (32, False, judged_mx("e4m3fn")),
    "mxfp8_e5m2": (32, False, judged_mx("e5m2")),
    "mxfp6_e2m3": (32, False, judged_mx("e2m3")),
    "mxfp6_e3m2": (32, False, judged_mx("e3m2")),
    "int4_group32": (32, False, judged_int4),
    "nvfp4": (16, False, judged_nvfp4),
    "nvfp4_4over6": (16, False, judged_4over6),
    "nf4_block": (64, True, judged_nf4),
    "q4_0": (32, True, judged_q4_0),
    "mxfp4": (32, False, judged_mx("e2m1")),
    "mx4": (16, False, judged_micro),
}


# The demo and its runs

MODULES = ("weights", "measure", "blocks", "network", "files", "accuracy", "run")


@pytest.fixture(scope="module")
def demo() -> Iterator[SimpleNamespace]:
    """The demo's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "demo"))
        yield SimpleNamespace(**{name: import_module(name) for name in MODULES})


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
        process = run_demo("--data", source, "--files", FILES, "--output-dir", str(folder))
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


@pytest.mark.parametrize("case", BLOCKS)
def test_committed_hashes_of_blocks_are_those_of_an_independent_judge(demo: SimpleNamespace, case: str) -> None:
    size, flat, encode = JUDGED_BLOCKS[case.split(":")[0]]
    for tensor in data_of("auto").tensors:
        shape, axis = ((tensor.values.size,), 0) if flat else (tensor.shape, tensor.axis % len(tensor.shape))
        codes, scales, *rest = encode(in_blocks(tensor.values.reshape(shape), axis, size))
        digest = hashlib.sha256(np.ascontiguousarray(out_of_blocks(codes, shape, axis)).tobytes())
        digest.update(np.ascontiguousarray(np.moveaxis(scales, -1, axis)).tobytes())
        for part in rest:
            digest.update(np.ascontiguousarray(np.moveaxis(part, -2, axis) if part.ndim else part).tobytes())
        assert digest.hexdigest() == EXPECTED["blocks_sha256"][case][tensor.name], tensor.name


def test_every_usual_case_has_a_committed_hash(demo: SimpleNamespace) -> None:
    assert [str(demo.measure.Case.parse(text)) for text in demo.measure.CASES] == CASES
    assert [str(demo.blocks.BlockCase.parse(text)) for text in demo.blocks.BLOCK_CASES] == BLOCKS
    assert [key.split(":")[0] for key in BLOCKS] == list(JUDGED_BLOCKS)
    assert EXPECTED["model_sha256"] == demo.weights.MODEL_SHA256


def test_different_bits_are_reported(demo: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    data = demo.weights.Data("x", "x", (demo.weights.Tensor("x", np.float32([1, 2])),), EXPECTED["model_sha256"])
    rows = [demo.measure.measure(data.tensors, demo.measure.Case.parse("bf16"))]
    assert not demo.run.report_bits(data, rows)
    assert "DIFFERENT" in capsys.readouterr().out
    blocks = [demo.blocks.measure_blocks(data.tensors, demo.blocks.BlockCase.parse("mxfp4"))]
    assert not demo.run.report_bits(data, [], blocks)
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
        assert row["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-4)  # a logarithm of real-valued sums, stored to 4 digits
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
        assert float(cells[4]) == pytest.approx(row["sqnr_db"], abs=0.0051)  # the table prints 2 digits
        assert 0 <= row["max_error_ulps"] - float(cells[5]) < 0.001
        assert [int(cell.replace(",", "")) for cell in cells[6:]] == [row["saturated"], row["flushed_to_zero"]]


@pytest.mark.parametrize("source", SOURCES)
def test_figures_of_blocks_are_those_recomputed_in_float64(finished: Any, source: str) -> None:
    rows = finished(source)[2]["blocks"]
    assert [f"{row['format']}:{row['rounding']}" for row in rows] == BLOCKS
    largest = {"mxint8": 127 / 64, "int4_group32": 7, "q4_0": 7, "nf4_block": 1.0, "mx4": 1.5, "nvfp4_4over6": 6}
    for row in rows:
        signal = product = noise = 0.0
        flushed = last = 0
        for tensor in data_of(source).tensors:
            flat = JUDGED_BLOCKS[row["format"]][1]
            q = nf.encode(tensor.array, row["format"], axis=-1 if flat else tensor.axis)
            w, y = tensor.array.astype(np.float64), nf.decode(q).astype(np.float64)
            signal, product, noise = signal + np.sum(w * w), product + np.sum(w * y), noise + np.sum((w - y) ** 2)
            flushed += int(np.sum((y == 0) & (w != 0)))
            values = nf.decode(q.codes, q.format.element, dtype=np.float64)
            top = largest.get(row["format"], float(q.format.element.max))
            low = {"mxint8": -2.0, "q4_0": -8}.get(row["format"], -top)
            last += int(np.sum((values == top) | (values == low))) if np.all(q.scales) else 0
        assert row["sqnr_db"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-4)  # a logarithm of real-valued sums, stored to 4 digits
        assert row["slope"] == pytest.approx(product / signal, abs=1e-6)  # a quotient of real-valued sums, stored to 6 digits
        assert row["flushed_to_zero"] == flushed
        assert row["last_bin"] == last or source == "digits"  # whose zero biases have zero scales
        assert row["saturated"] >= 0


@pytest.mark.parametrize("source", SOURCES)
def test_the_printed_table_of_blocks_is_the_json(finished: Any, source: str) -> None:
    process, _, figures = finished(source)
    names = [row["format"] for row in figures["blocks"]]
    printed = [
        line.split() for line in process.stdout.splitlines() if re.match(rf"({'|'.join(names)}) +\d+ +[ef]", line)
    ]
    for cells, row in zip(printed, figures["blocks"], strict=True):
        assert cells[:3] == [row["format"], row["block"], row["scale"]]
        assert [float(cell) for cell in cells[3:6]] == pytest.approx(  # the table prints so many digits
            [row["bits"], row["sqnr_db"], row["slope"]], abs=0.0051
        )
        counts = [row["saturated"], row["last_bin"], row["flushed_to_zero"]]
        assert [int(cell.replace(",", "")) for cell in cells[6:]] == counts


@pytest.mark.parametrize("source", SOURCES)
def test_own_lines_fit_80_columns(finished: Any, source: str) -> None:
    ours, rest = finished(source)[0].stdout.split("\n$ ")  # what follows is the command line's, up to:
    own = [*ours.splitlines(), *rest.partition("\nNext, ")[2].splitlines()]
    paths = ("Figures", "Picture", "  ")  # of the test's machine
    assert not [line for line in own if len(line) > 80 and not line.startswith(paths)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_second_run_with_one_thread_gives_the_same_bytes(finished: Any, source: str, tmp_path: Path) -> None:
    process, folder, _ = finished(source)
    again = run_demo("--data", source, "--files", FILES, "--output-dir", str(tmp_path), NUMFMT_THREADS="1")
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


# The network and its answers


def naive_answers(w: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """The graph, node by node, in float64, for one file."""

    def gelu(x: np.ndarray) -> np.ndarray:
        return 0.5 * x * (1 + np.tanh(0.7978846 * (x + 0.044715 * x**3)))

    def norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-6) * scale + bias

    one_hot = np.eye(257)[features]
    x = gelu(one_hot @ w["Dense_0.kernel"] + w["Dense_0.bias"][0]).reshape(512, 256)
    x = norm(x, w["LayerNorm_0.scale"][0], w["LayerNorm_0.bias"][0])
    taps = [x[i : i + 508] @ w["Conv_0.kernel"][:, :, i, 0].T for i in range(5)]
    x = gelu(sum(taps) + w["Conv_0.bias"].reshape(-1)).max(axis=0)
    x = norm(x, w["LayerNorm_1.scale"][0], w["LayerNorm_1.bias"][0]) @ w["Dense_1.kernel"] + w["Dense_1.bias"][0]
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_the_network_is_its_graph_computed_node_by_node(demo: SimpleNamespace) -> None:
    weights = {tensor.name: tensor.array for tensor in data_of("auto").tensors}
    features, paths = demo.files.sample(20)
    assert len(set(paths)) == len(features) == 20
    given = demo.network.answers(weights, features)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    for i in (0, 7, 15, 16, 19):  # at both sides of the border between two batches
        assert np.abs(given[i] - naive_answers(wide, features[i])).max() < 1e-3


def test_the_network_is_what_onnxruntime_runs(demo: SimpleNamespace) -> None:
    reason = "onnxruntime is not installed"
    runtime = pytest.importorskip("onnxruntime", reason=reason)
    data = data_of("auto")
    path = Path(next(iter(importlib.util.find_spec("magika").submodule_search_locations))) / demo.weights.MODEL  # type: ignore[union-attr]
    features, _ = demo.files.sample(24)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"bytes": features.astype(np.int32)})[0]
    ours = demo.network.answers({tensor.name: tensor.array for tensor in data.tensors}, features)
    assert np.array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    assert np.abs(ours - theirs).max() < 1e-2


def test_features_are_the_stripped_ends_of_a_file(demo: SimpleNamespace) -> None:
    features_of = demo.network.features_of
    short = features_of(b" \n12345678\t", b" \n12345678\t")
    assert short[:10].tolist() == [*b"12345678\t", 256]
    assert short[-11:].tolist() == [256, *b" \n12345678"]
    assert set(short[9:-10].tolist()) == {256}
    long = bytes(range(65, 91)) * 200
    made = features_of(long[:4096], long[-4096:])
    assert (bytes(made[:1024].astype(np.uint8)), bytes(made[1024:].astype(np.uint8))) == (long[:1024], long[-1024:])
    assert features_of(b"   \n   ", b"  \n    ") is None


def test_the_sample_of_files_is_the_same_every_time(demo: SimpleNamespace) -> None:
    first, second = (demo.files.sample(12)[1] for _ in range(2))
    assert first == second
    assert len({path.suffix for path in first}) > 6


def test_agreement_is_that_of_first_choices_and_of_distributions(demo: SimpleNamespace) -> None:
    p, q = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]), np.array([[0.25, 0.75, 0.0], [0.1, 0.2, 0.7]])
    assert demo.accuracy.compare(p, p) == demo.accuracy.Agreement(1.0, 0.0)
    found = demo.accuracy.compare(p, q)
    assert (found.top1, found.mean_kl) == (
        0.5,
        pytest.approx(0.5 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3)), rel=1e-3),  # a divergence: logarithms of reals
    )


def test_answers_agree_the_better_the_more_bits(finished: Any) -> None:
    answers = finished("auto")[2]["answers"]
    assert answers["files"] == int(FILES)
    assert list(answers["rows"]) == list(dict.fromkeys(case.split(":")[0] for case in [*CASES[1:], *BLOCKS]))
    kl = {name: row["mean_kl"] for name, row in answers["rows"].items()}
    assert kl["f16"] < kl["bf16"] < kl["mxint8"] < kl["mxfp8_e4m3"] < kl["mxfp4"] < kl["e2m1"]
    assert answers["rows"]["f16"]["top1"] == 1.0


def test_other_data_is_asked_nothing(finished: Any) -> None:
    process, _, figures = finished("digits")
    assert figures["answers"] is None
    assert "mean KL" not in process.stdout


def test_blocks_lie_along_the_axis_that_products_sum_over(demo: SimpleNamespace) -> None:
    axes = {tensor.name: (tensor.shape, tensor.axis) for tensor in data_of("auto").tensors}
    assert axes["Conv_0.kernel"] == ((512, 256, 5, 1), 1)
    assert axes["Dense_1.kernel"] == ((512, 214), 0)
    assert axes["Dense_0.kernel"] == ((257, 64), -1)


@pytest.mark.parametrize("case", ["mxfp4", "mxfp4:stochastic", "block(e2m1, rule=rceil)", "mx9", "nvfp4_16x16", "hif4",
                                  "block(fixed(bits=8, sign_magnitude=yes), size=16, rule=micro, micro=2:1)",
                                  "nf4_double", "int8_tensor", "int8_affine_axis"])  # fmt: skip
def test_any_block_format_is_a_case(demo: SimpleNamespace, case: str) -> None:
    parsed = demo.blocks.BlockCase.parse(case)
    assert demo.blocks.BlockCase.parse(str(parsed)) == parsed
    values = np.linspace(-1, 1, 200, dtype=np.float32)
    row = demo.blocks.measure_blocks([demo.weights.Tensor("x", values, (20, 10), 0)], parsed)
    assert row.sqnr_db is not None
    assert row.sqnr_db > 5
    lines = demo.run.block_table([row], 80)
    assert lines[2].startswith(case)


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
        ("mxfp5", "mxfp4"),
        ("mxfp4:to_even", "ties_to_even"),
        ("q4_0:stochastic", "fixes the rounding"),
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
        assert all(demo.run.parse_case(case) for case in command.split())
    assert max(len(line) for line in text.splitlines()) <= 80
