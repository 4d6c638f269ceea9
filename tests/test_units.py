"""Dot-product units: every named one and custom ones with every parameter against spec.units; facts; refusals."""

import re
from dataclasses import replace

import numpy as np
import pytest

import numfmt as nf
from numfmt.units import DotUnit, Evidence
from spec import units as judge
from tests.support import mostly_nightly
from tests.units_custom import FIELDS, custom_unit
from tests.units_support import CATEGORIES, Case, assert_judged, carried, cases, computed, judged, pattern, rows, run

EVERY_DAY = 5  # products for each length and category
NIGHTLY = 120


def twins():
    """Names of units that are another one of the list, but for where that is known from."""
    seen, found = set(), []
    for name in nf.list_units():
        unit = replace(nf.get_unit(name), evidence=Evidence("E", ""))
        (found.append if unit in seen else seen.add)(name if unit in seen else unit)
    return found


NAMED = mostly_nightly(nf.list_units(), set(nf.list_units()) - set(twins()))


# ---- against the oracle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_named_units_are_the_oracle_s(name):
    unit = nf.get_unit(name)
    for case in cases(unit, EVERY_DAY):
        assert_judged(unit, case, name)


@pytest.mark.parametrize("name", FIELDS)
def test_custom_units_are_the_oracle_s(name):
    unit = custom_unit(name)
    for case in cases(unit, EVERY_DAY, least=1):
        assert_judged(unit, case, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*nf.list_units(), *FIELDS])
def test_more_operands_give_the_oracle_s(name):
    unit = custom_unit(name) if name in FIELDS else nf.get_unit(name)
    for seed in (1, 2):
        for case in cases(unit, NIGHTLY, seed):
            assert_judged(unit, case, name)


def test_without_products_the_oracle_rounds_the_accumulator():
    """A step of none; numfmt takes at least one product."""
    narrow, even = custom_unit("addend_format wider"), custom_unit("late, even and odd")
    assert judge.dot(narrow, [], [], 0x3F800001) == 0x3C00
    assert judge.dot(even, [], [], 0x80000000) == 0  # -0 and the sum of nothing, which is +0
    assert judge.dot(custom_unit("tree"), [], [], 0x80000000) == 0x80000000
    assert judge.dot(nf.get_unit("h100.e4m3"), [], [], 0x3F800001) == 0x3F800000 >> 10
    with pytest.raises(ValueError, match="K = 0"):
        nf.dot(np.zeros((1, 0)), np.zeros((1, 0)), unit="h100.e4m3")


def test_categories_meet_every_kind_of_result():
    """The operands reach zeros of both signs, subnormals, the largest finite numbers, infinities and NaN."""
    unit, found = custom_unit("overflow infinity"), set()
    for case in cases(unit, 40):
        found |= set(judged(unit, case))
    fmt = judge.format_of(unit.accumulator)
    top, sign = fmt.infinity_rank, 2 ** (fmt.bits - 1)
    assert {0, sign, 1, sign + 1, top - 1, top, sign + top, fmt.nan_code} <= found
    assert len(found & set(range(fmt.steps))) > fmt.steps // 2
    assert len(CATEGORIES) == 12


# ---- facts ---------------------------------------------------------------------------------------------------------


def both(unit, a, b, c=None, **options):
    """numfmt's result for one row of float operands, after the oracle has given the same."""
    unit = nf.get_unit(unit)
    formats = options.pop("formats", (str(unit.inputs[0]),) * 2)
    codes = [np.atleast_2d(nf.encode(np.float32(x), fmt)) for x, fmt in zip((a, b), formats, strict=True)]
    start = unit.promoted if unit.promote_every else unit.c_format
    case = Case(*codes, np.atleast_1d(nf.encode(np.float32(0 if c is None else c), start)), formats)
    assert_judged(unit, case)
    return computed(unit, case)[0]


ONES = np.ones(64_000, np.float32)


def test_ones_stop_at_16384_on_hopper():
    """Each of 32 ones is cut off apart from the others, below 2^(14 - 13)."""
    assert nf.dot(ONES[:17_000], ONES[:17_000], unit="h100.e4m3") == 16384
    assert both("h100.e4m3", ONES[:64], ONES[:64], 16352) == 16384


def test_ones_are_all_counted_with_promotion():
    assert nf.dot(ONES[:17_000], ONES[:17_000], unit="h100.e4m3.promote128") == 17000
    assert nf.get_unit("h100.e4m3").promotion(128) == replace(nf.get_unit("h100.e4m3"), promote_every=128)
    assert both("h100.e4m3.promote128", ONES[:256], ONES[:256], 63744) == 64000


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "total"), [("h100.e4m3", 16384), ("h100.e4m3.promote128", 64000)])
def test_64000_ones(name, total):
    """In the documentation of numfmt.dot too."""
    assert both(name, ONES, ONES) == total


def test_a_block_of_32_ones_vanishes_at_16384_with_13_bits_and_not_with_25():
    assert both("h100.e4m3", np.ones(32), np.ones(32), 16384) == 16384
    assert both("b200.e4m3", np.ones(32), np.ones(32), 16384) == 16416


@pytest.mark.parametrize(("name", "limit"), [("fp16", 2**11), ("bf16", 2**8), ("kahan.bf16", None)])
def test_plain_accumulators_stop_at_two_to_the_precision(name, limit):
    count = (limit or 2**8) + 100
    assert nf.dot(ONES[:count], ONES[:count], unit=name) == (limit or count)


def test_float32_stops_at_16777216():
    assert both("fp32", [1, 1, 1], [1, 1, 1], 2.0**24 - 1) == 2**24


ALIGNED = [name for name in nf.list_units() if nf.get_unit(name).kind.value == "aligned" and not nf.get_unit(name).scales]


@pytest.mark.parametrize("name", ALIGNED)
def test_a_term_is_kept_at_the_last_bit_and_lost_below_it(name):
    """Beside a product p and its opposite in the same step, so that only the alignment can lose it."""
    unit = replace(nf.get_unit(name), promote_every=None)
    fmt, steps = unit.inputs[0], 2 if unit.order.value == "even_odd" else 1
    for digit, expected in ((unit.fraction, True), (unit.fraction + 1, False)):
        large = min(judge.floor_log2(fmt.max), (digit + 1) // 2)
        small = digit - 2 * large  # 2^(2 large) aligns; the term is 2^-small
        a, b = np.zeros(5 if steps == 2 else 3), np.zeros(5 if steps == 2 else 3)
        if unit.length < a.size or -small < 2 * judge.floor_log2(fmt.min_subnormal or fmt.min_normal):
            pytest.skip(f"a step of {unit.length} products of {fmt} cannot show it")
        a[::steps], b[::steps] = [2.0**large, 2.0**large, 2.0 ** -(small // 2)], [2.0**large, -(2.0**large), 2.0 ** -(small - small // 2)]
        assert (both(unit, a, b) != 0) == expected, (name, digit)


@pytest.mark.parametrize("name", ["v100.fp16", "a100.bf16", "h100.e4m3", "h100.fp16.fp16out", "mi300.fp16"])
def test_products_set_the_exponent_as_they_are(name):
    """1.5 * 1.5 = 2.25 counts as 2^0 times a significand: 1 * 2^-F beside it is kept, as beside 1 * 1."""
    unit = nf.get_unit(name)
    last = unit.fraction if unit.fraction < 20 else 20
    small = 2.0 ** -(last // 2), 2.0 ** -(last - last // 2)
    unit = replace(unit, fraction=last)
    for large in (1.0, 1.5):
        a, b = np.array([large, -large, small[0], 0]), np.array([large, large, small[1], 0])
        assert both(unit, a, b) == 2.0**-last


@pytest.mark.parametrize("name", ["mi300.fp16", "mi300.bf16", "mi300.xf32"])
def test_cdna3_keeps_31_bits_of_the_sum(name):
    """Beside 1 and half of its last digit 2^-31 decides, and 2^-32 is not seen."""
    for last, expected in ((2.0**-31, 1 + 2.0**-23), (2.0**-32, 1)):
        assert both(name, [2.0**-12, 2.0**-14], [2.0**-12, last * 2**14], 1) == expected


@pytest.mark.parametrize("name", ["mi300.e4m3fnuz", "mi300.e5m2fnuz"])
def test_cdna3_floors_the_accumulator_as_far_as_it_reaches(name):
    for c, expected in ((-(2.0**-25), 1 - 2.0**-24), (-(2.0**-26), 1)):
        assert both(name, [1], [1], c) == expected


@pytest.mark.parametrize("name", ["a100.bf16", "h100.e4m3", "b200.fp16", "mi300.bf16", "mi100.fp16"])
def test_order_inside_a_step_does_not_matter_and_across_steps_does(name):
    unit, rng = nf.get_unit(name), np.random.default_rng(3)
    x = nf.quantize(rng.standard_normal((64, 2 * unit.length)).astype(np.float32), unit.inputs[0])
    y = nf.quantize(rng.standard_normal(x.shape).astype(np.float32) * 8, unit.inputs[0])
    inside = np.concatenate([rng.permutation(unit.length), unit.length + rng.permutation(unit.length)])
    across = rng.permutation(2 * unit.length)
    plain = nf.dot(x, y, unit=unit)
    assert np.array_equal(nf.dot(x[:, inside], y[:, inside], unit=unit), plain)
    assert not np.array_equal(nf.dot(x[:, across], y[:, across], unit=unit), plain)


@pytest.mark.parametrize("name", ["a100.bf16", "h100.e4m3", "h100.fp16.fp16out", "mi300.bf16", "mi300.e5m2fnuz", "x86.vdpbf16ps"])
@pytest.mark.parametrize("c", [0.0, 1.5])
def test_nan_in_any_lane_is_nan(name, c):
    unit = nf.get_unit(name)
    for lane in range(unit.length + 1):
        a = np.ones((2, unit.length + 1), np.float32)
        a[0, lane] = np.nan
        assert np.isnan(nf.dot(a, np.ones_like(a), c, unit=unit)).tolist() == [True, False]
        assert np.isnan(nf.dot(np.ones_like(a), a, c, unit=unit)).tolist() == [True, False]


@pytest.mark.parametrize("name", ["v100.fp16", "a100.bf16", "h100.e4m3", "h100.e4m3.fp16out", "b200.e5m2", "mi300.bf16"])
def test_zeros_at_the_end_of_a_step_change_nothing(name):
    unit, rng = nf.get_unit(name), np.random.default_rng(5)
    for scale in (1.0, 2.0**-12):
        x, y = (nf.quantize((rng.standard_normal((50, unit.length - 1)) * scale).astype(np.float32), unit.inputs[0]) for _ in "ab")
        c = nf.quantize(rng.standard_normal(50).astype(np.float32), unit.c_format)
        padded = [np.pad(z, ((0, 0), (0, 1))) for z in (x, y)]
        assert np.array_equal(nf.dot(x, y, c, unit=unit).view(np.uint32), nf.dot(*padded, c, unit=unit).view(np.uint32))


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        ([0x7FC1, 0x3F80], [0x3F80, 0x3F80], 0, 0x7FC10000),  # NaN of the even pair
        ([0x3F80, 0x7FC1], [0x3F80, 0x3F80], 0, 0x7FC10000),  # of the odd pair
        ([0x7FC1, 0x7FC2], [0x7FC3, 0x7FC4], 0x7FC00005, 0x7FC10000),  # even before odd, a before b, c last
        ([0x3F80, 0x7FC2], [0x7FC3, 0x7FC4], 0x7FC00005, 0x7FC30000),
        ([0x3F80, 0x3F80], [0x3F80, 0x7FC4], 0x7FC00005, 0x7FC40000),
        ([0x3F80, 0x3F80], [0x3F80, 0x3F80], 0x7F800001, 0x7FC00001),  # quieted
        ([0x0000, 0x3F80], [0x7F80, 0x3F80], 0, 0xFFC00000),  # 0 * infinity
        ([0x0000, 0x7FC1], [0x7F80, 0x3F80], 0, 0x7FC10000),  # and a NaN of the odd pair
        ([0x3F80, 0x3F80], [0x7F80, 0xFF80], 0, 0xFFC00000),  # infinity - infinity
        ([0x8000, 0x8000], [0x3F80, 0x3F80], 0x80000000, 0x80000000),  # -0 only where all are
        ([0x0000, 0x0000], [0x3F80, 0x3F80], 0x80000000, 0x00000000),
        ([0x7F7F, 0x0000], [0x7F7F, 0x0000], 0, 0x7F800000),
        ([0x0080, 0x0000], [0x3F00, 0x0000], 0, 0x00000000),  # a product that is subnormal
        ([0x007F, 0x0000], [0x7F00, 0x0000], 0, 0x00000000),  # an operand that is
        ([0x0000, 0x0000], [0x3F80, 0x3F80], 0x007FFFFF, 0x00000000),
    ],
)
def test_vdpbf16ps_is_what_was_measured(a, b, c, expected):
    unit = nf.get_unit("x86.vdpbf16ps")
    case = Case(np.array([a], np.uint64), np.array([b], np.uint64), np.array([c], np.uint64), ("bfloat16", "bfloat16"))
    assert judged(unit, case) == [expected]
    assert computed(unit, case).view(np.uint32).tolist() == [expected]


@pytest.mark.parametrize("name", ["x86.vpdpbusd", "x86.vpdpbusds"])
def test_integers_wrap_or_saturate_once_a_step(name):
    """The sum leaves the range inside the first step, and comes back in the second one of the wrapping instruction."""
    a, b = np.full((1, 8), 255, np.uint8), np.array([[127] * 4 + [-128] * 4], np.int8).view(np.uint8)
    first, second = 255 * 127 * 4, 255 * -128 * 4
    for c, k in ((2**31 - 1, 4), (2**31 - 1, 8), (2**31 - 1 - first, 4)):
        exact = c + first + (second if k == 8 else 0)
        saturated = min(c + first, 2**31 - 1) + (second if k == 8 else 0)
        expected = saturated if name == "x86.vpdpbusds" else (exact + 2**31) % 2**32 - 2**31
        found = nf.dot(a[:, :k], b[:, :k], np.array([c], np.int32), unit=name, formats=("uint8", "int8"))
        assert found.tolist() == [expected]


# ---- traces ---------------------------------------------------------------------------------------------------------

TRACED = [
    "h100.e4m3", "v100.fp16", "mi250.fp16", "fp16", "exact", "x86.vdpbf16ps", "late, fraction", "late, two roundings", "zero_exponent high",
    "alignment ties_to_even", "group", "scales", "length None", "chain, even and odd", "kahan.bf16",
]  # fmt: skip


@pytest.mark.parametrize("name", TRACED)
def test_traces_are_the_oracle_s(name):
    unit = custom_unit(name) if name in FIELDS else nf.get_unit(name)
    for case in cases(unit, EVERY_DAY, seed=2):
        _, trace = run(unit, case, trace=True)
        for row, operands in enumerate(rows(case)):
            steps = []
            judge.dot(unit, *operands[:3], case.formats, operands[3], trace=steps)
            check_trace(unit, trace, row, steps, f"{name} {case.categories[row]}")


def check_trace(unit, trace, row, steps, what):
    """Accumulators of every step; exponents and lost digits while these are numbers."""
    dtype = trace.accumulator.dtype
    expected = [pattern(np.array(carried(s.accumulator, unit.accumulator, dtype), np.uint64).view(dtype), "") for s in steps]
    assert [pattern(x, "") for x in trace.accumulator[row]] == expected, what
    if unit.kind.value != "aligned" or not np.isfinite(trace.accumulator[row]).all():
        return
    assert trace.exponent[row].tolist() == [step.exponent or 0 for step in steps], what
    assert trace.lost[row].tolist() == [lost for step in steps for lost in step.lost], what
    assert trace.swamped[row].tolist() == [swamped for step in steps for swamped in step.swamped], what


# ---- refusals -------------------------------------------------------------------------------------------------------

PLAIN = {"inputs": ("e4m3fn",)}
ALIGN = {**PLAIN, "kind": "aligned", "fraction": 10}
REFUSALS = [
    ({"inputs": ()}, "no input format is given; name at least one, such as inputs=('e4m3fn',)"),
    ({"inputs": "nf4"}, "nf4 is given as an input; units multiply float and fixed-point formats"),
    ({**ALIGN, "scales": "int8", "scale_blocks": (4,)}, "int8 is given as a scale; scales are floats without infinity, such as e8m0 and ue4m3"),
    ({**ALIGN, "scales": "e8m0"}, "scales and scale_blocks are given together, or neither"),
    ({**ALIGN, "scale_blocks": (32,)}, "scales and scale_blocks are given together, or neither"),
    ({**PLAIN, "length": 0}, "length=0 is given; it is at least 1"),
    ({**PLAIN, "promote_every": 0}, "promote_every=0 is given; it is at least 1"),
    ({**ALIGN, "group": -1}, "group=-1 is given; it is at least 1"),
    ({**PLAIN, "kind": "aligned"}, "fraction is given for kind='aligned', and for no other"),
    ({**PLAIN, "fraction": 10}, "fraction is given for kind='aligned', and for no other"),
    ({**PLAIN, "kind": "aligned", "fraction": 53}, "fraction=53 is given; it is 0 to 52"),
    ({**PLAIN, "kind": "aligned", "fraction": -1}, "fraction=-1 is given; it is 0 to 52"),
    ({**PLAIN, "alignment": "to_odd"}, "alignment=to_odd is given; it is read where kind='aligned'"),
    ({**PLAIN, "zero_exponent": -133}, "zero_exponent=-133 is given; it is read where kind='aligned'"),
    ({**PLAIN, "addend": "late", "late_fraction": 31}, "late_fraction=31 is given; it is read where kind='aligned'"),
    ({**PLAIN, "addend": "late", "late_reach": 3}, "late_reach=3 is given; it is read where kind='aligned'"),
    ({**PLAIN, "group": 4}, "group=4 is given; it is read where kind='aligned'"),
    ({**ALIGN, "alignment": "toward_positive"}, "alignment=toward_positive is given; it is toward_zero, toward_negative, ties_to_even or to_odd"),
    ({**PLAIN, "late_rounding": "to_odd"}, "late_rounding=to_odd is given; it is read where addend='late'"),
    ({**ALIGN, "late_fraction": 31}, "late_fraction=31 is given; it is read where addend='late'"),
    ({**PLAIN, "addend": "middle"}, "addend='middle' is given; it is 'early' or 'late'"),
    ({**PLAIN, "accumulator": "int32"}, "accumulator=int32 is given; fixed-point accumulators go with kind='fixed'"),
    ({**PLAIN, "kind": "fixed"}, "accumulator=float32 is given; fixed-point accumulators go with kind='fixed'"),
    ({**PLAIN, "kind": "tree", "addend": "late"}, "kind='tree' is given without product; a tree adds rounded products"),
    ({**PLAIN, "kind": "exact", "product": "float16"}, "product=float16 is given; it is read where kind='chain' or 'tree'"),
    ({**PLAIN, "kind": "tree", "product": "float32"}, "kind='tree' is given with addend='early'; a tree adds the accumulator late"),
    ({**PLAIN, "kind": "exact", "order": "odd_first"}, "order=odd_first is given; it is read where kind='chain', or 'aligned' with a late addend"),
    ({**ALIGN, "order": "even_odd"}, "order=even_odd is given; it is read where kind='chain', or 'aligned' with a late addend"),
    ({**PLAIN, "late_rounding": "stochastic", "addend": "late"}, "late_rounding=stochastic is given with rounding=ties_to_even; both are stochastic, or none"),
    ({"inputs": "int8", "kind": "fixed", "accumulator": "int32", "promote_every": 4}, "promote_every=4 is given; it is read where accumulators are floats, not where kind='fixed'"),
    ({**PLAIN, "product_limit": 128}, "product_limit=128 is given; it is read where kind='aligned' or 'exact'"),
    ({**PLAIN, "scales": "e8m0", "scale_blocks": (4,)}, "it is read where kind='aligned', 'exact' or 'fixed'"),
    ({**PLAIN, "order": "even_odd"}, "order='even_odd' is given with addend='early'; two sums need a late one"),
    ({**ALIGN, "length": 6, "group": 4}, "group=4 is given with length=6; a step holds whole groups"),
    ({**PLAIN, "kind": "kahan", "rounding": "stochastic"}, "rounding=stochastic is given; only chain, aligned and exact sums take it"),
    ({**PLAIN, "flush_inputs": True}, "flush_inputs=True is given; it is 'signed', 'positive' or None"),
    ({**PLAIN, "zero": "negative"}, "zero='negative' is given; it is 'positive' or 'ieee'"),
    ({**PLAIN, "evidence": Evidence("F", "nobody")}, "grade 'F' is given; it is one of A, B, C, D, E"),
    ({**PLAIN, "kind": "align"}, "unknown kind mode 'align'; nearest: aligned"),
    ({**PLAIN, "rounding": "nearest"}, "unknown rounding mode 'nearest'"),
    ({**PLAIN, "accumulator": "float33"}, "unknown format 'float33'; nearest: float32"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSALS)
def test_parameters_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DotUnit(**fields)


def test_refusals_are_one_sentence():
    for fields, _ in REFUSALS:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the messages are compared above
            DotUnit(**fields)
        assert "\n" not in str(caught.value)
        assert not str(caught.value).endswith(".")


def test_what_64_bits_do_not_hold_is_refused():
    wide = nf.DotUnit(inputs=("float64",), kind="aligned", fraction=20)
    with pytest.raises(ValueError, match="kind 'aligned', whose products have up to 57 digits; kind 'chain' takes them"):
        nf.dot([1.0, 2.0], [3.0, 4.0], unit=wide)
    long = nf.DotUnit(inputs=("e2m1",), kind="aligned", length=None, fraction=52)
    with pytest.raises(ValueError, match=r"a step of 1000 products of .* is given .* its sum takes more than 60 bits"):
        nf.dot(np.ones(1000), np.ones(1000), unit=long)
    integers = nf.DotUnit(inputs=("int8",), kind="aligned", length=8, fraction=52)
    with pytest.raises(ValueError, match=r"a step of 8 products of int8 and int8 is given .* keeps 52 bits"):
        nf.dot(np.ones(8), np.ones(8), unit=integers)
