"""Dot products recorded on V100, A100, Ada and H100: of the oracle and of numfmt.

Parameters of the units are those of the published models; c of the fp16 sets is rounded to float16 first.
"""

import numpy as np
import pytest

import numfmt as nf
from numfmt.units import DotUnit
from spec import units
from spec.oracle import convert

FORMATS = {"fp16": "float16", "bf16": "bfloat16", "tf32": "tf32", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
# (gpu, in): products of a step, fraction bits, format of the accumulator where float32 comes out, exponent of zero
WIDTHS = {
    ("V100", "fp16"): (4, 23, "float32", -131),
    ("A100", "fp16"): (8, 24, "float32", -132),
    ("A100", "bf16"): (8, 24, "float32", -132),
    ("A100", "tf32"): (4, 24, "float32", -132),
    ("Ada", "fp16"): (8, 24, "float32", -132),
    ("Ada", "bf16"): (8, 24, "float32", -132),
    ("Ada", "tf32"): (4, 24, "float32", -132),
    ("Ada", "e4m3"): (16, 13, "e8m13", -132),
    ("Ada", "e5m2"): (16, 13, "e8m13", -132),
    ("H100", "fp16"): (16, 25, "float32", -133),
    ("H100", "bf16"): (16, 25, "float32", -133),
    ("H100", "tf32"): (8, 25, "float32", -133),
    ("H100", "e4m3"): (32, 13, "e8m13", -133),
    ("H100", "e5m2"): (32, 13, "e8m13", -133),
}
HALF = [("V100", "fp16"), ("A100", "fp16"), ("Ada", "fp16"), ("Ada", "e4m3"), ("Ada", "e5m2"), ("H100", "fp16")]
SETS = [(*key, "fp32") for key in WIDTHS] + [(*key, "fp16") for key in HALF]


def unit_of(gpu, source, to):
    length, fraction, accumulator, zero = WIDTHS[gpu, source]
    narrow = to == "fp16"
    return DotUnit(
        inputs=(FORMATS[source],), kind="aligned", length=length, fraction=fraction, alignment="toward_zero", addend="early",
        accumulator="float16" if narrow else accumulator, addend_format="float16" if narrow else "float32",
        rounding="ties_to_even" if narrow else "toward_zero", overflow="infinity",
        zero_exponent=zero + 112 if narrow else zero, zero="positive",
    )  # fmt: skip


def name_of(gpu, source, to):
    return f"{gpu.lower()}.{source}" + (".fp16out" if to == "fp16" else "")


def recorded(golden, gpu, source, to):
    """a, b, c and d of a set as float32 arrays; c is what was added."""
    with np.load(golden("tensor-cores", "tensor_cores.npz")) as arrays:
        a, b, c, d = (arrays[f"{gpu}_{source}_{to}_{x}"].view(np.float32) for x in "abcd")
    return a, b, c.astype(np.float16).astype(np.float32) if to == "fp16" else c, d


def codes(x, fmt):
    """Codes of values that a format has."""
    found = nf.encode(x, fmt)
    assert np.array_equal(nf.decode(found, fmt), x), fmt
    return found.tolist()


def judged(unit, a, b, c, source):
    """The oracle's answers as float32."""
    fmt = FORMATS[source]
    rows = zip(codes(a, fmt), codes(b, fmt), codes(c, str(unit.c_format)), strict=True)
    to = units.format_of(unit.accumulator)
    return np.array([convert(units.dot(unit, *row, formats=(fmt, fmt)), to, "float32") for row in rows], np.uint32)


def assert_recorded(found, d, what):
    differs = np.flatnonzero(found.view(np.uint32) != d.view(np.uint32))
    assert differs.size == 0, f"{what}: {differs.size} of {d.size} differ, first dot {differs[0]}: {found.view(np.float32)[differs[0]]} instead of {d[differs[0]]}"


def check_oracle(golden, gpu, source, to, step):
    *operands, d = (x[::step] for x in recorded(golden, gpu, source, to))
    unit = unit_of(gpu, source, to)
    assert_recorded(judged(unit, *operands, source), d, f"the oracle for {gpu} {source} {to}")


@pytest.mark.parametrize(("gpu", "source", "to"), SETS)
def test_the_oracle_gives_what_was_recorded(golden, gpu, source, to):
    check_oracle(golden, gpu, source, to, 5)


@pytest.mark.nightly
@pytest.mark.parametrize(("gpu", "source", "to"), SETS)
def test_the_oracle_gives_all_that_was_recorded(golden, gpu, source, to):
    check_oracle(golden, gpu, source, to, 1)


@pytest.mark.parametrize(("gpu", "source", "to"), SETS)
def test_named_units_give_what_was_recorded(golden, gpu, source, to):
    a, b, c, d = recorded(golden, gpu, source, to)
    name = name_of(gpu, source, to)
    assert_recorded(nf.dot(a, b, c, unit=name).astype(np.float32), d, name)


@pytest.mark.parametrize(("gpu", "source", "to"), SETS)
def test_named_units_have_the_published_parameters(gpu, source, to):
    """Of what the recordings tell apart; they hold no infinity, no NaN and no subnormal sum."""
    named, published = nf.get_unit(name_of(gpu, source, to)), unit_of(gpu, source, to)
    for field in ("kind", "length", "fraction", "alignment", "addend", "accumulator", "rounding", "overflow", "zero_exponent", "zero"):
        assert getattr(named, field) == getattr(published, field), field
