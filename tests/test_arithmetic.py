"""numfmt.arithmetic against the oracle of spec/arithmetic.py, which computes with fractions and rounds by comparing."""

import numpy as np
import pytest

import numfmt as nf
from numfmt import arithmetic
from numfmt.named import scalar_formats
from spec import oracle
from tests.arithmetic_support import (
    ARITHMETIC,
    COMPARISONS,
    FOUR,
    INTEGERS,
    ORDERS,
    all_pairs,
    assert_same,
    check,
    check_rows,
    compared,
    judge_of,
    stratified,
)  # fmt: skip
from tests.support import DETERMINISTIC, mostly_nightly

UNARY = ["sqrt", "log_b", "next_up", "next_down", "round_to_integral"]
ODD = [
    "e8m0", "e4m3fnuz", "e2m1", "e2m3", "e3m2", "binary8p3se", "binary8p4sf", "binary8p1ue", "ue5m3", "hif4_scale_e6m2",
    "cfloat8_1_4_3", "e3m0", "e1m2", "float(e=4, m=3, subnormals=none)", "float(e=3, m=2, specials=f, subnormals=none)",
    "e4m3b-20fn", "e2m5b60",
]  # fmt: skip
EVERY_DAY = ["e8m0", "e4m3fnuz", "e2m1", "binary8p3se", "ue5m3", "cfloat8_1_4_3", "float(e=3, m=2, specials=f, subnormals=none)"]
SMALL = [
    name for name in scalar_formats() if isinstance(f := nf.get_format(name), nf.FloatFormat) and f.bits <= 8
] + ["binary8p3se", "binary8p4sf", "binary8p1ue", "binary8p2sf", "binary6p3se", "binary8p8uf"]  # fmt: skip
WIDE = ["float32", "float64", "tf32", "pxr24", "e5m7", "e11m20", "e8m40", "e5m58", "e15m48", "binary16p8se", "fp16_alt"]


def some_pairs(name, count=250):
    """All pairs of codes of up to 5 bits; of wider ones all pairs of corners, and others at random."""
    bits, rng = nf.get_format(name).bits, np.random.default_rng(7)
    if bits <= 5:
        return all_pairs(bits)
    half = 2 ** (bits - 1)
    picked = [0, 1, half, half + 1, half - 1, 2 * half - 1, half - 2, 2 * half - 2]
    corners = np.meshgrid(np.array(picked, np.uint64), np.array(picked, np.uint64))
    return [np.concatenate([c, rng.integers(0, 2**bits, count, dtype=np.uint64)], axis=None) for c in corners]


# ---- formats of up to 8 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [*ARITHMETIC, *ORDERS])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_all_pairs_give_the_oracle_s_results_and_flags(name, operation):
    check(operation, all_pairs(8), name, modes=[("ties_to_even", None)] if operation in ORDERS else None)


def check_comparison(operation, columns, name):
    got = arithmetic.compute(operation, columns, name)
    assert got[0].dtype == bool
    assert_same(got, compared(operation, columns, judge_of(name)), columns, f"{operation} {name}")


@pytest.mark.parametrize("operation", COMPARISONS)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_all_pairs_compare_as_the_oracle_s(name, operation):
    check_comparison(operation, all_pairs(8), name)


@pytest.mark.parametrize("operation", COMPARISONS)
@pytest.mark.parametrize("name", [*ODD, "float16", "bfloat16", "float32", "float64", "e15m48"])
def test_pairs_compare_as_the_oracle_s(name, operation):
    small = nf.get_format(name).bits <= 8
    check_comparison(operation, some_pairs(name) if small else stratified(name, 2, 500, seed=1), name)


@pytest.mark.parametrize("operation", [*ARITHMETIC, *ORDERS])
@pytest.mark.parametrize("name", mostly_nightly(ODD, EVERY_DAY))
def test_odd_formats_give_the_oracle_s_results_and_flags(name, operation):
    modes = [("ties_to_even", None)] if operation in ORDERS else None
    check(operation, some_pairs(name), name, modes=modes)


@pytest.mark.nightly
@pytest.mark.parametrize("operation", [*ARITHMETIC, *ORDERS])
@pytest.mark.parametrize("name", SMALL)
def test_all_pairs_of_every_small_format_give_the_oracle_s(name, operation):
    modes = [("ties_to_even", None)] if operation in ORDERS else None
    check(operation, all_pairs(nf.get_format(name).bits), name, modes=modes, tininess=("after", "before"))


@pytest.mark.nightly
@pytest.mark.parametrize("operation", COMPARISONS)
@pytest.mark.parametrize("name", SMALL)
def test_all_pairs_of_every_small_format_compare_as_the_oracle_s(name, operation):
    check_comparison(operation, all_pairs(nf.get_format(name).bits), name)


def stratified_triples(name, count):
    if nf.get_format(name).bits > 8:
        return stratified(name, 3, count, seed=2)
    rng, bits = np.random.default_rng(5), nf.get_format(name).bits
    special = np.array([0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2**bits - 2], np.uint64)
    corners = [c.reshape(-1) for c in np.meshgrid(special, special, special)]
    codes = [rng.integers(0, 2**bits, count, dtype=np.uint64) for _ in range(3)]
    # a · b + c with c next to -a · b: what is left of the product must come through.
    product = arithmetic.mul(codes[0], codes[1], name)
    third = rng.random(count) < 0.4
    flipped = (product.astype(np.uint64) ^ np.uint64(2 ** (bits - 1))) + rng.integers(0, 2, count).astype(np.uint64)
    codes[2] = np.where(third, flipped % np.uint64(2**bits), codes[2])
    return [np.concatenate(pair) for pair in zip(codes, corners, strict=True)]


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", *ODD])
def test_fma_gives_the_oracle_s_results_and_flags(name):
    check("fma", stratified_triples(name, 1500 if name in ("e4m3fn", "e5m2") else 400), name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SMALL)
def test_fma_of_many_triples_gives_the_oracle_s(name):
    check("fma", stratified_triples(name, 10_000), name)


# ---- one operand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", UNARY)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", *ODD])
def test_all_codes_give_the_oracle_s_results_and_flags(name, operation):
    codes = [np.arange(2 ** nf.get_format(name).bits, dtype=np.uint64)]
    modes = DETERMINISTIC if name in ("e4m3fn", "e5m2") else FOUR
    for rounding in ["ties_to_even"] if operation.startswith("next") else modes:
        check_rows(operation, codes, name, rounding=rounding)
    if operation == "round_to_integral":
        check_rows(operation, codes, name, exact=True)


def sixteen(name, count=240):
    return [np.unique(np.concatenate([*stratified(name, 2, count // 2, seed=9), [0, 2**15]])).astype(np.uint64)]


@pytest.mark.parametrize("operation", UNARY)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bit_codes_give_the_oracle_s_results_and_flags(name, operation):
    for rounding in ["ties_to_even"] if operation.startswith("next") else DETERMINISTIC:
        check_rows(operation, sixteen(name), name, rounding=rounding)
    if operation == "round_to_integral":
        check_rows(operation, sixteen(name), name, rounding="toward_negative", exact=True)


@pytest.mark.nightly
@pytest.mark.parametrize("operation", UNARY)
@pytest.mark.parametrize("name", ["float16", "bfloat16", "dlfloat16", "cfloat16_shp"])
def test_all_sixteen_bit_codes_give_the_oracle_s(name, operation):
    modes = DETERMINISTIC if name == "float16" else FOUR
    for rounding in ["ties_to_even"] if operation.startswith("next") else modes:
        check_rows(operation, [np.arange(2**16, dtype=np.uint64)], name, rounding=rounding)


@pytest.mark.parametrize("to", ["e4m3fn", "e5m2", "e4m3fnuz", "e2m1", "e8m0", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_converted_codes_are_the_oracle_s(name, to):
    check("convert", sixteen(name), name, to=to, tininess=("after", "before"))


@pytest.mark.nightly
@pytest.mark.parametrize("to", ["e4m3fn", "e5m2", "float32"])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_converted_codes_are_the_oracle_s(name, to):
    check("convert", [np.arange(2**16, dtype=np.uint64)], name, to=to, tininess=("after", "before"))


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e8m0", "float16", "bfloat16", "float32", "float64"])
def test_integers_of_codes_are_the_oracle_s(name, integer):
    columns = [np.arange(256, dtype=np.uint64)] if nf.get_format(name).bits == 8 else near_integers(name)
    for rounding in DETERMINISTIC:
        check_rows("to_integer", columns, name, integer=integer, rounding=rounding, exact=rounding != "ties_to_even")


def near_integers(name):
    """Codes of small numbers, and those beside the ends of all integer types."""
    powers = [2.0**k for k in (7, 8, 15, 16, 31, 32, 63, 64)]
    numbers = [0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 3.5, 126.5, 127.5, 254.5, 255.5, *powers, *(p - 0.5 for p in powers[:6])]
    codes = nf.encode(np.array([*numbers, *(-x for x in numbers)]), name, rounding="toward_zero").astype(np.uint64)
    fmt = nf.get_format(name)
    specials = np.array([0, 1, fmt.max_code, fmt.max_code + 1, fmt.max_code + 2, fmt.magnitude_mask], np.uint64)
    specials = np.concatenate([specials, specials | np.uint64(2 ** (fmt.bits - 1))])
    return [np.unique(np.concatenate([codes, codes + np.uint64(1), codes - np.uint64(1), specials]))]


@pytest.mark.nightly
@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_integers_of_all_codes_are_the_oracle_s(name, integer):
    for rounding in FOUR:
        check_rows("to_integer", [np.arange(2**16, dtype=np.uint64)], name, integer=integer, rounding=rounding)


@pytest.mark.parametrize("platform", ["riscv", "x86.sse", "arm"])
@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_integers_out_of_range_are_the_platform_s(name, integer, platform):
    check_rows("to_integer", near_integers(name), name, integer=integer, platform=platform, rounding="toward_zero")


@pytest.mark.parametrize(
    "name", ["e4m3fn", "e5m2", "e2m1", "e8m0", "ue5m3", "float16", "bfloat16", "float32", "float64"]
)
def test_codes_of_integers_are_the_oracle_s(name):
    numbers = [2**k + d for k in (0, 1, 2, 4, 8, 9, 11, 15, 16, 24, 25, 31, 52, 53, 54, 62) for d in (-1, 0, 1)]
    signed = np.array([*numbers, *(-n for n in numbers), 0, -(2**63), 2**63 - 1], np.int64)
    unsigned = np.array([2**64 - 1, 2**63 + 1, 2**63 + 2**38 + 1, 2**64 - 2**39], np.uint64)
    for column in (signed, unsigned):
        for rounding in DETERMINISTIC:
            check_rows("from_integer", [column], name, rounding=rounding)
    check_rows("from_integer", [signed], name, overflow="saturate")


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e8m0", "ue5m3", "e4m3fnuz", "float16", "float32", "float64"])
def test_scaled_codes_are_the_oracle_s(name):
    rng, bits = np.random.default_rng(8), nf.get_format(name).bits
    codes = stratified(name, 2, 300, seed=4)[0] if bits > 8 else np.arange(256, dtype=np.uint64)
    reach = 2 ** (nf.get_format(name).exponent_bits + 1) + 60
    n = np.concatenate([rng.integers(-12, 13, codes.size), rng.integers(-reach, reach, codes.size)])
    for rounding in DETERMINISTIC:
        check_rows("scale_b", [np.tile(codes, 2), n], name, rounding=rounding)
    huge = np.array([2**31, -(2**31), 2**62, -(2**62)], np.int64)
    results = arithmetic.scale_b(np.uint64(codes[5]), huge, name)
    assert results.tolist() == arithmetic.scale_b(codes[5], np.array([9000, -9000] * 2), name).tolist()


# ---- wider formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [*ARITHMETIC, "fma", *ORDERS])
@pytest.mark.parametrize("name", ["float16", "bfloat16", *WIDE])
def test_stratified_operands_give_the_oracle_s_results_and_flags(name, operation):
    count = {"float32": 400, "float64": 400, "e15m48": 50}.get(name, 120)
    if operation in ORDERS:
        check(operation, stratified(name, 2, count, seed=6), name, modes=[("ties_to_even", None)])
        return
    columns = stratified(name, 3 if operation == "fma" else 2, count, seed=6)
    check(operation, columns, name, modes=[(rounding, None) for rounding in DETERMINISTIC])


@pytest.mark.nightly
@pytest.mark.parametrize("operation", [*ARITHMETIC, "fma"])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "dlfloat16", "cfloat16_uhp", *WIDE])
def test_many_stratified_operands_give_the_oracle_s(name, operation):
    columns = stratified(name, 3 if operation == "fma" else 2, 5000, seed=16)
    check(operation, columns, name, tininess=("after", "before"))


@pytest.mark.parametrize("operation", UNARY)
@pytest.mark.parametrize("name", WIDE)
def test_stratified_codes_give_the_oracle_s_results_and_flags(name, operation):
    columns = [np.unique(np.concatenate(stratified(name, 2, 15 if name == "e15m48" else 60, seed=7)))]
    for rounding in ["ties_to_even"] if operation.startswith("next") else DETERMINISTIC:
        check_rows(operation, columns, name, rounding=rounding)


@pytest.mark.parametrize("name", ["float32", "float64", "e8m40"])
def test_square_roots_next_to_ties_are_the_oracle_s(name):
    """(q + 1/2)² ± 1 ulp and q² ± 1 ulp: roots beside midpoints and beside values."""
    fmt, rng = nf.get_format(name), np.random.default_rng(12)
    p = fmt.precision
    roots = [int(r) for r in rng.integers(2 ** (p - 1), 2**p, 40)] + [
        2**p - 1,
        2**p - 2,
        2 ** (p - 1),
        2 ** (p - 1) + 1,
    ]
    squares = [(2 * r + half) ** 2 for r in roots for half in (0, 1)]
    codes = {
        code + d for s in squares for code in [oracle.encode(s, judge_of(name), "toward_zero")] for d in (-1, 0, 1)
    }
    columns = [np.array(sorted(codes), np.uint64)]
    for rounding in DETERMINISTIC:
        check_rows("sqrt", columns, name, rounding=rounding)
