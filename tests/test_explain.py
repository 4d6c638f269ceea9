"""explain: results against the oracle, reasons against IEEE 754's words, facts against the standards."""

from fractions import Fraction

import pytest

import numfmt as nf
from numfmt._cli.ladder import ladder
from numfmt._cli.numbers import (
    decimal_text,
    exact_decimal,
    fraction_text,
    hex_float,
    parse_code,
    parse_value,
    scientific,
)
from numfmt._cli.reasons import threshold
from numfmt.explain import explain
from numfmt.named import NAMED
from numfmt.rounding import Rounding
from spec import oracle

SMALL = [name for name, entry in NAMED.items() if entry.format.bits <= 8]
SMALL += ["binary3p1ue", "binary4p2se", "binary6p3uf", "binary8p3se", "binary8p1sf", "binary16p8se"]
LARGE = [
    "float16",
    "bfloat16",
    "tf32",
    "pxr24",
    "dlfloat16",
    "cfloat16_shp",
    "float32",
    "float64",
    "binary128",
    "int16",
    "int32",
]
HAIR = Fraction(1, 10**40)


def why(format, value, mode, **rules):
    return next(o for o in explain(format, value, **rules).outcomes if o.mode == mode)


def points(fmt, count=4):
    """Values, midpoints, their close neighbours, and points around both ends of the range."""
    steps = ladder(fmt)
    ranks = range(steps.low, steps.high, max(1, (steps.high - steps.low) // count))
    middles = [(steps.value(r) + steps.value(r + 1)) / 2 for r in ranks]
    near = [p + d for p in (*middles, *map(steps.value, ranks)) for d in (-HAIR, 0, HAIR)]
    least = fmt.min_positive
    return [
        *near,
        fmt.max * Fraction(101, 100),
        fmt.max * 3,
        fmt.min * 3,
        least / 2,
        -least / 2,
        -least / 3,
        Fraction(0),
    ]


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_every_mode_gives_the_code_of_the_oracle(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    for point in points(fmt):
        found = explain(fmt, point)
        for o in found.outcomes:
            if not o.mode.is_stochastic:
                assert o.code == oracle.encode(point, judge, o.mode.value, None), (point, o)
            assert "report" not in o.why, (point, o)
        for o in found.overflows:
            assert o.code == oracle.encode(point, judge, None, o.mode.value), (point, o)


@pytest.mark.parametrize("name", ["float4_e2m1fn", "float8_e8m0fnu", "float16", "q3.4", "nf4", "ternary", "dlfloat16"])
@pytest.mark.parametrize("n", [1, 3])
def test_chances_are_the_share_of_words(name, n):
    fmt = nf.get_format(name)
    for value in (fmt.max / 3, fmt.max * 2 / 7, fmt.min_positive * 9 / 7):
        found = explain(fmt, value, random_bit_count=n)
        assert bool(found.outcomes) is not found.is_exact
        for mode in ("stochastic_a", "stochastic_b", "stochastic_c"):
            codes = [oracle.encode(value, oracle.get(name), mode, None, r, n) for r in range(2**n)]
            counted = {code: Fraction(codes.count(code), 2**n) for code in codes}
            assert found.is_exact or {o.code: o.chance for o in found.outcomes if o.mode == mode} == counted


def test_a_tie_is_explained_by_the_last_kept_bit():
    assert why("e4m3fn", "1.6875", Rounding.TIES_TO_EVEN).why == (
        "guard 1, sticky 0: a tie; the last kept bit is 1 (odd), so up"
    )
    assert why("e4m3fn", "1.8125", Rounding.TIES_TO_EVEN).why == (
        "guard 1, sticky 0: a tie; the last kept bit is 0 (even), so down"
    )
    assert why("e4m3fn", "-1.6875", Rounding.TIES_TO_EVEN).why.endswith("so away from zero")


def test_a_decimal_is_not_read_by_way_of_a_float():
    """1 + 2**-4 + 10**-30 lies above a midpoint of E4M3; the binary64 number nearest to it is that midpoint."""
    text = "1.062500000000000000000000000001"
    assert Fraction(float(text)) == Fraction(17, 16)
    assert explain("e4m3fn", text).value == Fraction(9, 8)
    assert explain("e4m3fn", float(text)).value == 1


def test_a_third_rounds_in_binary128():
    found = explain("binary128", "1/3")
    assert found.code == 0x3FFD5555555555555555555555555555
    assert abs(found.value - Fraction(1, 3)) < Fraction(1, 2**115)


def test_overflow_threshold_is_the_midpoint_beyond_the_range():
    """448 is even, so the tie at 464 stays; in binary16 65504 is odd, so the tie at 65520 leaves (IEEE 754 §4.3.1)."""
    assert threshold(nf.get_format("e4m3fn"), True, Rounding.TIES_TO_EVEN) == (464, False)
    assert threshold(nf.get_format("float16"), True, Rounding.TIES_TO_EVEN) == (65520, True)
    assert threshold(nf.get_format("int8"), False, Rounding.TIES_TO_EVEN) == (Fraction(-257, 2), False)
    assert threshold(nf.get_format("int8"), True, Rounding.TIES_TO_EVEN) == (Fraction(255, 2), True)


def test_overflow_is_explained():
    assert why("float16", "65520", Rounding.TIES_TO_EVEN).why.endswith("so up, beyond 65504; overflow=infinity: inf")
    assert "stops at the largest finite value" in why("float16", "1e9", Rounding.TOWARD_ZERO).why
    assert {o.mode.value: o.code for o in explain("e4m3fn", "1e9").overflows} == {
        "saturate": 0x7E, "propagate": 0x7E, "infinity": 0x7E, "nan": 0x7F,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("format", "code", "value", "kind"),
    [
        ("e4m3fn", "0x7e", 448, "normal"),  # OFP8 table 1
        ("e4m3fn", "0b0_0000_001", Fraction(1, 512), "subnormal"),
        ("e4m3fn", "0x7f", "nan", "nan"),
        ("e5m2", "0xfc", "-inf", "inf"),
        ("e5m2", "0x80", "-0", "zero"),
        ("e8m0", "0x00", Fraction(1, 2**127), "normal"),  # OCP MX §5.4.1
        ("e8m0", "0xff", "nan", "nan"),
        ("e4m3fnuz", "0x80", "nan", "nan"),
        ("fp24_amd", "0x1", "nan", "unused"),
        ("ternary", "0x3", "nan", "unused"),
        ("x87", "0x3fff8000000000000000", 1, "normal"),
        ("q3.4", "0x80", -8, "value"),
    ],
)
def test_codes_read_as_the_standard_says(format, code, value, kind):
    found = explain(format, code)
    assert (found.value, found.kind, found.given_as_code) == (value, kind, True)


@pytest.mark.parametrize(
    ("format", "code", "below", "above"),
    [
        ("e4m3fn", "0x38", 0x37, 0x39),
        ("e4m3fn", "0x00", 0x81, 0x01),
        ("e4m3fn", "0x7e", 0x7D, None),
        ("e4m3fn", "0xb8", 0xB9, 0xB7),
    ],
)
def test_neighbours_are_next_in_value(format, code, below, above):
    found = explain(format, code)
    assert tuple(n and n.code for n in (found.below, found.above)) == (below, above)


def test_fields_cover_the_code():
    found = explain("bf16", "0x3fc0")
    assert [(f.name, f.bits) for f in found.fields] == [
        ("sign", "0"),
        ("exponent", "01111111"),
        ("significand", "1000000"),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0, 3, Fraction(1, 3), 0.1])
def test_python_numbers_are_values(value):
    assert explain("float64", value).given_as_code is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.7", Fraction(17, 10)),
        ("-0x1.8p3", Fraction(-12)),
        ("1/3", Fraction(1, 3)),
        ("+inf", "inf"),
        ("-Infinity", "-inf"),
        ("NaN", "nan"),
        ("-0.0", "-0"),
        ("-0x0p5", "-0"),
        ("1e-400", Fraction(1, 10**400)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("0x.8", Fraction(1, 2)),
        (" 12 ", Fraction(12)),
    ],
)
def test_texts_are_read_exactly(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize(
    "text", ["", "one", "1/0", "0x", "1e", "--1", "1e999999999", "0x1p99999999999", "9" * 5000, "1 2", "1/2.5", "."]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"no number|divides by zero|exponent beyond|cannot be read"):
        parse_value(text)


@pytest.mark.parametrize(("text", "bits"), [("0x100", 8), ("0b0_1111_1100", 8), ("0b1_0000_0000", 8)])
def test_codes_that_are_too_wide_are_refused(text, bits):
    with pytest.raises(ValueError, match="8 bits"):
        parse_code(text, bits)


@pytest.mark.parametrize(
    "value", [Fraction(0), Fraction(1, 3), Fraction(-7, 4), Fraction(2) ** 500, Fraction(3, 2**90), Fraction(1, 10)]
)
def test_texts_of_numbers_name_them(value):
    if (text := hex_float(value)) is not None:
        assert parse_value(text) == value
    if (text := exact_decimal(value)) is not None:
        assert parse_value(text) == value
    assert abs(Fraction(scientific(value, 9)) - value) <= abs(value) * Fraction(1, 10**8)


def test_texts_of_long_numbers_are_short():
    largest = nf.get_format("binary256").max
    assert fraction_text(largest) == f"0x{'1' + 'f' * 59} × 2^261907"
    assert decimal_text(largest, 5) == "≈1.6113e78913"


def test_hopeless_exponents_are_refused():
    with pytest.raises(ValueError, match="40 exponent bits"):
        explain("e40m3", "1")
