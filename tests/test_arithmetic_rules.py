"""The rules of numfmt.arithmetic against the oracle: tininess, overflow, NaNs, random bits, fixed point; arrays and errors."""

import numpy as np
import pytest

import numfmt as nf
from numfmt import arithmetic
from spec import oracle
from spec.arithmetic import compute
from tests.arithmetic_support import (
    ARITHMETIC,
    FOUR,
    INTEGERS,
    ORDERS,
    assert_same,
    check,
    check_rows,
    each_row,
    stratified,
)
from tests.support import DETERMINISTIC

# ---- rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["add", "mul", "div", "fma"])
@pytest.mark.parametrize("name", ["e5m2", "e4m3fnuz", "binary8p3se", "float16", "float32", "float64"])
def test_tininess_is_decided_before_or_after_rounding(name, operation):
    count = 3 if operation == "fma" else 2
    columns = stratified(name, count, 150, seed=21)
    check(operation, columns, name, modes=[(r, None) for r in DETERMINISTIC], tininess=("before", "after"))


def test_tininess_makes_a_difference():
    # binary32: 2^-126 (1 - 2^-24) rounds to 2^-126, with an unlimited exponent too.
    a, b = 0x3F7FFFFF, 0x00800000  # (1 - 2^-24) 2^-126
    assert arithmetic.mul(a, b, "float32", return_flags=True, tininess="before") == (0x00800000, 3)
    assert arithmetic.mul(a, b, "float32", return_flags=True, tininess="after") == (0x00800000, 3)
    a, b = 0x3F800001, 0x007FFFFF  # (1 + 2^-23) (2^-126 - 2^-149), just below 2^-126 - 2^-172
    assert arithmetic.mul(a, b, "float32", return_flags=True, tininess="before") == (0x00800000, 3)
    assert arithmetic.mul(a, b, "float32", return_flags=True, tininess="after") == (0x00800000, 1)


@pytest.mark.parametrize("overflow", ["saturate", "propagate", "infinity", "nan"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e4m3fnuz", "binary8p3se", "ue5m3", "e8m0", "float16"])
def test_overflow_modes_are_the_oracle_s(name, overflow):
    columns = stratified(name, 2, 150, seed=22)
    for operation in ("add", "mul", "div"):
        check(operation, columns, name, modes=[(r, overflow) for r in DETERMINISTIC])


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("e4m3fn", "float32"), ("e4m3fn", "float16"), ("float16", "e4m3fn"), ("float32", "e5m2"), ("e5m2", "e8m0"),
        ("float64", "float32"), ("float32", "float64"), ("bfloat16", "e2m1"), ("e8m0", "float32"), ("e2m1", "ue5m3"),
        ("e4m3fn", "e3m0"), ("binary8p2se", "e4m0fn"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["add", "mul", "div", "sqrt", "fma"])
def test_results_go_to_another_format_in_one_rounding(operation, name, to):
    count = {"sqrt": 1, "fma": 3}.get(operation, 2)
    check(operation, stratified(name, count, 80, seed=23), name, to=to, modes=[(r, None) for r in DETERMINISTIC])


@pytest.mark.parametrize("operation", ["add", "mul", "div"])
def test_operands_have_formats_of_their_own(operation):
    columns = [stratified("e4m3fn", 2, 200, seed=24)[0], stratified("e5m2", 2, 200, seed=25)[1]]
    for rounding in FOUR:
        got = arithmetic.compute(operation, columns, ["e4m3fn", "e5m2"], to="float16", rounding=rounding)
        expected = each_row(
            columns, lambda row, r=rounding: compute(operation, row, ["e4m3fn", "e5m2"], to="float16", rounding=r)
        )
        assert_same(got, expected, columns, f"{operation} of e4m3fn and e5m2 {rounding}")


def special_codes(name):
    """Zeros, ones, infinities and NaNs of both kinds and signs."""
    fmt = nf.get_format(name)
    infinity, quiet = fmt.max_code + 1, 2 ** (fmt.trailing_bits - 1)
    nans = [infinity + payload for payload in sorted({1, quiet - 1, quiet, quiet + 1, 2 * quiet - 1} - {0})]
    magnitudes = {0, fmt.bias << fmt.trailing_bits, infinity, *nans}
    return np.array([m + s for m in sorted(magnitudes) for s in (0, 2 ** (fmt.bits - 1))], np.uint64)


@pytest.mark.parametrize("platform", [None, "riscv", "x86.sse", "arm", "nvidia"])
@pytest.mark.parametrize(
    "operation", [*ARITHMETIC, "sqrt", "fma", *ORDERS, "log_b", "next_up", "next_down", "round_to_integral"]
)
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_nans_are_the_platform_s(name, operation, platform):
    count = arithmetic.OPERATIONS[operation].operands
    codes = special_codes(name)
    columns = [c.reshape(-1) for c in np.meshgrid(*[codes[:: 1 if count < 3 else 2]] * count)]
    check_rows(operation, columns, name, platform=platform)


@pytest.mark.parametrize("platform", ["riscv", "x86.sse", "arm", "nvidia"])
@pytest.mark.parametrize("to", ["float16", "bfloat16", "float64", "float32"])
def test_converted_nans_are_the_platform_s(to, platform):
    check_rows("convert", [special_codes("float32")], "float32", to=to, platform=platform)


@pytest.mark.parametrize("rounding", ["stochastic_a", "stochastic_b", "stochastic_c"])
@pytest.mark.parametrize("operation", ["add", "mul", "div", "sqrt", "fma", "rem"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "float32"])
def test_every_random_number_rounds_as_the_oracle(name, operation, rounding):
    count = {"sqrt": 1, "fma": 3}.get(operation, 2)
    for bits, rows in ((1, 40), (3, 20)):
        columns = [np.repeat(c, 2**bits) for c in stratified(name, count, rows, seed=26)]
        numbers = np.tile(np.arange(2**bits, dtype=np.uint32), rows)
        got = arithmetic.compute(
            operation, columns, name, rounding=rounding, random_bits=numbers, random_bit_count=bits
        )

        def answer(row, n=bits):
            return compute(operation, row[:-1], name, rounding=rounding, random=row[-1], random_bit_count=n)

        rows_ = [*columns, numbers]
        assert_same(got, each_row(rows_, answer), rows_, f"{operation} {name} {rounding} of {bits} bits")


def test_stochastic_rounding_with_32_bits_is_the_oracle_s():
    columns = stratified("float16", 2, 200, seed=27)
    numbers = np.random.default_rng(3).integers(0, 2**32, columns[0].size, dtype=np.uint32)
    for operation in ("add", "mul", "div"):
        got = arithmetic.compute(operation, columns, "float16", to="e4m3fn", rounding="stochastic", random_bits=numbers)
        expected = each_row(
            [*columns, numbers],
            lambda row, op=operation: compute(
                op, row[:2], "float16", to="e4m3fn", rounding="stochastic", random=row[2], random_bit_count=32
            ),
        )
        assert_same(got, expected, [*columns, numbers], operation)


# ---- fixed point -------------------------------------------------------------------------------------------------

FIXED = {
    "int8": oracle.get("int8"), "uint8": oracle.get("uint8"), "q2.3": oracle.get("q2.3"), "uq2.4": oracle.get("uq2.4"),
    "fixed(bits=6, fraction=2, sign_magnitude=yes)": oracle.fixed(6, 2, encoding="sign_magnitude"), "s2f6": oracle.get("s2f6"),
    "q7.24": oracle.get("q7.24"), "uq16.16": oracle.get("uq16.16"), "int64": oracle.fixed(64, 0),
}  # fmt: skip
FIXED_MODES = [*DETERMINISTIC, "ties_to_positive", "ties_to_negative"]


def fixed_operands(bits, count):
    ends = [0, 1, 2, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2 ** (bits - 1) + 1, 2**bits - 1, 2**bits - 2]
    rng = np.random.default_rng(bits)
    codes = [*ends, *(int(rng.integers(0, 2**62)) % 2**bits for _ in range(5))]
    columns = [c.reshape(-1) for c in np.meshgrid(*[np.array(codes, np.uint64)] * count)]
    return columns if count == 2 else [c[rng.permutation(c.size)[:150]] for c in columns]


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "mac"])
@pytest.mark.parametrize("name", FIXED)
def test_fixed_point_results_and_flags_are_the_oracle_s(name, operation):
    judge = FIXED[name]
    columns = fixed_operands(judge.bits, 3 if operation == "mac" else 2)
    for rounding in FIXED_MODES:
        got = arithmetic.compute(operation, columns, name, rounding=rounding)
        expected = each_row(columns, lambda row, r=rounding: compute(operation, row, judge, rounding=r, overflow=None))
        assert_same(got, expected, columns, f"{operation} {name} {rounding}")


@pytest.mark.parametrize("overflow", ["saturate", "wrap", "saturate_zero", "symmetric", "wrap_sign_magnitude"])
@pytest.mark.parametrize("name", ["int8", "q2.3", "uint8"])
def test_fixed_point_overflows_as_the_oracle(name, overflow):
    judge = FIXED[name]
    if overflow in ("symmetric", "wrap_sign_magnitude") and not judge.signed:
        with pytest.raises(ValueError, match=r"symmetric|wrap_sign_magnitude"):
            arithmetic.add(1, 1, name, overflow=overflow)
        return
    for operation in ("add", "sub", "mul", "mac"):
        columns = fixed_operands(judge.bits, 3 if operation == "mac" else 2)
        got = arithmetic.compute(operation, columns, name, rounding="toward_negative", overflow=overflow)
        expected = each_row(
            columns,
            lambda row, op=operation: compute(op, row, judge, rounding="toward_negative", overflow=overflow),
        )
        assert_same(got, expected, columns, f"{operation} {name} {overflow}")


@pytest.mark.parametrize(("name", "to"), [("int8", "int32"), ("q2.3", "q3.4"), ("int8", "q2.3"), ("uint8", "int8")])
def test_fixed_point_products_go_to_another_format(name, to):
    columns = fixed_operands(FIXED[name].bits, 2)
    for operation in ("add", "sub", "mul"):
        got = arithmetic.compute(operation, columns, name, to=to)
        expected = each_row(columns, lambda row, op=operation: compute(op, row, name, to=to))
        assert_same(got, expected, columns, f"{operation} {name} -> {to}")


# ---- arrays ------------------------------------------------------------------------------------------------------


def test_operands_broadcast():
    a, b = np.arange(256, dtype=np.uint8)[:, None], np.arange(0, 256, 5, dtype=np.uint16)[None]
    table = arithmetic.add(a, b, "e4m3fn")
    assert table.shape == (256, 52)
    assert table.dtype == np.uint8
    assert table.tolist() == [[int(arithmetic.add(x, y, "e4m3fn")) for y in b[0, :4].tolist()] + row[4:] for x, row in
                              zip(range(256), table.tolist(), strict=True)]  # fmt: skip
    results, flags = arithmetic.fma(a, b, 0x38, "e4m3fn", return_flags=True)
    assert results.shape == flags.shape == (256, 52)
    with pytest.raises(ValueError, match="broadcast"):
        arithmetic.add(np.zeros(3, np.uint8), np.zeros(4, np.uint8), "e4m3fn")


@pytest.mark.parametrize(
    "operation", [*ARITHMETIC, *ORDERS, "sqrt", "fma", "equal", "to_integer", "from_integer", "log_b"]
)
def test_empty_arrays_give_empty_arrays(operation):
    empty = [np.empty((0, 3), np.uint8)] * arithmetic.OPERATIONS[operation].operands
    results, flags = arithmetic.compute(operation, empty, "e4m3fn")
    assert results.shape == flags.shape == (0, 3)
    assert flags.dtype == np.uint8


def test_scalars_give_scalars():
    result = arithmetic.mul(0x38, 0x40, "e4m3fn")
    assert isinstance(result, np.uint8)
    assert result == 0x40
    result, flags = arithmetic.div(0x3C00, 0, "float16", return_flags=True)
    assert isinstance(result, np.uint16)
    assert (result, flags) == (0x7C00, 8)
    zero_dimensional = arithmetic.add(np.array(0x38), np.array(0x38), "e4m3fn")
    assert zero_dimensional.shape == ()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("e2m1", np.uint8), ("e5m2", np.uint8), ("e5m7", np.uint16), ("float16", np.uint16), ("tf32", np.uint32),
     ("float32", np.uint32), ("e8m40", np.uint64), ("float64", np.uint64)],
)  # fmt: skip
def test_results_have_the_smallest_dtype(name, dtype):
    assert arithmetic.add([0, 1], [0, 1], name).dtype == dtype
    assert arithmetic.mul([0, 1], [0, 1], "e2m1", to=name).dtype == dtype
    assert arithmetic.from_integer([0, 1], name).dtype == dtype


@pytest.mark.parametrize("integer", INTEGERS)
def test_integers_have_the_dtype_asked_for(integer):
    assert arithmetic.to_integer([0, 1], "float16", integer).dtype == np.dtype(integer)


def test_strides_and_byte_orders_do_not_matter():
    codes = stratified("float16", 2, 1000, seed=30)
    a, b = (c.astype(np.uint16) for c in codes)
    expected = arithmetic.mul(a, b, "float16", return_flags=True)
    spaced = [np.repeat(c, 3)[::3] for c in (a, b)]
    swapped = [c.astype(">u2") for c in (a, b)]
    backward = [c[::-1].copy()[::-1] for c in (a, b)]
    read_only = [a.copy(), b.copy()]
    for c in read_only:
        c.flags.writeable = False
    for pair in (
        spaced,
        swapped,
        backward,
        read_only,
        [a.tolist(), b.tolist()],
        [a.astype(np.int64), b.astype(object)],
    ):
        got = arithmetic.mul(*pair, "float16", return_flags=True)
        assert [part.tolist() for part in got] == [part.tolist() for part in expected]
    column = arithmetic.mul(np.asfortranarray(a[:1000].reshape(20, 50)), b[:1000].reshape(20, 50), "float16")
    assert column.reshape(-1).tolist() == expected[0][:1000].tolist()


def test_bits_above_the_format_are_ignored():
    assert arithmetic.add(0x138, 0x40, "e4m3fn") == arithmetic.add(0x38, 0x40, "e4m3fn")
    assert arithmetic.add(-1, 0x38, "e2m1") == arithmetic.add(0xF, 0x8, "e2m1")
    signed = np.array([-128, -1, 5], np.int8)
    assert arithmetic.sqrt(signed, "e4m3fn").tolist() == arithmetic.sqrt(signed.view(np.uint8), "e4m3fn").tolist()


def test_large_arrays_and_threads_give_the_same():
    a, b = (np.resize(c, 150_001) for c in stratified("float32", 2, 5000, seed=31))
    one = arithmetic.compute("add", [a, b], "float32", threads=1)
    two = arithmetic.compute("add", [a, b], "float32", threads=2)
    parts = [arithmetic.compute("add", [a[i : i + 700], b[i : i + 700]], "float32") for i in range(0, 5600, 700)]
    assert all((x == y).all() for x, y in zip(one, two, strict=True))
    assert one[0][:5600].tolist() == np.concatenate([p[0] for p in parts]).tolist()
    assert one[1][:5600].tolist() == np.concatenate([p[1] for p in parts]).tolist()


@pytest.mark.parametrize("name", ["binary128", "e8m120", pytest.param("binary256", marks=pytest.mark.nightly)])
def test_formats_wider_than_64_bits_give_the_oracle_s(name):
    judge = oracle.float_format(8, 120) if name == "e8m120" else oracle.get(name)
    rng = np.random.default_rng(33)
    steps, bias = 2**judge.trailing_bits, judge.bias

    def code(exponent):
        trailing = [0, 1, steps - 1, steps // 2, int(rng.integers(0, 2**62)) * steps // 2**62][rng.integers(5)]
        return int(rng.integers(2)) * 2 ** (judge.bits - 1) + (bias + exponent) * steps + trailing

    specials = [0, 1, judge.top_binade, judge.top_binade + 1, judge.nan_code, judge.max_rank]
    rows = [[code(0), code(int(d)), code(int(d))] for d in rng.integers(-judge.trailing_bits - 3, 4, 12)]
    rows += [[x, y, code(0)] for x in specials[:: 1 + (judge.bits > 130)] for y in specials[1::2]]
    columns = [np.array(column, object) for column in zip(*rows, strict=True)]
    for operation in (*ARITHMETIC, "fma", "sqrt"):
        used = columns[: arithmetic.OPERATIONS[operation].operands]
        for rounding in FOUR:
            got = arithmetic.compute(operation, used, name, rounding=rounding)
            expected = each_row(used, lambda row, op=operation, r=rounding: compute(op, row, judge, rounding=r))
            assert_same(got, expected, used, f"{operation} {name} {rounding}")


# ---- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: arithmetic.compute("ad", [1, 1], "e4m3fn"), ValueError, "add"),
        (lambda: arithmetic.compute("add", [1], "e4m3fn"), ValueError, "2"),
        (lambda: arithmetic.compute("sqrt", [1, 1], "e4m3fn"), ValueError, "1"),
        (lambda: arithmetic.add(1, 1, "nf4"), ValueError, "nf4"),
        (lambda: arithmetic.add(1, 1, "e4m3fm"), ValueError, "e4m3fn"),
        (lambda: arithmetic.add(1, 1, "mxfp4"), (ValueError, TypeError), "mxfp4"),
        (lambda: arithmetic.div(1, 1, "int8"), ValueError, "int8"),
        (lambda: arithmetic.add(1, 1, "e4m3fn", rounding="ties_to_evn"), ValueError, "ties_to_even"),
        (lambda: arithmetic.add(1, 1, "e4m3fn", overflow="wrap"), ValueError, "wrap"),
        (lambda: arithmetic.add(1, 1, "e2m1", overflow="nan"), ValueError, "nan"),
        (lambda: arithmetic.add(1, 1, "e4m3fn", platform="risc"), ValueError, "riscv"),
        (lambda: arithmetic.add(1, 1, "e4m3fn", tininess="later"), ValueError, "before"),
        (lambda: arithmetic.add(1, 1, "e4m3fn", rounding="stochastic_a"), ValueError, "random"),
        (lambda: arithmetic.add(1.0, 1, "e4m3fn"), TypeError, "float64"),
        (lambda: arithmetic.add(True, 1, "e4m3fn"), TypeError, "bool"),
        (lambda: arithmetic.to_integer(1, "e4m3fn", "float32"), (ValueError, TypeError), "float32"),
        (lambda: arithmetic.minimum(1, 1, "e4m3fn", to="e5m2"), ValueError, "one format"),
    ],
)  # fmt: skip
def test_errors_say_what_is_given_and_what_is_allowed(call, error, words):
    with pytest.raises(error, match=words):
        call()
