"""Compiled products of matrices: the bits of the NumPy engine, whatever the unit, the shape and the operands."""

from unittest import mock

import numpy as np
import pytest

import numfmt as nf
from numfmt import compiled, unit_compiled, unit_run
from numfmt.units import Kind
from tests.support import mostly_nightly
from tests.units_custom import ALIGNED as CUSTOM
from tests.units_custom import LATE, custom_unit
from tests.units_support import addends, cases, code_dtype

numba = pytest.mark.skipif(compiled._module() is None, reason="Numba is not installed for this interpreter")
ALIGNED = [
    "h100.e4m3", "h100.e5m2", "h100.fp16", "a100.bf16", "v100.fp16", "h100.tf32", "ada.e4m3", "ada.e4m3.fp16out", "b200.e4m3",
    "b200.f8f6f4", "h100.fp16.fp16out", "h100.e4m3.promote128",
]  # fmt: skip
CHAINS = [("e4m3fn", "e5m10"), ("e4m3fn", "e8m13"), ("e5m2", "bf16"), ("e3m2", "e5m7"), ("e2m1", "e6m9"), ("e4m3fn", "e8m7")]
SHAPES = [(5, 33, 17), (16, 200, 48), (1, 1, 1), (3, 64, 100)]


def codes(rng, fmt, shape, special):
    """Random codes; without `special`, those of finite numbers, most of them near one."""
    fmt = nf.get_format(fmt)
    dtype = f"uint{max(8, 1 << (fmt.bits - 1).bit_length())}"
    if special:
        return rng.integers(0, 2**fmt.bits, shape).astype(dtype)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 4, shape)
    return np.asarray(nf.encode(x, fmt, overflow="saturate"))


def both(a, b, c, unit, fmt, scales=None, function=nf.matmul):
    """The results of the compiled loop and of the NumPy engine, as patterns; that the loop ran is checked."""
    ran = []

    def product(*arguments):
        ran.append(1)
        return original(*arguments)

    original = unit_compiled.product
    with mock.patch.object(compiled, "SMALL", 0), mock.patch.object(unit_compiled, "product", product):
        fast = function(a, b, c, unit=unit, formats=fmt, scales=scales)
    assert ran
    with mock.patch.object(unit_run, "_compiled", return_value=None):
        slow = function(a, b, c, unit=unit, formats=fmt, scales=scales)
    assert fast.dtype == slow.dtype
    return fast.view(f"u{fast.dtype.itemsize}"), slow.view(f"u{slow.dtype.itemsize}")


def addend(rng, unit, shape):
    fmt = unit.promoted if unit.promote_every else unit.c_format
    c = nf.decode(codes(rng, fmt, shape, True), fmt)
    return c if c.dtype == np.float64 else np.asarray(c, np.float32)


@numba
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("name", mostly_nightly(ALIGNED, ["h100.e4m3", "h100.fp16", "b200.e4m3", "ada.e4m3.fp16out", "h100.e4m3.promote128"]))
def test_aligned_sums(name, special):
    rng, unit = np.random.default_rng(len(name)), nf.get_unit(name)
    for fmt in unit.inputs[:2]:
        for m, k, n in SHAPES:
            a, b = codes(rng, fmt, (m, k), special), codes(rng, fmt, (k, n), special)
            for c in (None, addend(rng, unit, (m, n))):
                fast, slow = both(a, b, c, name, fmt)
                assert np.array_equal(fast, slow), (fmt, m, k, n)


@numba
@pytest.mark.parametrize(("alignment", "fraction", "length", "rounding"), [
    ("toward_zero", 5, 3, "ties_to_even"), ("toward_negative", 24, 8, "toward_zero"), ("toward_negative", 9, None, "ties_to_even"),
    ("toward_zero", 27, 6, "toward_positive"), ("toward_zero", 26, 31, "to_odd"),
])  # fmt: skip
def test_any_aligned_sum(alignment, fraction, length, rounding):
    rng = np.random.default_rng(fraction)
    unit = nf.DotUnit(inputs=("e4m3fn", "e5m2"), kind="aligned", alignment=alignment, fraction=fraction, length=length,
                      rounding=rounding, accumulator="e6m12", zero="positive", zero_exponent=-40)  # fmt: skip
    for fmt in ("e4m3fn", "e5m2"):
        a, b = codes(rng, fmt, (20, 31), True), codes(rng, fmt, (31, 33), True)
        fast, slow = both(a, b, addend(rng, unit, (20, 33)), unit, fmt)
        assert np.array_equal(fast, slow)


NAMED = [name for name in nf.list_units() if nf.get_unit(name).kind is Kind.ALIGNED]
EVERY_DAY = {name for name in NAMED if not name.startswith("mi300")} | {
    "mi300.e4m3fnuz", "mi300.e5m2fnuz", *CUSTOM,
} - {"F=40", "F=52", "alignment toward_negative", "scales with group"}  # fmt: skip
ENGINE = {  # those that no loop takes, or not in all of their formats
    "alignment ties_to_even", "alignment to_odd", "rounding toward_negative", "fixed-point inputs", "float32 into float64", "group",
    "promotion", "promotion inside a step", "promotion of groups", "late, to a narrow one", "late, small fraction", "late, reach 0",
    "late, promotion", "group of all",
}  # fmt: skip
DIRECTED = [*NAMED, *(name for name in (*CUSTOM, *LATE) if name not in ENGINE and "stochastic" not in name)]


@numba
@pytest.mark.parametrize("name", mostly_nightly(DIRECTED, EVERY_DAY))
def test_directed_operands(name):
    """Every row of a with every row of b: zeros, ties, cancellations, swamping, infinities, the ends of every format."""
    unit = custom_unit(name) if name in CUSTOM or name in LATE else nf.get_unit(name)
    for case in cases(unit, 8, least=1):
        a, b = (x.astype(code_dtype(nf.get_format(fmt))) for x, fmt in zip((case.a, case.b), case.formats, strict=True))
        scales = case.scales and (case.scales[0].astype(np.uint8), case.scales[1].astype(np.uint8).T)
        fast, slow = both(a, b.T, addends(unit, case.c)[:, None], unit, case.formats, scales)
        assert np.array_equal(fast, slow), a.shape


@numba
@pytest.mark.parametrize(("name", "fmt", "other"), [
    ("b200.mxfp8", "mxfp8_e4m3", "mxfp8_e5m2"), ("b200.mxfp4", "mxfp4", "mxfp4"), ("b200.nvfp4", "nvfp4", "nvfp4"),
    ("b200.nvfp4", "nvfp4", "block(e2m1, scale=e8m0, size=16)"),
])  # fmt: skip
def test_scales_of_blocks(name, fmt, other):
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal(shape).astype(np.float32) * 2.0 ** rng.integers(-20, 20, shape) for shape in ((9, 160), (160, 20)))
    a, b = nf.encode(x, fmt, axis=1), nf.encode(y, other, axis=0)
    fast, slow = both(a, b, None, name, None)
    assert np.array_equal(fast, slow)


@numba
@pytest.mark.parametrize("name", mostly_nightly(["h100.e4m3", "h100.e4m3.promote128", "h100.mma.e4m3", "mi300.e4m3fnuz"], ["h100.e4m3"]))
def test_a_long_dot_is_a_row_times_a_column(name):
    rng, fmt = np.random.default_rng(3), nf.get_unit(name).inputs[0]
    a, b = codes(rng, fmt, (2, 1, 1600), False), codes(rng, fmt, (3, 1600), False)
    fast, slow = both(a, b, None, name, str(fmt), function=nf.dot)
    assert fast.shape == (2, 3)
    assert np.array_equal(fast, slow)
    assert all(nf.dot(a[0, 0], b[i], unit=name, formats=str(fmt)).view(fast.dtype) == fast[0, i] for i in range(3))


@numba
def test_few_short_dots_and_many_long_ones_go_to_the_engine():
    rng = np.random.default_rng(4)
    with mock.patch.object(compiled, "SMALL", 0), mock.patch.object(unit_compiled, "product", side_effect=AssertionError):
        for shape in ((255,), (3, 767), (40, 60)):
            a, b = codes(rng, "e4m3fn", shape, False), codes(rng, "e4m3fn", shape, False)
            assert nf.dot(a, b, unit="h100.e4m3", formats="e4m3fn").shape == shape[:-1]


@numba
def test_promoted_subnormals_that_are_flushed():
    """Of the wide accumulator, which has others than the unit's."""
    unit = nf.DotUnit(inputs=("e4m3fn",), kind="aligned", fraction=20, length=4, promote_every=4, flush_results=True, zero="positive")
    c = np.full((2, 2), 2.0**-140, np.float32)
    a = np.zeros((2, 8), np.float32)
    with mock.patch.object(compiled, "SMALL", 0):
        assert nf.matmul(a, a.T, c, unit=unit).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@numba
def test_batches_broadcast():
    rng = np.random.default_rng(2)
    a, b = codes(rng, "e4m3fn", (2, 1, 5, 40), False), codes(rng, "e4m3fn", (3, 40, 7), False)
    fast, slow = both(a, b, None, "h100.e4m3", "e4m3fn")
    assert fast.shape == (2, 3, 5, 7)
    assert np.array_equal(fast, slow)


@numba
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(("fmt", "accumulator"), CHAINS)
def test_narrow_chains(fmt, accumulator, special):
    rng = np.random.default_rng(len(accumulator))
    unit = nf.DotUnit(inputs=(fmt,), accumulator=accumulator)
    for m, k, n in SHAPES:
        a, b = codes(rng, fmt, (m, k), special), codes(rng, fmt, (k, n), special)
        for c in (None, addend(rng, unit, (m, n))):
            fast, slow = both(a, b, c, unit, fmt)
            assert np.array_equal(fast, slow), (m, k, n)


@numba
@pytest.mark.parametrize(("fmt", "accumulator"), CHAINS)
def test_every_accumulator_meets_products(fmt, accumulator):
    """One product and every code of the accumulator, or a quarter of a million: ties, cancellations, swamping."""
    rng = np.random.default_rng(7)
    unit = nf.DotUnit(inputs=(fmt,), accumulator=accumulator)
    bits = unit.accumulator.bits
    every = np.arange(2**bits) if bits <= 18 else rng.integers(0, 2**bits, 2**18)
    every = every.astype(f"uint{max(8, 1 << (bits - 1).bit_length())}")
    c = np.resize(nf.decode(every, accumulator), (256, every.size // 256))
    a, b = codes(rng, fmt, (256, 1), True), codes(rng, fmt, (1, c.shape[1]), True)
    fast, slow = both(a, b, c, unit, fmt)
    assert np.array_equal(fast, slow)


@numba
@pytest.mark.parametrize(("accumulator", "fmt", "a", "b", "c"), [
    ("bf16", "e3m4", 1 + 2.0**-4, 1 + 2.0**-4, 2.0**-30), ("e8m13", "e4m3fn", 2.0**-9, 256.0, 2.0**-15 + 2.0**-28),
    ("e8m13", "e4m3fn", -1.0, 1.0, 2.0**-15 * (1 + 2.0**-13)), ("tf32", "e4m3fn", -(2.0**-9), 2.0**-9, 2.0**-30 * (1 + 2.0**-10)),
])  # fmt: skip
def test_what_leaves_the_word_decides_ties(accumulator, fmt, a, b, c):
    """A product that is a tie by itself, small products with leading zeros, powers of two of the opposite sign."""
    unit = nf.DotUnit(inputs=(fmt,), accumulator=accumulator)
    x, y = (np.asarray(nf.encode(np.full((2, 1), v), fmt)) for v in (a, b))
    fast, slow = both(x, y.T, np.full((2, 2), c), unit, fmt)
    assert np.array_equal(fast, slow)


@numba
def test_a_sticky_bit_lies_below_the_half():
    unit = nf.DotUnit(inputs=("float16",), kind="aligned", length=16, fraction=25, zero="positive")
    a = np.zeros((1, 16), np.float32)
    a[0, :9], b = [2.0**13] * 8 + [33.0], np.zeros((16, 1), np.float32)
    b[:9, 0] = [2.0**12] * 8 + [1.0]
    fast, slow = both(a, b, None, unit, None)
    assert np.array_equal(fast, slow)
    assert fast.view(np.float32)[0, 0] == 268435488.0


@numba
@pytest.mark.parametrize("unit", [
    nf.DotUnit(inputs=("int8",), accumulator="e8m13"), nf.DotUnit(inputs=("int8",), kind="aligned", fraction=20, zero="positive"),
    nf.DotUnit(inputs=("e4m3fn",), accumulator="e8m14"), nf.DotUnit(inputs=("float16",), accumulator="e8m13"),
    nf.DotUnit(inputs=("e5m2",), accumulator="e5m10"), nf.DotUnit(inputs=("e4m3fn",), accumulator="e5m10", rounding="toward_zero"),
])  # fmt: skip
def test_chains_that_the_loop_cannot_hold_go_to_the_engine(unit):
    a = np.ones((2, 4), np.float32)
    with mock.patch.object(compiled, "SMALL", 0), mock.patch.object(unit_compiled, "product", side_effect=AssertionError):
        assert nf.matmul(a, a.T, unit=unit).tolist() == [[4.0, 4.0], [4.0, 4.0]]
