"""One rounding from every source: float64 and 64-bit integers never pass through a narrower format."""

from fractions import Fraction

import numpy as np
import pytest

import numfmt as nf
from spec import oracle
from tests.judges.operands import INTEGERS, integers, ties
from tests.judges.peers import ML_DTYPES
from tests.support import assert_same_bits, exactly

FORMATS = (*ML_DTYPES, "float16")
MODES = ("ties_to_even", "ties_to_away", "toward_zero", "to_odd")


def test_float64_just_inside_a_midpoint_stays_inside():
    """float32 would make it the midpoint -432, whose even neighbour is -448."""
    assert nf.quantize(-431.99999999999994, "e4m3fn") == -416
    assert nf.quantize(np.float32(-431.99999999999994), "e4m3fn") == -448


def test_float64_just_above_a_midpoint_goes_up():
    x = 1 + 2.0**-8 + 2.0**-40
    assert nf.quantize(x, "bfloat16") == 1.0078125
    assert nf.quantize(np.float32(x), "bfloat16") == 1


@pytest.mark.parametrize("fmt", FORMATS)
def test_float64_at_and_beside_every_midpoint_is_rounded_once(fmt):
    x = ties(fmt, "float64")
    x = x[:: max(1, x.size // 3000)]
    brackets = [oracle.bracket(value, fmt) for value in exactly(x)]
    for rounding in MODES:
        expected = [oracle.choose(b, fmt, rounding, None) for b in brackets]
        codes = nf.encode(x, fmt, rounding=rounding)
        assert_same_bits(codes, np.array(expected, codes.dtype), f"{fmt} {rounding}")


@pytest.mark.parametrize("source", list(INTEGERS))
@pytest.mark.parametrize("fmt", [*FORMATS, "binary16p11se"])
def test_integers_at_and_beside_midpoints_are_rounded_once(fmt, source):
    x = integers(fmt, source)
    x = x[:: max(1, x.size // 3000)]
    brackets = [oracle.bracket(Fraction(int(i)), fmt) for i in x]
    for rounding in MODES:
        expected = [oracle.choose(b, fmt, rounding, None) for b in brackets]
        codes = nf.encode(x, fmt, rounding=rounding)
        assert_same_bits(codes, np.array(expected, codes.dtype), f"{fmt} {rounding}")


@pytest.mark.parametrize("source", list(INTEGERS))
@pytest.mark.parametrize(("fmt", "precision"), [("float32", 24), ("float64", 53), ("tf32", 11)])
def test_integers_beside_midpoints_of_wide_formats_are_rounded_once(fmt, precision, source):
    generator = np.random.default_rng(precision)
    limits = np.iinfo(INTEGERS[source])
    x = {int(limits.max), int(limits.min), 0}
    for exponent in range(precision, 64):
        gap = 1 << (exponent - precision + 1)
        for high in (0, 1, 2 ** (precision - 1) - 1, *generator.integers(0, 2 ** (precision - 1), 12).tolist()):
            middle = (1 << exponent) + high * gap + gap // 2
            x |= {sign * (middle + step) for step in (-1, 0, 1) for sign in (1, -1)}
    x = np.array(sorted(i for i in x if limits.min <= i <= limits.max), INTEGERS[source])
    expected = [oracle.encode(Fraction(int(i)), fmt) for i in x]
    codes = nf.encode(x, fmt)
    assert_same_bits(codes, np.array(expected, codes.dtype), fmt)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stochastic_rounding_of_a_tiny_value_goes_away_for_2_words_of_2_to_the_32(dtype):
    """2^-40 is 2^-31 of E4M3's least value 2^-9: away iff 2 + R reaches 2^32."""
    top = 2**32
    words = np.array([0, 1, 2**31 - 1, 2**31, top - 2**24, top - 2**16, *range(top - 2000, top)], np.uint32)
    words = np.concatenate([words, np.random.default_rng(0).integers(0, top - 2, 20_000).astype(np.uint32)])
    for sign in (1, -1):
        x = np.full(words.shape, sign * 2.0**-40, dtype)
        values = nf.quantize(x, "e4m3fn", rounding="stochastic", random_bits=words)
        assert_same_bits(values, np.where(words >= top - 2, dtype(sign * 2.0**-9), dtype(sign * 0.0)))


def test_stochastic_rounding_drops_what_lies_below_2_to_the_minus_32_of_a_quantum():
    """floor(ν·2^32) is 0 for ν = 2^-33: never away; for 3·2^-33 it is 1: away for one word."""
    words = np.uint32([0, 2**32 - 2, 2**32 - 1])
    for m, away in ((1, [0, 0, 0]), (3, [0, 0, 1])):
        x = np.full(3, m * 2.0**-42)
        assert nf.encode(x, "e4m3fn", rounding="stochastic", random_bits=words).tolist() == away


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "bfloat16", "float4_e2m1fn", "float8_e8m0fnu"])
def test_stochastic_rounding_of_float64_is_the_oracle_s_at_the_words_that_decide(fmt):
    x = np.abs(ties(fmt, "float64"))
    x = x[:: max(1, x.size // 300)]
    for value, exact in zip(x, exactly(x), strict=True):
        threshold = 2**32 - int(oracle.quantum_fraction(exact, fmt) * 2**32)
        words = [w for w in (0, threshold - 1, threshold, 2**32 - 1) if 0 <= w < 2**32]
        expected = [oracle.encode(exact, fmt, "stochastic", None, word) for word in words]
        codes = nf.encode(np.full(len(words), value), fmt, rounding="stochastic", random_bits=np.uint32(words))
        assert_same_bits(codes, np.array(expected, codes.dtype), f"{fmt} {value!r}")
