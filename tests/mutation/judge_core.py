"""The part of the judge that is for numfmt/_core/binary32.py and fraction.py: arithmetic on codes, and ratios.

binary32 is judged by NumPy's float32 arithmetic, which is the processor's, and by exact integers; ratios by fractions
and the definitions of P3109 Interim Report v4.0 §4.7.4.

    cases(seed)     the cases, in the order in which they are tried
    sweeps()        the same calls on many operands, without expectations, for sweep.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

from tests.mutation.judge import Case, integers

Array = np.ndarray[Any, Any]
Codes = Iterable[int]

INFINITY, NAN, SIGN = 0x7F800000, 0x7FC00000, 1 << 31
PAIRS = ("multiply", "divide", "add", "minimum", "maximum")  # operations on two codes
SINGLES = ("key", "is_nan", "truncate", "to_integer")  # and on one
MODES = ("stochastic_a", "stochastic_b", "stochastic_c")

SPECIAL = [0, 1, 2, 3, 0x3FFFFF, 0x400000, 0x7FFFFE, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x1000001]
SPECIAL += [0x33800000, 0x34000000, 0x3EFFFFFF, 0x3F000000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x3FC00000, 0x40000000]
SPECIAL += [0x40400000, 0x4B000000, 0x4B7FFFFF, 0x7E7FFFFF, 0x7EFFFFFF, 0x7F000000, 0x7F7FFFFE, 0x7F7FFFFF]
SPECIAL += [0x72FFFFFF, 0x73000000, 0x73000001]  # half a unit of the largest value
SPECIAL += [INFINITY, INFINITY + 1, NAN - 1, NAN, NAN + 1, SIGN - 1]


def cases(seed: int = 0) -> list[Case]:
    """All cases."""
    rng = np.random.default_rng(seed)
    made = [case for case in _arithmetic(rng) for case in _on_engines(case, 7, 60)]
    for mode in MODES:
        for count in range(1, 33):
            case = _ratios(mode, count, rng)
            made += _on_engines(case, 7, 40) if count in (1, 2, 10, 11, 21, 22, 31, 32) else [case]
    return [made[i] for i in rng.permutation(len(made))]


def _on_engines(case: Case, strict: int, python: int) -> list[Case]:
    """A case, a part of it that is strict, and a smaller one on Python integers."""
    return [case, _part(case, strict, "strict"), _part(case, python, "python")]


def _part(case: Case, step: int, engine: str) -> Case:
    def cut(array: Any) -> Any:
        if isinstance(array, tuple):
            return tuple(cut(one) for one in array)
        return None if array is None else array[::step].tolist() if engine == "python" else array[::step]

    names = ("operands", "expected", "random", "by")
    return replace(case, engine=engine, **{name: cut(getattr(case, name)) for name in names})


def _case(kernel: str, operands: Codes, expected: Codes, by: Codes | None = None) -> Case:
    second = None if by is None else integers(by, 32)
    return Case(f"binary32 {kernel}", "", 32, "numpy", True, integers(operands, 32), integers(expected, 32), by=second)


# ---- binary32 --------------------------------------------------------------------------------------------------


def _arithmetic(rng: np.random.Generator) -> Iterator[Case]:
    for name in PAIRS:
        a, b = _pairs(name, rng)
        yield _case(name, a, _expected(name, a, b), b)
    codes = _singles(rng)
    for name in SINGLES:
        yield _case(name, codes, _expected(name, codes, codes))
    whole = [n + d for e in range(25) for n in (1 << e, 3 << e >> 1) for d in (-1, 0, 1)] + rng.integers(
        0, 2**24, 300
    ).tolist()
    whole = [n for n in whole if n <= 2**24]
    numbers = np.array([*whole, *(-n for n in whole)], np.int32)
    yield _case("from_integer", numbers, numbers.astype(np.float32).view(np.uint32))
    m, n = (_significands(rng, 1500) for _ in range(2))
    near = [(x, y) for x, y in _near_products(rng) if x >= 1 << 23 and y >= 1 << 23]
    m, n = [*m, *(x for x, _ in near)], [*n, *(y for _, y in near)]
    yield _case("long_product", m, (_sticky(x * y, 1 << 20) for x, y in zip(m, n, strict=True)), n)
    rows = [(max(pair), min(pair)) for pair in [*zip(m, n, strict=True), *_near_quotients(rng)]]
    rows = [(x, y) for x, y in rows if x < 2 * y]
    yield _case("long_quotient", (x for x, _ in rows), (_sticky(x << 26, y) for x, y in rows), (y for _, y in rows))
    yield _packing(rng)


def _sticky(n: int, d: int) -> int:
    return n // d | (n % d != 0)


def _packing(rng: np.random.Generator) -> Case:
    """Significands of 27 bits at any exponent; the sign is that of the first operand, which is ±m."""
    fields = [*range(-35, 6), 100, *range(250, 260), 400, 2**20, -100, -(2**20)]
    shapes = [1 << 26, (1 << 27) - 1, (1 << 27) - 4, (1 << 27) - 5, (1 << 27) - 3, (1 << 26) + 4, (1 << 26) + 12]
    shapes += [(1 << 26) + 1, *((int(k) << 3) + low for k in rng.integers(1 << 23, 1 << 24, 2) for low in range(8))]
    shapes += [(1 << 26) + (1 << k) + d for k in range(1, 26) for d in (-1, 0, 1)]
    rows = [(m * sign, field) for field in fields for m in shapes for sign in (1, -1)]
    m, field = (np.array(column) for column in zip(*rows, strict=True))
    with np.errstate(all="ignore"):
        packed = np.ldexp(m.astype(np.float64), np.clip(field, -600, 600) - 153).astype(np.float32)
    return _case("round_pack", m, packed.view(np.uint32), field)


def _expected(name: str, codes_a: Array, codes_b: Array) -> Array:
    a, b = codes_a.view(np.float32), codes_b.view(np.float32)
    magnitude = codes_a & np.uint32(SIGN - 1)
    with np.errstate(all="ignore"):
        match name:
            case "multiply" | "divide" | "add":
                result = {"multiply": np.multiply, "divide": np.divide, "add": np.add}[name](a, b)
                return np.where(np.isnan(result), np.uint32(NAN), result.view(np.uint32))
            case "minimum" | "maximum":
                other = b < a if name == "minimum" else b > a
                nan = np.isnan(a) | np.isnan(b)
                return np.where(nan, np.uint32(NAN), np.where(other, codes_b, codes_a))
            case "truncate":
                return np.where(np.isnan(a) | np.isinf(a), codes_a, np.trunc(a).view(np.uint32))
            case "is_nan":
                return np.isnan(a).astype(np.uint32)
            case "key":
                return np.where(codes_a >= SIGN, -magnitude.astype(np.int64), magnitude)
        sign = np.where(codes_a >= SIGN, -1, 1)
        size = np.where(np.isnan(a), 2.0**30, np.minimum(np.abs(a.astype(np.float64)), 2.0**30))
        return sign * size.astype(np.int64)


def _significands(rng: np.random.Generator, count: int) -> list[int]:
    """Numbers of 24 bits, some with few digits or with the bits of one half alone."""
    found = rng.integers(1 << 23, 1 << 24, count)
    kinds = [found, found & ~0xFFF, found & ~0xFFFF, (found & 0xFFF) | 1 << 23, found | 0xFFF, found | 0x7FF000]
    return [int(n) for n in np.choose(np.arange(count) % 6, kinds)] + [1 << 23, (1 << 24) - 1]


def _near_products(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Significands whose product lies on, just below or just above a number or a midpoint of 24 bits."""
    pairs = []
    for bits in (22, 23, 24):
        for m in (int(k) | 1 for k in rng.integers(1 << 23, 1 << 24, 60)):
            for rest in (-1, 1, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits - 1) + 1, 3, 1 << 12, 1 << 19, 1 << 20):
                n = pow(m, -1, 1 << bits) * rest % (1 << bits)
                pairs.append((m, n | 1 << 23))
                pairs.append((m, n ^ 1 << 23 if n < 1 << 23 else n))
    few = [int(k) for k in rng.integers(1 << 11, 1 << 13, 200)]
    pairs += [(x << 24 - x.bit_length(), y << 24 - y.bit_length()) for x, y in zip(few, reversed(few), strict=True)]
    return pairs


def _near_quotients(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Significands whose quotient lies on or next to a number or a midpoint of 24 bits."""
    pairs = []
    for n in (int(k) | 1 for k in rng.integers(1 << 23, 1 << 24, 80)):
        for bits in (24, 25):
            for rest in (-2, -1, 1, 2):
                q = -rest * pow(n, -1, 1 << bits) % (1 << bits)
                for quotient in (q, q + (1 << bits)):
                    m = (quotient * n + rest) >> bits
                    if 1 << 23 <= m < 1 << 24:
                        pairs.append((m, n))
    return [*pairs, ((1 << 24) - 1, 1 << 23), (1 << 23, (1 << 24) - 1), (1 << 23, 1 << 23)]


def _pairs(name: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Codes of two operands: specials with each other, near ties, and results at both ends of the exponents."""
    special = [*SPECIAL, *(c + SIGN for c in SPECIAL)]
    rows = [(a, b) for a in special for b in special]
    if name in ("minimum", "maximum"):
        return _columns(rows + _random_rows(rng, 300))
    rows += _random_rows(rng, 1500)
    if name == "add":
        rows += _sums(rng)
        return _columns(rows)
    near = _near_products(rng) if name == "multiply" else _near_quotients(rng)
    near += list(zip(_significands(rng, 1200), reversed(_significands(rng, 1200)), strict=True))
    for i, (m, n) in enumerate(near):
        for around in (127, *((-26 + (i + k) % 30, 251 + (i + k) % 6)[k & 1] for k in range(2))):  # the result's field
            first = int(rng.integers(max(1, around - 120), min(254, around + 120) + 1))
            second = around + 127 - first if name == "multiply" else first + 127 - around
            if not 1 <= second <= 254:
                first = 1 if (around < 127) else 254
                second = around + 127 - first if name == "multiply" else first + 127 - around
            if 1 <= second <= 254:
                sign = (i & 1) << 31
                rows.append(((first << 23) + m % (1 << 23) + sign, (second << 23) + n % (1 << 23)))
    for m, n in near[::20]:  # subnormal operands
        for bits in range(24):
            rows += [(m >> 1 + bits, (127 + bits << 23) + n % (1 << 23)), ((200 << 23) + m % (1 << 23), n >> 1 + bits)]
            rows += [(m >> 1 + bits, n >> 1 + bits * 7 % 23)]
    return _columns(rows)


def _sums(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Exponents 0 to 30 apart, digits that cancel, that carry, that meet in ties, and sums among subnormals."""
    rows = []
    for field in (1, 2, 24, 25, 30, 127, 253, 254):
        for apart in range(31):
            lower = max(field - apart, 0)
            for m in (0, 1, 0x7FFFFF, 0x7FFFFE, 0x400000, *(int(k) for k in rng.integers(0, 1 << 23, 3))):
                for n in (0, 1, 0x7FFFFF, 0x400000, 0x400001, 0x3FFFFF, m, m ^ 1, int(rng.integers(0, 1 << 23))):
                    a, b = (field << 23) + m, (lower << 23) + n
                    rows += [(a, b), (b + SIGN, a), (a + SIGN, b + SIGN)][: 2 + (apart & 1)]
    for k in range(23):  # k digits are left
        for field in (1, 10, 127, 254):
            m = int(rng.integers(1 << k, 1 << 23))
            for less in (1 << k, (1 << k) + 1, (2 << k) - 1, (1 << k) + (1 << k >> 1)):
                rows += [((field << 23) + m, (field << 23) + SIGN + m - less)] if less <= m else []
    return rows


def _random_rows(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in rng.integers(0, 2**32, (count, 2))]


def _columns(rows: list[tuple[int, int]]) -> tuple[Array, Array]:
    table = np.array(rows, np.uint32)
    return table[:, 0].copy(), table[:, 1].copy()


def _singles(rng: np.random.Generator) -> Array:
    """Codes at and beside each power of two, integers and halves, and any."""
    found = [*SPECIAL, *(int(c) for c in rng.integers(0, SIGN, 500))]
    found += [(e << 23) + d for e in range(1, 256) for d in (-1, 0, 1)]
    found += [(e << 23) + int(t) for e in range(120, 160) for t in rng.integers(0, 1 << 23, 4)]
    found += [(e << 23) + (1 << 150 - e) * k + d for e in range(127, 151) for k in (1, 3) for d in (-1, 0, 1)]
    return np.array([*found, *(c + SIGN for c in found)], np.uint32)


# ---- ratios ----------------------------------------------------------------------------------------------------


def away(nu: Fraction, number: int, mode: str, count: int) -> bool:
    """Whether a dropped fraction rounds away from zero with a random number of `count` bits."""
    match mode:
        case "stochastic_a":
            return floor(nu * 2**count) + number >= 2**count
        case "stochastic_b":
            return floor(nu * 2 ** (count + 1)) + 2 * number + 1 >= 2 ** (count + 1)
    return round(nu * 2**count) + number >= 2**count  # to even


def _ratios(mode: str, count: int, rng: np.random.Generator) -> Case:
    """d / (w · 2**below) with random numbers next to where the answer changes."""
    rows = []
    for d, w, below in [*_any_ratios(rng), *_exact_ratios(count, rng)]:
        nu = Fraction(d, w << below)
        if not (0 <= d < 2**30 and 0 < w < 2**30 and 0 <= nu < 1):
            continue
        middle = 2**count - floor(nu * 2**count)
        for number in {middle - 2, middle - 1, middle, middle + 1, 2**count - 1}:
            if 0 <= number < 2**count:
                word = number + (int(rng.integers(0, 2 ** (32 - count))) << count)
                rows.append((d, w, below, word, away(nu, number, mode, count)))
    d, w, below, words, expected = (integers(column, 32) for column in zip(*rows, strict=True))
    return Case("fraction", "", 32, "numpy", True, d, expected, mode, random=words, count=count, by=(w, below))


def _any_ratios(rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """Denominators of 1 to 30 bits; thirds, the ends of [0, 1), and quotients far below it."""
    for size in range(1, 31):
        w = int(rng.integers(2 ** (size - 1), 2**size))
        yield int(rng.integers(0, w)), w, 0
        yield w - 1, w, 0
        yield 1, w, 0
        for below in (1, int(rng.integers(2, 12)), int(rng.integers(12, 35)), int(rng.integers(30, 66))):
            top = min(w << below, 2**30)
            yield top - 1, w, below
            yield int(rng.integers(0, top)), w, below
    for below in (0, 1, 31, 32, 33, 34, 62, 63, 64, 65, 100, 400):
        yield from ((0, 3, below), (1, 3, below), (1, 2**30 - 1, below), (2**30 - 1, 2**30 - 1, below))
        yield from ((2**30 - 1, 1, below), (2**29, 1, below), (2**29 + 1, 1, below))


def _exact_ratios(count: int, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """ν · 2**N at an integer or between two, for few random numbers, and what is next to that."""
    near = [1, 2, 3, 5, 2**count - 1, 2**count // 2, *(int(k) for k in rng.integers(1, 2 ** min(count, 20) + 1, 3))]
    for steps in near:
        for twice in (2 * steps - 1, 2 * steps, 2 * steps + 1):  # ν in units of 2**-(count + 1)
            for odd in (1, int(rng.integers(1, 64)) * 2 + 1, int(rng.integers(1, 2**13)) * 2 + 1):
                for up in (0, int(rng.integers(1, 12)), 29 - (twice * odd).bit_length()):
                    down = int(rng.integers(0, 15))
                    below = count + 1 + max(up, 0) - down
                    if below >= 0:
                        d = twice * odd << max(up, 0)
                        for other in (d - 1, d, d + 1):
                            yield other, odd << down, below


# ---- sweeps ----------------------------------------------------------------------------------------------------


def sweeps() -> Iterator[Case]:
    """Every call on other operands than those of `cases`, without expectations."""
    for seed in (101, 102, 103):
        for case in cases(seed):
            if case.engine == "numpy":
                yield replace(case, expected=None)
