"""Stochastic rounding: counted over all random numbers, never estimated."""

from bisect import bisect_right
from fractions import Fraction
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numfmt as nf
from numfmt_jax.quantize import encode, quantize
from numfmt_jax.random import fold, random_bits
from tests.jax.support import KEY, SEED, float32_patterns, same

# Fractions of a gap: exact, ties of every width, just beside them, and far from them.
PLACES = [
    Fraction(n, 2**d) for d in (0, 1, 2, 3, 4, 5, 6, 9, 10, 12) for n in {0, 1, 3, 2**d // 2, 2**d - 1} if n < 2**d
]  # fmt: skip
COUNTS = (1, 2, 3, 8)
KINDS = ("stochastic_a", "stochastic_b", "stochastic_c")


def chance(kind, nu, n):
    """2^n × the probability that a magnitude is rounded away (P3109 v4.0 §4.7.4)."""
    scaled = nu * 2**n
    if kind == "stochastic_b":
        return int(scaled + Fraction(1, 2))  # floor
    return int(scaled) if kind == "stochastic_a" else round(scaled)  # round is half to even


def gaps(fmt):
    """Neighbouring magnitudes of a format: its least, those around its least normal, in its middle and at its end."""
    values = sorted(v for v in nf.value_table(fmt) if isinstance(v, Fraction) and v >= 0)
    pairs = list(pairwise(values))
    normal = bisect_right(values, getattr(nf.get_format(fmt), "min_normal", values[1]))
    chosen = {0, 1, normal - 2, normal - 1, normal, len(pairs) // 2, len(pairs) - 2, len(pairs) - 1}
    return [pairs[i] for i in sorted(chosen) if 0 <= i < len(pairs)]


def operands(fmt):
    """float32 operands between the neighbours, with ν exact in them, as (x, low, high, ν)."""
    found = []
    for low, high in gaps(fmt):
        for nu in PLACES:
            x = low + nu * (high - low)
            if Fraction(float(np.float32(float(x)))) == x:
                found.append((float(x), low, high, nu))
    return found


@partial(jax.jit, static_argnums=(0, 1, 2))
def rounded(fmt, kind, n, x, bits):
    return quantize(x, fmt, rounding=kind, random_bit_count=n, random_bits=bits)


@pytest.mark.parametrize("fmt", ["e4m3fn", "e2m1", "e8m0", "q3.4", "binary8p3se", "e5m2"])
def test_as_many_numbers_round_away_as_the_closed_form_says(fmt):
    cases = operands(fmt)
    x = np.float32([case[0] for case in cases])
    signs = np.float32([1]) if fmt == "e8m0" else np.float32([1, -1])
    for n in COUNTS if fmt == "e4m3fn" else (3, 8):
        bits = np.broadcast_to(np.arange(2**n, dtype=np.uint32), (signs.size, x.size, 2**n))
        for kind in KINDS:
            given = np.broadcast_to(signs[:, None, None] * x[:, None], bits.shape)
            found = np.abs(rounded(fmt, kind, n, given, bits))
            for i, (value, low, high, nu) in enumerate(cases):
                high_count = (found[:, i] == np.float32(high)).sum(-1)
                assert ((found[:, i] == np.float32(high)) | (found[:, i] == np.float32(low))).all(), (kind, n, value)
                assert (high_count == chance(kind, nu, n)).all(), (kind, n, value, high_count, nu)


def test_beyond_the_largest_value_the_carry_decides_on_overflow():
    x = np.float32([57344 + 8192 * nu for nu in (0.25, 0.5, 0.875)])  # 65536 would be next in E5M2
    bits = np.broadcast_to(np.arange(256, dtype=np.uint32), (3, 256))
    x = np.broadcast_to(x[:, None], bits.shape)
    assert np.isinf(rounded("e5m2", "stochastic_a", 8, x, bits)).sum(-1).tolist() == [64, 128, 224]
    options = {"rounding": "stochastic_a", "random_bit_count": 8, "random_bits": bits}
    assert (np.asarray(quantize(x, "e5m2", overflow="saturate", **options)) == 57344).all()


def test_subnormal_operands_round_on_the_grid_of_the_format():
    patterns = np.arange(0x10000, 0x20000, 0x1234, dtype=np.uint32)  # of float32, between two subnormals of bfloat16
    bits = np.broadcast_to(np.arange(256, dtype=np.uint32), (patterns.size, 256))
    x = np.broadcast_to(patterns.view(np.float32)[:, None], bits.shape)
    found = np.asarray(rounded("bfloat16", "stochastic_a", 8, x, bits)).view(np.uint32)
    assert set(np.unique(found)) == {0x10000, 0x20000}
    assert ((found == 0x20000).sum(-1) == (patterns & 0xFFFF) >> 8).all()


@pytest.mark.parametrize(("fmt", "x"), [
    ("e4m3fn", 1.03), ("e4m3fn", 447.9), ("e4m3fn", 0.0007), ("e4m3fn", 1e-5), ("e2m1", 0.1), ("bfloat16", 1.001), ("bfloat16", 1e-40),
    ("q3.4", -3.3), ("e5m2", -1e-6), ("tf32", 3.14159),
])  # fmt: skip
def test_the_threshold_of_32_bits_is_where_the_exact_fraction_says(fmt, x):
    exact = Fraction(float(np.float32(x)))
    low, high = (
        Fraction(float(nf.quantize(np.float64(exact), fmt, rounding=r))) for r in ("toward_zero", "away_from_zero")
    )
    nu = (exact - low) / (high - low)
    threshold = 2**32 - int(nu * 2**32)
    bits = np.array([0, threshold - 1, min(threshold, 2**32 - 1), 2**32 - 1], np.uint32)
    found = quantize(np.full(4, x, np.float32), fmt, rounding="stochastic", random_bits=bits)
    expected = [low, low, high, high] if threshold < 2**32 else [low] * 4
    assert [Fraction(float(v)) for v in found] == expected


@pytest.mark.parametrize(
    "fmt", ["e4m3fn", "e5m2", "e2m1", "e8m0", "bfloat16", "binary8p3se", "q3.4", "int4", "float32"]
)
def test_values_of_the_format_never_move(fmt):
    x = np.float32([float(v) for v in nf.value_table(fmt)]) if nf.get_format(fmt).bits <= 8 else float32_patterns(64)
    x = np.asarray(nf.quantize(x, fmt, overflow="saturate"))
    for bits in (0, 2**32 - 1, 0x9E3779B9):
        found = quantize(x, fmt, rounding="stochastic", random_bits=np.full(x.shape, bits, np.uint32))
        same(found, nf.quantize(x, fmt), f"{bits:#x}")


@pytest.mark.parametrize("n", [1, 8, 31])
def test_a_key_gives_the_top_bits_of_its_words(n):
    x = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    words = np.asarray(jax.random.bits(KEY, x.shape, "uint32"))
    by_bits = quantize(x, "e4m3fn", rounding="stochastic_c", random_bit_count=n, random_bits=words >> np.uint32(32 - n))
    same(quantize(x, "e4m3fn", rounding="stochastic_c", random_bit_count=n, key=KEY), by_bits)


def test_the_mean_of_all_numbers_is_the_operand():
    x = np.float32(1.0 + 5 / 128)  # 13 sixteenths of a gap would need 16 numbers: 5/16 of 1/8
    found = rounded("e4m3fn", "stochastic_a", 4, np.full(16, x), np.arange(16, dtype=np.uint32))
    assert float(np.asarray(found, np.float64).mean()) == float(x)


# ---- no shared noise -------------------------------------------------------------------------------------------


def test_keys_of_layers_steps_and_names_share_no_words():
    keys = list(jax.random.split(KEY, 4))  # those of fold_in(KEY, 0), … (KEY, 3)
    keys += [jax.random.fold_in(KEY, i) for i in range(4, 8)]
    keys += [fold(KEY, name) for name in ("fprop", "dgrad", "wgrad", "cotangent")] + [KEY]
    words = np.stack([np.asarray(random_bits(key, (2048,))) for key in keys])
    assert len(np.unique(words)) > words.size - 3  # 26,624 words of 2^32: 0.08 pairs are expected by chance


def test_elements_rows_and_steps_of_a_scan_have_noise_of_their_own():
    x = np.full((64, 64), 1.0625, np.float32)  # half of a gap of E4M3

    def step(key, _):
        key, own = jax.random.split(key)
        return key, quantize(x, "e4m3fn", rounding="stochastic", key=own)

    _, steps = jax.lax.scan(step, KEY, None, length=6)
    up = np.asarray(steps) > 1.0625
    rows = up.reshape(-1, 64)
    assert len(np.unique(rows, axis=0)) == len(rows), "two rows share their noise"
    assert len(np.unique(up.transpose(0, 2, 1).reshape(-1, 64), axis=0)) == len(rows), "two columns share their noise"
    assert abs(up.mean() - 0.5) < 5 * 0.5 / np.sqrt(up.size)  # five sigma, of fixed keys


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [quantize, encode])
def test_random_numbers_are_given_once_and_only_where_they_are_used(call):
    x, bits = jnp.ones(3), jnp.zeros(3, jnp.uint32)
    with pytest.raises(ValueError, match=r"needs random bits; give one of key= \(jax\.random\.key\) and random_bits="):
        call(x, "e4m3fn", rounding="stochastic")
    with pytest.raises(ValueError, match="give one of key="):
        call(x, "e4m3fn", rounding="stochastic", key=KEY, random_bits=bits)
    with pytest.raises(ValueError, match="takes no random bits"):
        call(x, "e4m3fn", random_bits=bits)
    with pytest.raises(ValueError, match=r"impl='threefry2x32'"):
        call(x, "e4m3fn", rounding="stochastic", key=jax.random.key(0, impl="rbg"))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        call(x, "e4m3fn", rounding="stochastic", key=3)
    with pytest.raises(ValueError, match="vmap"):
        call(x, "e4m3fn", rounding="stochastic", key=jax.random.split(KEY, 3))
    with pytest.raises(TypeError, match="must hold integers"):
        call(x, "e4m3fn", rounding="stochastic", random_bits=jnp.zeros(3))
    with pytest.raises(ValueError, match="must broadcast"):
        call(x, "e4m3fn", rounding="stochastic", random_bits=jnp.zeros(4, jnp.uint32))
    with pytest.raises(ValueError, match="stochastic_a"):
        call(x, "e4m3fn", rounding="stochastic", random_bit_count=8, key=KEY)
    with pytest.raises(ValueError, match="must be 1 to 32"):
        call(x, "e4m3fn", rounding="stochastic_a", random_bit_count=33, key=KEY)


@pytest.mark.parametrize("fmt", ["float64", "binary128", "int32"])
def test_formats_beyond_binary32_are_refused_for_every_mode(fmt):
    with pytest.raises(ValueError, match=r"binary32 does not hold.*numfmt\.quantize \(NumPy\)"):
        quantize(jnp.ones(3), fmt, rounding="stochastic", key=KEY)


def test_a_raw_key_is_a_key():
    x = jnp.float32([1.03, 2.2])
    same(
        quantize(x, "e4m3fn", rounding="stochastic", key=jax.random.PRNGKey(SEED)),
        nf.quantize(np.asarray(x), "e4m3fn", rounding="stochastic", seed=SEED),
    )
