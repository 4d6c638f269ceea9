"""Operands of dot products: cancellation in every order, sums that are ties, specials in every lane, scales."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from ..formats import CodebookFormat, FixedFormat, FloatFormat
from .directed_codes import Dyadic, boundaries, dyadic, ends, exact_code, floor_code, interesting, special_codes
from .intermediate import Array

if TYPE_CHECKING:
    from .functions import Function

Codes = list[int]


def candidates(function: Function, level: int, random: Random) -> list[Array]:
    """Operand columns, (n, K) each, and those of scales in block formats."""
    rows = list(_dots(function, level, random))
    columns = [np.array(column, np.uint64) for column in zip(*rows, strict=True)]
    return [c.reshape(len(rows), size) for c, size in zip(columns, function.operand_sizes, strict=True)]


Row = list[Codes]


class _Lanes:
    """What the rows of one dot product share."""

    def __init__(self, function: Function, level: int, random: Random) -> None:
        self.function, self.level, self.random, self.size = function, level, random, function.size
        self.fmt = function.sources[0]
        self.one = self._code((1, 0))
        self.codes = interesting(self.fmt, 1, random)
        self.finite = [c for c in self.codes if not isinstance(self.fmt.exact(c), str)]
        self.signed = self.fmt.min < 0

    def _code(self, value: Dyadic) -> int:
        found = exact_code(self.fmt, value)
        return floor_code(self.fmt, value) if found is None else found

    def power(self, e: int, negative: bool = False) -> int:
        """A power of two, as near as the format has one."""
        return self._code((-1 if negative and self.signed else 1, e))

    def reach(self) -> tuple[int, int]:
        """Exponents of the least and of the largest power of two."""
        least, largest = self.fmt.min_positive, self.fmt.max
        low = least.numerator.bit_length() - least.denominator.bit_length()
        return low, largest.numerator.bit_length() - largest.denominator.bit_length()

    def product(self, e: int) -> tuple[int, int]:
        """Two powers of two whose product is 2^e, or the nearest in reach."""
        low, high = self.reach()
        e = max(2 * low, min(2 * high, e))
        first = max(low, min(high, e - low, self.random.randint(low, high)))
        first = max(first, e - high)
        return self.power(first), self.power(e - first)

    def pieces(self, m: int, e: int) -> list[tuple[int, int]] | None:
        """Pairs whose products sum to m × 2^e, or None where that takes too many lanes or leaves the range."""
        digits = self.fmt.precision if isinstance(self.fmt, FloatFormat) else self.fmt.bits - 1
        found: list[tuple[int, int]] = []
        while m:
            shift = max(0, m.bit_length() - digits)
            piece, exponent = m >> shift, e + shift
            split = self._split(piece, exponent)
            if split is None or len(found) == self.size:
                return None
            found.append(split)
            m -= piece << shift
        return found

    def _split(self, piece: int, exponent: int) -> tuple[int, int] | None:
        """Codes of piece × 2^i and 2^j whose product is piece × 2^exponent."""
        low, high = self.reach()
        for first in range(max(low - self.size, exponent - high), min(high, exponent - low) + 1):
            a, b = exact_code(self.fmt, (piece, first)), exact_code(self.fmt, (1, exponent - first))
            if a is not None and b is not None:
                return a, b
        return None

    def moved(self, exponent: int) -> tuple[tuple[int, int] | None, int]:
        """Scale codes whose product is a power of two near 2^exponent, and its exponent; none without scales."""
        if self.function.block is None:
            return None, 0
        scale = self.function.sources[1]
        assert not isinstance(scale, CodebookFormat)
        half = exponent // 2
        found = []
        total = 0
        for part in (half, exponent - half):
            code = floor_code(scale, (1, part))
            m, e = dyadic(scale, code) or (0, 0)
            if m <= 0:
                code, (m, e) = floor_code(scale, (1, 0)), (1, 0)
            found.append(code)
            total += e + m.bit_length() - 1
        return (found[0], found[1]), total

    def row(self, pairs: list[tuple[int, int]], shuffled: bool = False, scales: tuple[int, int] | None = None) -> Row:
        """Lanes in order, zeros after them, with scales of one unless others are given."""
        lanes = (pairs + [(0, 0)] * self.size)[: self.size]
        if shuffled:
            self.random.shuffle(lanes)
        return self.scaled([[a for a, _ in lanes], [b for _, b in lanes]], scales)

    def scaled(self, lanes: Row, scales: tuple[int, int] | None = None) -> Row:
        """The operand columns of lanes: with scale codes, in block formats."""
        if self.function.block is None:
            return lanes
        scale = self.function.sources[1]
        one = exact_code(scale, (1, 0))
        first, second = scales if scales is not None else (one or 0, one or 0)
        count = self.function.scales
        return [lanes[0], [first] * count, lanes[1], [second] * count]

    def negated(self, code: int) -> int:
        """The other sign, where there is one."""
        if isinstance(self.fmt, FloatFormat):
            return code ^ self.fmt.sign_mask
        return -code & (1 << self.fmt.bits) - 1


def _dots(function: Function, level: int, random: Random) -> Iterator[Row]:
    lanes = _Lanes(function, level, random)
    yield from _special_dots(lanes)
    yield from _cancelling_dots(lanes)
    yield from _rounded_dots(lanes)
    for _ in range(150 * level**3):
        codes = lanes.finite if random.random() < 0.8 else lanes.codes
        yield lanes.scaled([[random.choice(codes) for _ in range(lanes.size)] for _ in range(2)])
        drawn = [[random.getrandbits(lanes.fmt.bits) for _ in range(lanes.size)] for _ in range(2)]
        yield lanes.scaled(drawn)
    yield from _aimed_dots(lanes)
    if function.block is not None:
        yield from _scaled_dots(lanes)
        yield from _nan_scales(lanes)


def _special_dots(lanes: _Lanes) -> Iterator[Row]:
    fmt, one, size = lanes.fmt, lanes.one, lanes.size
    minus, largest = lanes.negated(one), floor_code(fmt, (1, 1 << 20))
    least = fmt.min_code if isinstance(fmt, FloatFormat) else 1
    minus_zero = lanes.negated(0) if fmt.has_negative_zero else 0
    for a, b in ((0, 0), (minus_zero, one), (0, minus), (one, 0), (largest, largest), (lanes.negated(largest), largest),
                 (least, least), (least, lanes.negated(least)), (one, one), (minus, one)):  # fmt: skip
        yield lanes.row([(a, b)] * size)
        yield lanes.row([(a, b)])
        yield lanes.row([(0, one)] * (size - 1) + [(a, b)])
        yield lanes.row([(minus_zero, one)] * (size - 1) + [(a, b)])
    specials = special_codes(fmt)
    for code in specials:
        for other in (one, 0, minus, largest):
            for filler in ((0, 0), (one, one), (largest, minus)):
                for place in {0, size // 2, size - 1}:
                    pairs = [filler] * size
                    pairs[place] = (code, other)
                    yield lanes.row(pairs)
                    pairs[place] = (other, code)
                    yield lanes.row(pairs)
    for code in specials:
        for other in specials:
            yield lanes.row([(code, one), (other, one)] + [(one, one)] * (size - 2), True)


def _cancelling_dots(lanes: _Lanes) -> Iterator[Row]:
    """(M, -M, 1) in every order, with every distance of exponents."""
    low, high = lanes.reach()
    for e in range(2 * low, 2 * high + 1, 1 if lanes.level > 1 or high - low < 40 else max(1, (high - low) // 20)):
        small = lanes.product(e)
        for big in {2 * high, 2 * high - 1, min(2 * high, e + 23), min(2 * high, e + 24), min(2 * high, e + 25)}:
            a, b = lanes.product(big)
            plus, minus = (a, b), (a, lanes.negated(b))
            for order in ([plus, minus, small], [plus, small, minus], [small, plus, minus]):
                yield lanes.row(order)
                if lanes.size > 4:
                    yield lanes.row([(0, lanes.one)] * (lanes.size - 3) + order)
                    yield lanes.row([*order[:2], *[(0, 0)] * (lanes.size - 3), order[2]])
            yield lanes.row([plus, minus, *[small] * (lanes.size - 2)], True)
            yield lanes.row([plus, small])
            yield lanes.row([plus, *[small] * (lanes.size - 1)], True)
            yield lanes.row([plus, (small[0], lanes.negated(small[1]))])
    for _ in range(20 * lanes.level):
        pairs = [(lanes.random.choice(lanes.finite), lanes.random.choice(lanes.finite)) for _ in range(lanes.size // 2)]
        yield lanes.row(pairs + [(a, lanes.negated(b)) for a, b in pairs], True)


def _rounded_dots(lanes: _Lanes) -> Iterator[Row]:
    """Sums of powers of two whose last digits make ties of 24 digits, and a digit below them."""
    low, high = lanes.reach()
    low, high = 2 * low, 2 * high
    for _ in range(150 * lanes.level):
        top = lanes.random.randint(low, high)
        digits = [top, *sorted({top - lanes.random.randint(1, 23) for _ in range(4)}, reverse=True)]
        for tail in ([24], [23, 24], [24, 25], [24, 30], [23, 24, 28], [24, 26], [25], [25, 26, 27], [25, 26], [30],
                     [24, 25, 26, 27], [23, 24, 25, 26, 27]):  # fmt: skip
            exponents = [e for e in digits + [top - t for t in tail] if e >= low]
            pairs = [lanes.product(e) for e in exponents]
            if lanes.random.random() < 0.5:
                pairs = [(a, lanes.negated(b)) for a, b in pairs]
            yield lanes.row(pairs, True)
        ones = [lanes.product(top - i) for i in range(24) if top - i >= low]
        for tail in ([24], [25], [24, 25]):
            yield lanes.row(ones + [lanes.product(top - t) for t in tail if top - t >= low], True)


def _aimed_dots(lanes: _Lanes) -> Iterator[Row]:
    """Sums that are boundaries of the result's format, in pieces of the operands' digits; and a lone digit below."""
    to = lanes.function.to
    assert isinstance(to, FloatFormat)
    points = [p for p in boundaries(to, lanes.level, lanes.random) if p[0]]
    low, high = lanes.reach()
    for m, e in points[:: 1 if lanes.level > 1 else 2] + ends(to):
        top = m.bit_length() - 1 + e
        scales, moved = lanes.moved(top - 2 * high + 1)
        pieces = lanes.pieces(m, e - moved)
        if pieces is None:
            continue
        sign = lanes.random.random() < 0.5
        pairs = [(a, lanes.negated(b)) if sign else (a, b) for a, b in pieces]
        yield lanes.row(pairs, True, scales)
        small = lanes.product(max(2 * low, e - moved - lanes.random.choice((1, 2, 3, 8, 20, 40))))
        for last in (small, (small[0], lanes.negated(small[1]))):
            yield lanes.row([*pairs, last], True, scales)


def _scaled_dots(lanes: _Lanes) -> Iterator[Row]:
    """Scales at both ends, which meet, and make sums leave binary32."""
    scale = lanes.function.sources[1]
    codes = interesting(scale, 1, lanes.random)
    if not isinstance(scale, FixedFormat | CodebookFormat):
        codes = [c for c in codes if (v := scale.exact(c)) != "nan" and (isinstance(v, str) or v >= 0)]
    usual = [c for c in codes if not isinstance(scale.exact(c), str)]
    for _ in range(250 * lanes.level):
        some = [lanes.random.choice(lanes.finite) for _ in range(2 * lanes.size)]
        count = lanes.random.choice((1, 2, 3, lanes.size))
        zeros = [0] * (lanes.size - count)
        rows = [some[:count] + zeros, some[lanes.size : lanes.size + count] + zeros]
        pool = usual if lanes.random.random() < 0.9 else codes
        yield lanes.scaled(rows, (lanes.random.choice(pool), lanes.random.choice(pool)))
        if lanes.function.scales > 1:  # each block has its own scale; blocks that cancel
            made = lanes.scaled([some[: lanes.size], some[lanes.size :]])
            made[1], made[3] = ([lanes.random.choice(pool) for _ in made[1]] for _ in range(2))
            yield made
            half = lanes.size // lanes.function.scales
            yield [*([*c[:k], *c[:k], *c[2 * k :]] for c, k in ((made[0], half), (made[1], 1))),
                   [*made[2][:half], *(lanes.negated(c) for c in made[2][:half]), *made[2][2 * half :]],
                   [made[3][0], made[3][0], *made[3][2:]]]  # fmt: skip


def _nan_scales(lanes: _Lanes) -> Iterator[Row]:
    """A scale that is NaN, of a, of b and of both, in the first and in the last block; elements are numbers.

    So few that a file of level 1 holds them all: drawn scales are no NaNs.
    """
    scale, last = lanes.function.sources[1], lanes.function.scales - 1
    nans = [c for c in special_codes(scale) if scale.exact(c) == "nan"]
    count = 0
    for columns in ((1,), (3,), (1, 3)) if nans else ():
        for place in sorted({0, last}):
            for pool in ([lanes.one], [0], lanes.finite):
                made = lanes.scaled([[lanes.random.choice(pool) for _ in range(lanes.size)] for _ in range(2)])
                for column in columns:
                    made[column][place] = nans[count % len(nans)]
                    count += 1
                yield made
