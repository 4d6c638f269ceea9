"""gfloat: every P3109 format of 3 to 8 bits and the OCP formats, in each of its rounding modes.

gfloat follows an older draft (v3) of P3109. With saturation the two agree everywhere; without, a finite format gives
NaN in gfloat and its largest value in v4.0, and divergences.csv says so.
"""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.divergences import accepted, assert_explained
from tests.judges.operands import sizes, ties
from tests.judges.peers import GFLOAT_OCP, IEEE_MODES, P3109, by_gfloat, gfloat_format, need
from tests.support import assert_same_bits

need("gfloat")

SPECIALS = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 5e-324, -5e-324])
FLOATS = [name for name in GFLOAT_OCP if name != "s2f6"]
STOCHASTIC = ("stochastic_a", "stochastic_b", "stochastic_c")


def unsaturated(fmt):
    """What gfloat does without saturation, in our words."""
    found = nf.get_format(fmt)
    return "infinity" if found.has_infinity or not found.has_nan else "nan"


def compare(fmt, rounding, overflow):
    x = accepted("gfloat", "float64", fmt, np.concatenate([ties(fmt, "float64"), SPECIALS]), rounding, overflow)
    assert_explained("gfloat", "float64", fmt, x, need("gfloat").cast(x, fmt, rounding, overflow), rounding, overflow)


@pytest.mark.parametrize("fmt", [*GFLOAT_OCP, *P3109])
def test_decoded_values_are_equal(fmt):
    import gfloat

    info = gfloat_format(fmt)
    values = [gfloat.decode_float(info, code).fval for code in range(0, 2**info.k, 1 if info.k <= 8 else 7)]
    codes = np.arange(0, 2**info.k, 1 if info.k <= 8 else 7)
    assert_same_bits(nf.decode(codes, fmt, dtype=np.float64), np.array(values, np.float64), fmt)


@pytest.mark.parametrize("fmt", [*FLOATS, *P3109])
def test_codes_are_equal_in_every_deterministic_mode(fmt):
    for rounding in IEEE_MODES:
        for overflow in ("saturate", unsaturated(fmt)):
            compare(fmt, rounding, overflow)


@pytest.mark.parametrize("fmt", [name for name in P3109 if name.endswith("f")])
def test_sat_none_of_finite_formats_is_the_only_change_since_the_older_draft(fmt):
    for rounding in IEEE_MODES:
        compare(fmt, rounding, "infinity")


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float4_e2m1fn", "binary8p3se", "binary5p2uf"])
def test_gfloat_s_scalar_function_agrees_with_its_array_function(fmt):
    import gfloat

    x = np.concatenate([ties(fmt, "float64")[::7], SPECIALS])
    x = accepted("gfloat", "float64", fmt, x, "ties_to_even", "saturate")
    info = gfloat_format(fmt)
    scalar = [gfloat.encode_float(info, gfloat.round_float(info, v, sat=True)) for v in x.tolist()]
    assert scalar == by_gfloat(x, fmt, "ties_to_even", "saturate").tolist()


def between(fmt, parts):
    """Operands that cut the way between neighbours, and beyond the last, into `parts`; a float32 ulp beside them."""
    values = sizes(fmt)
    values = np.append(values, 2 * values[-1] - values[-2])
    steps = np.arange(parts + 1) / parts
    cuts = (values[:-1, None] + (values[1:] - values[:-1])[:, None] * steps).astype(np.float32).reshape(-1)
    beside = np.concatenate([cuts, np.nextafter(cuts, np.float32(-1)), np.nextafter(cuts, np.float32(np.inf))])
    signs = [beside, -beside] if nf.get_format(fmt).signed else [beside[beside >= 0]]
    return np.unique(np.concatenate(signs)).astype(np.float64)


@pytest.mark.parametrize("rounding", STOCHASTIC)
@pytest.mark.parametrize(
    "fmt", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "binary8p3se", "binary6p4sf", "binary5p1se", "binary4p2uf"]
)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_stochastic_modes_agree_for_every_random_number(fmt, rounding, count):
    """gfloat's StochasticFastest, StochasticFast and Stochastic are P3109's A, B and C."""
    x = between(fmt, 2 ** (count + 2))[:: 1 if count < 4 else 5]
    for number in range(2**count):
        random = np.full(x.shape, number)
        ours = nf.encode(x, fmt, rounding=rounding, overflow="saturate", random_bits=random, random_bit_count=count)
        assert_same_bits(ours, by_gfloat(x, fmt, rounding, "saturate", random, count), f"R={number}")


@pytest.mark.parametrize("rounding", STOCHASTIC)
@pytest.mark.parametrize("count", [8, 13, 16])
def test_stochastic_modes_agree_for_many_random_bits(rounding, count):
    x = between("float8_e4m3fn", 16)
    random = np.random.default_rng(count).integers(0, 2**count, (64, x.size))
    for numbers in random:
        ours = nf.encode(x, "float8_e4m3fn", rounding=rounding, random_bits=numbers, random_bit_count=count)
        assert_same_bits(ours, by_gfloat(x, "float8_e4m3fn", rounding, "saturate", numbers, count))
