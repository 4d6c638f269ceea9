"""binary32 arithmetic in integers is IEEE 754's: that of NumPy's float32, on NumPy and on jax.numpy."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numfmt as nf
from numfmt import engines
from numfmt._core import binary32
from numfmt._core.fraction import away_at_random
from numfmt.plans import resolve, round_parameters
from numfmt_jax.quotients import FLOATS, mended_reciprocal, reciprocal
from tests.support import SIGNIFICANDS_32

CORNERS = np.array(
    [
        s | f << 23 | m
        for s in (0, 1 << 31)
        for f in (0, 1, 2, 63, 100, 126, 127, 128, 150, 151, 190, 253, 254, 255)
        for m in (0, 1, 2, 3, 0x400000, 0x3FFFFF, 0x400001, 0x555555, 0x7FFFFE, 0x7FFFFF)
    ],
    np.uint32,
).view(np.int32)
ENGINES = {"numpy": (engines.NUMPY, lambda a: a), "jax": (jnp, jnp.asarray)}


def pairs():
    """Every pair of corners, random patterns, and random pairs that nearly cancel or nearly divide."""
    rng = np.random.default_rng(1)
    a, b = (m.reshape(-1) for m in np.meshgrid(CORNERS, CORNERS))
    random = rng.integers(-(2**31), 2**31, (2, 500_000)).astype(np.int32)
    shapes = np.array(SIGNIFICANDS_32, np.int32)
    stratified = [
        (rng.integers(0, 512, 200_000) << 23).astype(np.uint32).view(np.int32) | rng.choice(shapes, 200_000)
        for _ in range(2)
    ]
    near = random[0][:300_000]
    close = near + rng.integers(-(2**25), 2**25, near.size).astype(np.int32)
    return (
        np.concatenate([a, random[0], stratified[0], near]),
        np.concatenate([b, random[1], stratified[1], close ^ np.int32(-(2**31))]),
    )


def same(got, expected):
    got, expected = np.asarray(got), np.asarray(expected, np.float32)
    assert got.dtype == np.int32
    bits = np.where(np.isnan(expected), np.int32(binary32.NAN), expected.view(np.int32))
    wrong = np.flatnonzero(got != bits)
    assert not wrong.size, f"{wrong.size} differ, first at {wrong[0]}: {got[wrong[0]]:#x} for {bits[wrong[0]]:#x}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["multiply", "divide", "add", "minimum", "maximum"])
def test_operations_are_those_of_ieee_754(engine, name):
    xp, array = ENGINES[engine]
    a, b = pairs()
    ufunc = {"multiply": np.multiply, "divide": np.divide, "add": np.add}.get(name) or getattr(np, name)
    with np.errstate(all="ignore"):
        expected = ufunc(a.view(np.float32), b.view(np.float32))
        unsigned = expected + np.float32(0)
    got = np.asarray(getattr(binary32, name)(array(a), array(b), xp=xp))
    if name in ("minimum", "maximum"):  # the sign of a zero is not defined
        got, expected = np.where(got & binary32.MAGNITUDE, got, 0), unsigned
    same(got, expected)


@pytest.mark.parametrize("name", ["multiply", "divide"])
def test_digits_that_floats_propose_are_those_of_integers(name):
    a, b = pairs()
    got = jax.jit(lambda a, b: getattr(binary32, name)(a, b, xp=jnp, digits=FLOATS))(a, b)
    with np.errstate(all="ignore"):
        same(got, getattr(np, name)(a.view(np.float32), b.view(np.float32)))


@pytest.mark.parametrize("engine", ENGINES)
def test_integers_and_back(engine):
    xp, array = ENGINES[engine]
    n = np.concatenate([np.arange(-(2**10), 2**10), 2**24 - np.arange(2**10), np.arange(2**10) - 2**24])
    n = n.astype(np.int32)
    codes = binary32.from_integer(array(n), xp=xp)
    same(codes, n.astype(np.float32))
    assert np.array_equal(np.asarray(binary32.to_integer(codes, xp=xp)), n)


@pytest.mark.parametrize("engine", ENGINES)
def test_truncation(engine):
    xp, array = ENGINES[engine]
    a, _ = pairs()
    x = a.view(np.float32)
    number = np.isfinite(x)
    same(np.asarray(binary32.truncate(array(a), xp=xp))[number], np.trunc(x[number]))
    whole = np.clip(np.trunc(np.where(number, x, 0).astype(np.float64)), -(2**30), 2**30).astype(np.int32)
    got = np.asarray(binary32.to_integer(array(a), xp=xp))
    assert np.array_equal(got[number], whole[number])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("letter", "abc")
@pytest.mark.parametrize("n", [1, 7, 16, 31, 32])
def test_ratios_round_at_random_as_fractions_do(engine, letter, n):
    """Random ratios, ties of ν's last bit, and random numbers on both sides of where each ratio rounds up."""
    xp, array = ENGINES[engine]
    rng = np.random.default_rng(n)
    size = 400
    w = 2 ** rng.integers(1, 30, size) - rng.integers(0, 2, size)
    below = np.where(rng.random(size) < 0.5, 0, rng.integers(0, 70, size))
    d = [int(rng.integers(0, min(2**30, int(a) << int(b)))) for a, b in zip(w, below, strict=True)]
    nu = [Fraction(x, int(a) << int(b)) for x, a, b in zip(d, w, below, strict=True)]
    r = [(2**n - int(v * 2**n) + int(rng.integers(-1, 2))) % 2**n for v in nu]

    def kept(v):
        floor = int(v)
        half = Fraction(1, 2)
        up = {"a": False, "b": v - floor >= half, "c": v - floor > half or (v - floor == half and floor % 2 == 1)}
        return floor + up[letter]

    expected = [int(kept(v * 2**n) + x >= 2**n) for v, x in zip(nu, r, strict=True)]
    mode = round_parameters(resolve(nf.get_format("int8"), f"stochastic_{letter}", None, None, n))
    words = np.array(r, np.uint32) | (rng.integers(0, 2**32, size).astype(np.uint32) & np.uint32(2**32 - 2**n))
    arrays = (np.array(v, np.int32) for v in (d, w, below))
    got = away_at_random(*map(array, arrays), array(words.view(np.int32)), mode, xp=xp)
    assert np.asarray(got).dtype == np.int32
    assert np.asarray(got).tolist() == expected


@pytest.mark.parametrize("exponent", [-100, 0, 125])
def test_reciprocals_of_all_significands(exponent):
    d = (np.arange(2**23, dtype=np.int32) + ((127 + exponent) << 23)).view(np.float32)
    got = np.asarray(jax.jit(reciprocal)(d.view(np.int32)))
    assert np.array_equal(got, (np.float32(1) / d).view(np.int32))


def test_a_reciprocal_that_is_off_by_one_is_mended():
    """As hardware that divides approximately would give it."""
    d = (np.arange(2**16, dtype=np.int32) * 127 + (127 << 23)).view(np.float32)
    right = (np.float32(1) / d).view(np.int32)
    for off in (-1, 0, 1):
        mended = mended_reciprocal(jnp.asarray(d.view(np.int32)), jnp.asarray(right + off))
        same = np.asarray(mended)[1:] == right[1:]  # that of a power of two is taken as it is
        assert same.all()
