"""Whole families of formats against the oracle: a sample of them by default, all of them nightly."""

import numpy as np
import pytest

import numfmt as nf
from numfmt.named import p3109_names
from spec import oracle
from tests.support import assert_same_bits, exactly, modes, operands, stratified_float32
from tests.test_oracle import check_modes, sampled_operands

LOWEST = {"gradual": "subnormal", "none": "unused", "normal": "normal", "shifted": "shifted"}
SPECIALS = {
    "ieee": {"infinity": "ieee", "nan": "ieee"},
    "fn": {"infinity": "none", "nan": "all_ones"},
    "fnuz": {"infinity": "none", "nan": "negative_zero"},
    "uz": {"infinity": "top", "nan": "negative_zero"},
    "f": {"infinity": "none", "nan": "none"},
}


def grid():
    """Every small custom float: field widths, specials, lowest binade, bias and sign."""
    for e in (1, 2, 3, 4, 5):
        for m in (0, 1, 2, 3):
            for special in SPECIALS:
                for lowest in LOWEST:
                    for signed in (True, False):
                        for shift in (0, 3):
                            yield e, m, special, lowest, signed, shift


def both(e, m, special, lowest, signed, shift):
    """The format of numfmt and that of the oracle; None where numfmt refuses the combination."""
    bias = 2 ** (e - 1) - 1 + (special in ("fnuz", "uz")) + shift
    try:
        fmt = nf.FloatFormat.from_fields(e, m, bias, signed=signed, specials=special, subnormals=nf.Subnormals(lowest))
    except ValueError:
        return None
    facts = dict(SPECIALS[special])
    if not signed and special == "uz":
        facts["nan"] = "all_ones"
    return fmt, oracle.float_format(e, m, bias=bias, signed=signed, lowest_binade=LOWEST[lowest], **facts)


def check(cases):
    checked = 0
    for case in cases:
        pair = both(*case)
        if pair is None:
            continue
        fmt, judge = pair
        assert [fmt.exact(c) for c in range(2**fmt.bits)] == [oracle.value(c, judge) for c in range(2**fmt.bits)], case
        check_modes(
            fmt,
            judge,
            operands(fmt),
            ["ties_to_even", "ties_to_away", "toward_negative", "to_odd"],
            ["saturate", "infinity"],
        )
        checked += 1
    return checked


@pytest.mark.parametrize("part", range(8))
def test_custom_floats_round_as_the_oracle(part):
    assert check(list(grid())[part * 7 :: 8 * 31]) > 2


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(64))
def test_all_custom_floats_round_as_the_oracle(part):
    assert check(list(grid())[part::64]) > 5


@pytest.mark.nightly
@pytest.mark.parametrize("name", p3109_names(range(9, 17)))
def test_all_wide_p3109_formats_round_as_the_oracle(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    x = sampled_operands(fmt, 60)
    x = x[np.isfinite(x)][:: max(1, x.size // 300)]
    brackets = [oracle.bracket(v, judge) for v in exactly(x)]
    for rounding in modes(fmt):
        expected = [oracle.choose(b, judge, rounding, "infinity") for b in brackets]
        assert nf.encode(x, fmt, rounding=rounding, overflow="infinity").tolist() == expected, f"{name} {rounding}"


SIXTEEN = [
    "float16",
    "bfloat16",
    "fp16_alt",
    "dlfloat16",
    "cfloat16_shp",
    "cfloat16_uhp",
    "int16",
    "uint16",
    "binary16p8se",
    "binary16p11se",
]


@pytest.mark.nightly
@pytest.mark.parametrize("name", SIXTEEN)
def test_all_codes_of_sixteen_bits_decode_as_the_oracle_and_encode_back(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    codes = np.arange(2**fmt.bits, dtype=np.uint32)
    expected = [oracle.value(int(c), judge) for c in codes]
    assert nf.value_table(fmt) == expected
    values = nf.decode(codes, fmt)
    finite = np.array([e != "nan" for e in expected])
    assert exactly(values[finite]) == [e for e in expected if e != "nan"]
    if name != "dlfloat16":
        assert_same_bits(nf.encode(values[finite], fmt).astype(np.uint32), codes[finite])


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["float16", "bfloat16", "tf32", "binary16p8se", "dlfloat16", "pxr24"])
def test_stratified_float32_patterns_round_as_the_oracle(name):
    fmt, judge, x = nf.get_format(name), oracle.get(name), stratified_float32()
    brackets = [oracle.bracket(v, judge) for v in exactly(x)]
    for rounding in modes(fmt):
        expected = [oracle.choose(b, judge, rounding, "infinity") for b in brackets]
        assert nf.encode(x, fmt, rounding=rounding, overflow="infinity").tolist() == expected, rounding
