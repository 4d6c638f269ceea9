"""numfmt against the oracle of spec/, which enumerates values as fractions and knows nothing of bits."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt.named import scalar_formats
from numfmt.rounding import Rule
from spec import oracle
from tests.support import OVERFLOWS, SPECIALS, assert_same_bits, boundaries, exactly, modes, operands

SMALL = [name for name in scalar_formats() if nf.get_format(name).bits <= 8]
SIXTEEN = [
    "float16", "bfloat16", "fp16_alt", "dlfloat16", "cfloat16_shp", "cfloat16_uhp", "int16", "uint16",
    "binary16p8se", "binary16p11se", "binary16p1ue", "binary16p16uf", "binary12p4ue", "binary11p5se",
]  # fmt: skip
WIDE = ["tf32", "pxr24", "fp24_amd", "float32", "int32", "float64", "x87_extended", "binary128", "binary256"]


def check_modes(fmt, judge, x, rounding_modes, overflows):
    """Codes of numfmt and of the oracle for every combination of modes; both refuse the same ones."""
    exact = exactly(x)
    brackets = [oracle.bracket(v, judge) for v in exact]
    for rounding in rounding_modes:
        for overflow in overflows:
            try:
                expected = [oracle.choose(b, judge, rounding, overflow) for b in brackets]
            except ValueError:
                with pytest.raises(ValueError, match="overflow"):
                    nf.encode(x, fmt, rounding=rounding, overflow=overflow)
                continue
            codes = nf.encode(x, fmt, rounding=rounding, overflow=overflow)
            assert_same_bits(codes, np.array(expected, codes.dtype), f"{fmt} {rounding} {overflow}")
            check_quantize(fmt, x, codes, rounding=rounding, overflow=overflow)


def check_quantize(fmt, x, codes, **options):
    values = nf.quantize(x, fmt, **options)
    decoded = nf.decode(codes, fmt).astype(values.dtype)
    assert_same_bits(values, decoded, f"quantize {fmt} {options}")


@pytest.mark.parametrize("name", SMALL)
def test_values_of_all_codes_are_the_oracles(name):
    judge, fmt = oracle.get(name), nf.get_format(name)
    expected = [oracle.value(code, judge) for code in range(2**fmt.bits)]
    assert nf.value_table(name) == expected
    decoded = nf.decode(np.arange(2**fmt.bits, dtype=np.uint8), name)
    assert [v if e != "nan" else "nan" for v, e in zip(exactly(decoded), expected, strict=True)] == expected


@pytest.mark.parametrize("name", SMALL)
def test_small_formats_round_as_the_oracle(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    check_modes(fmt, judge, operands(fmt), modes(fmt), OVERFLOWS)


@pytest.mark.parametrize("name", SMALL)
def test_defaults_are_the_oracles(name):
    judge, x = oracle.get(name), operands(nf.get_format(name))
    expected = [oracle.encode(v, judge, None, None) for v in exactly(x)]
    assert nf.encode(x, name).tolist() == expected


@pytest.mark.parametrize("name", SMALL)
def test_float32_operands_round_as_their_float64_values(name):
    x = operands(nf.get_format(name))
    with np.errstate(over="ignore", under="ignore"):
        single = np.concatenate([x.astype(np.float32), np.nextafter(x.astype(np.float32), np.float32(0))])
    for rounding in modes(nf.get_format(name)):
        assert_same_bits(
            nf.encode(single, name, rounding=rounding),
            nf.encode(single.astype(np.float64), name, rounding=rounding),
            name,
        )
        got = nf.quantize(single, name, rounding=rounding)
        assert_same_bits(got, nf.decode(nf.encode(single, name, rounding=rounding), name).astype(got.dtype), name)


def fractions_between(fmt, count):
    """Operands at odd places between neighbours all over a format's range, beyond it, and on the grid."""
    values = sorted(v for v in set(nf.value_table(fmt)) if isinstance(v, Fraction))
    rng = np.random.default_rng(3)
    places = [Fraction(n, 64) for n in (0, 1, 7, 16, 31, 32, 33, 48, 63)] + [Fraction(1, 2**40), 1 - Fraction(1, 2**30)]
    picked = [values[0] * Fraction(9, 8), values[-1] * Fraction(17, 16), values[-1] * 2]
    for i in rng.integers(0, len(values) - 1, count):
        place = places[rng.integers(len(places))]
        picked.append(values[i] + (values[i + 1] - values[i]) * place)
    x = np.array([float(v) for v in picked])
    return np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, np.nan]])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rounding", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_stochastic_rounding_takes_every_random_number_as_the_oracle(name, rounding):
    fmt, judge = nf.get_format(name), oracle.get(name)
    for bits in (1, 3, 8):
        x = fractions_between(fmt, 24 if bits < 8 else 6)
        numbers = np.arange(2**bits, dtype=np.uint32)
        every = np.broadcast_to(x[:, None], (x.size, numbers.size))
        # Bits above the low N do not count.
        codes = nf.encode(every, fmt, rounding=rounding, random_bits=numbers + 2**31, random_bit_count=bits)
        brackets = [oracle.bracket(v, judge) for v in exactly(x)]
        expected = [[oracle.choose(b, judge, rounding, None, int(r), bits) for r in numbers] for b in brackets]
        assert codes.tolist() == expected, f"{name} {rounding} {bits}"


@pytest.mark.parametrize(
    "name", [n for n in SMALL if not n.startswith("binary") or n in ("binary8p3se", "binary8p1ue", "binary")]
)
def test_flags_are_the_oracles(name):
    fmt, judge, x = nf.get_format(name), oracle.get(name), operands(nf.get_format(name))
    exact = exactly(x)
    for rounding in modes(fmt):
        for overflow, tininess in (("saturate", "before"), ("infinity", "after")):
            expected = [oracle.encode_flags(v, judge, rounding, overflow, tininess=tininess)[1] for v in exact]
            _, flags = nf.encode(x, fmt, rounding=rounding, overflow=overflow, return_flags=True, tininess=tininess)
            wrong = np.flatnonzero(flags != np.array(expected))
            where = f"{name} {rounding} {overflow} {tininess}"
            assert not wrong.size, f"{where}: {x[wrong[0]]!r} {flags[wrong[0]]} {expected[wrong[0]]}"


def sampled_operands(fmt, count=260):
    """Boundaries of a wide format: its ends, every power of two, and codes all over the range."""
    rng = np.random.default_rng(11)
    codes = {0, 1, 2, 3}
    if isinstance(fmt, nf.FloatFormat):
        t = fmt.trailing_bits
        codes |= {
            (e << t) + d for e in range(0, 2**fmt.exponent_bits, max(1, 2**fmt.exponent_bits // 64)) for d in (-1, 0, 1)
        }
        codes |= {fmt.max_code + d for d in (-2, -1, 0)}
        limit = fmt.max_code
    else:
        limit = fmt.max_integer
        codes |= {limit, limit - 1, limit // 2}
    codes |= {int(c) for c in rng.integers(0, min(limit, 2**62), count)}
    chosen = sorted(c for c in codes if 0 <= c < limit)
    pairs = [(fmt.exact(c), fmt.exact(c + 1)) for c in chosen]
    values = {v for pair in pairs for v in pair if isinstance(v, Fraction)} | {
        (a + b) / 2 for a, b in pairs if "nan" not in (a, b)
    }
    with np.errstate(over="ignore"):
        center = np.array([float(v) if abs(v) < 2**1023 else np.inf for v in values])
    finite = center[np.isfinite(center)]
    points = np.concatenate([finite, np.nextafter(finite, np.inf), np.nextafter(finite, -np.inf)])
    top = float(fmt.max) if fmt.max < 2**1000 else 1e308
    ends = [top * s for s in (1.0, 1.5, 2.0, -1.0, -1.5, -2.0, 4.0)]
    return np.concatenate([points, -points, ends, SPECIALS])


@pytest.mark.parametrize("name", [*SIXTEEN, *WIDE])
def test_wide_formats_round_as_the_oracle(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    slow = fmt.bits > 32
    x = sampled_operands(fmt, 20 if slow else 160)
    if slow:
        x = np.concatenate([x[:: max(1, x.size // 150)], SPECIALS])
    exact = exactly(x)
    brackets = [oracle.bracket(v, judge) for v in exact]
    for rounding in modes(fmt):
        for overflow in ("saturate", "propagate", "infinity"):
            expected = [oracle.choose(b, judge, rounding, overflow) for b in brackets]
            codes = nf.encode(x, fmt, rounding=rounding, overflow=overflow)
            assert codes.tolist() == expected, f"{name} {rounding} {overflow}"
            if fmt.bits <= 32 and fmt.max < 2**1024:
                check_quantize(fmt, x, codes, rounding=rounding, overflow=overflow)


@pytest.mark.parametrize(
    "name", ["float16", "bfloat16", "tf32", "float32", "pxr24", "dlfloat16", "int16", "binary16p8se"]
)
def test_wide_formats_round_stochastically_as_the_oracle(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    x = sampled_operands(fmt, 40)[::5]
    x = np.concatenate([x, x * (1 + 2.0**-13), x * (1 + 2.0**-30)])
    rng = np.random.default_rng(5)
    for rounding in ("stochastic_a", "stochastic_b", "stochastic_c"):
        for bits in (1, 7, 16, 31, 32):
            numbers = rng.integers(0, 2**32, x.size, dtype=np.uint32)
            numbers[::3] |= np.uint32(2**32 - 16)
            codes = nf.encode(x, fmt, rounding=rounding, random_bits=numbers, random_bit_count=bits)
            expected = [
                oracle.encode(v, judge, rounding, None, int(r) % 2**bits, bits)
                for v, r in zip(exactly(x), numbers, strict=True)
            ]
            assert codes.tolist() == expected, f"{name} {rounding} {bits}"


INTEGERS = [2**k + d for k in range(2, 63) for d in (-1, 0, 1)] + [2**63 - 1, 3 * 2**52 + 1, 2**62 + 2**38 + 1]


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "float16", "float32", "float64", "e4m3fn", "int8", "int16", "int32", "int64", "uint64", "q3.12"],
)
def test_integers_are_rounded_once(name):
    judge = oracle.fixed(64, 0, name[0] != "u") if name.endswith("int64") else oracle.get(name)
    for dtype, numbers in (
        (np.int64, [*INTEGERS, *(-i for i in INTEGERS), 0, -(2**63)]),
        (np.uint64, [*INTEGERS, 2**64 - 1, 2**63 + 1]),
    ):
        x = np.array(numbers, dtype)
        for rounding in ("ties_to_even", "toward_negative", "to_odd"):
            expected = [oracle.encode(Fraction(i), judge, rounding, "saturate") for i in numbers]
            assert nf.encode(x, name, rounding=rounding, overflow="saturate").tolist() == expected, (
                f"{name} {dtype} {rounding}"
            )


CUSTOM = {
    "float(e=4, m=3, subnormals=none)": oracle.float_format(4, 3, lowest_binade="unused"),
    "float(e=3, m=2, specials=f, subnormals=none)": oracle.float_format(3, 2, infinity="none", nan="none", lowest_binade="unused"),
    "e5m2b60": oracle.float_format(5, 2, bias=60),
    "e4m3b-20fn": oracle.float_format(4, 3, bias=-20, infinity="none", nan="all_ones"),
    "e8m2b140fnuz": oracle.float_format(8, 2, bias=140, infinity="none", nan="negative_zero"),
    "fixed(bits=6, fraction=2, sign_magnitude=yes)": oracle.fixed(6, 2, encoding="sign_magnitude"),
    "ap_fixed<8,12>": oracle.fixed(8, -4),
    "ap_fixed<8,-3>": oracle.fixed(8, 11),
    "ap_ufixed<7,3>": oracle.fixed(7, 4, signed=False),
    "q1.160": oracle.fixed(162, 160),
    "codebook(-3, -1, 2, 5)": oracle.codebook([-3, -1, 2, 5]),
    "codebook(1/1024, 1, 1000, 1001)": oracle.codebook([Fraction(1, 1024), 1, 1000, 1001]),
}  # fmt: skip


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_formats_round_as_the_oracle(name):
    fmt, judge = nf.get_format(name), CUSTOM[name]
    if fmt.bits > 12:
        x = np.concatenate(
            [np.ldexp([1.0, 1.5, -1.25, 3.0], np.array([[-162], [-161], [-100], [0], [2]])).reshape(-1), SPECIALS]
        )
    else:
        x = operands(fmt)
    brackets = [oracle.bracket(v, judge) for v in exactly(x)]
    for rounding in modes(fmt):
        for overflow in ("saturate", "infinity"):
            expected = [oracle.choose(b, judge, rounding, overflow) for b in brackets]
            assert nf.encode(x, fmt, rounding=rounding, overflow=overflow).tolist() == expected, f"{name} {rounding}"
    numbers = np.arange(4, dtype=np.uint32)
    for rounding in ("stochastic_a", "stochastic_b", "stochastic_c"):
        every = np.broadcast_to(x[:, None], (x.size, 4))
        codes = nf.encode(every, fmt, rounding=rounding, random_bits=numbers, random_bit_count=2)
        assert codes.tolist() == [[oracle.choose(b, judge, rounding, None, r, 2) for r in range(4)] for b in brackets]


def test_wrap_keeps_saturation_bits_as_ap_fixed():
    for bits in (0, 1, 2, 3, 4):
        for signed in (True, False):
            fmt, judge = nf.FixedFormat(4, 1, signed), oracle.fixed(4, 1, signed)
            x = np.arange(-24, 24, 0.25)
            expected = [oracle.encode(v, judge, "toward_negative", "wrap", wrap_bits=bits) for v in exactly(x)]
            assert nf.encode(x, fmt, rounding="toward_negative", overflow="wrap", wrap_bits=bits).tolist() == expected


def test_codebooks_take_exact_integers_stochastically():
    x = np.array([2**63 + 1, 2**53 + 1, 0], np.uint64)
    assert nf.encode(x, "nf4", rounding="stochastic", seed=1).tolist() == [15, 15, 7]
    values, judge = (0, Fraction(2) ** 60, Fraction(2) ** 62), oracle.codebook([0, 2**60, 2**62])
    x = np.array([2**60 + 2**54 + 1, 2**61 + 2**53 - 1, 12345678901234567], np.int64)
    for r in (0, 1, 2**31, 2**32 - 2**26, 2**32 - 1):
        codes = nf.encode(x, nf.CodebookFormat(values), rounding="stochastic_c", random_bits=r)
        assert codes.tolist() == [oracle.encode(Fraction(int(v)), judge, "stochastic_c", None, r, 32) for v in x]


def test_codebooks_take_subnormal_operands_stochastically():
    values, judge = [0, 2.0**-1072], oracle.codebook([0, Fraction(2) ** -1072])
    x = np.arange(9) * 2.0**-1074
    for r in range(0, 256, 5):
        codes = nf.encode(x, nf.CodebookFormat(values), rounding="stochastic_a", random_bits=r, random_bit_count=8)
        assert codes.tolist() == [oracle.encode(v, judge, "stochastic_a", None, r, 8) for v in exactly(x)]


def test_formats_wider_than_the_carrier_leave_its_values_alone():
    x = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    for name in ("float64", "e8m40", "binary128"):
        assert_same_bits(nf.quantize(x, name).astype(np.float64), x.astype(np.float64), name)
    y = np.array([1.5, -(2.0**-1074), np.inf, np.nan, -0.0])
    assert_same_bits(nf.quantize(y, "binary128"), y)


def test_a_platform_tells_nans_of_both_signs_apart_in_fixed_point():
    platform = nf.Platform("x", "made up", default=Rule(nan=(5, 6)))
    x = np.array([np.nan, -np.nan])
    assert nf.encode(x, "int8", platform=platform).tolist() == [5, 6]


def test_boundaries_of_binary64_are_exact():
    assert boundaries({Fraction(1), Fraction(2)}).size == 18
