"""Rows of numbers for block encodings: largest elements where the scale steps, elements at every boundary, specials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from ..formats import CodebookFormat, FloatFormat
from ..named import scalar_format
from .directed_codes import Dyadic, boundaries, floor_code
from .intermediate import Array

if TYPE_CHECKING:
    from .functions import Function

SIGN, INFINITY, NAN = 1 << 31, 0x7F800000, 0x7FC00000
Codes = list[int]


def candidates(function: Function, level: int, random: Random) -> list[Array]:
    """One column, (n, K)."""
    rows = [block.row() for block in _every_block(function, level, random)]
    return [np.array(rows, np.uint64).reshape(len(rows), function.size)]


class _Block:
    """One row in the making: numbers of binary32 as codes."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes

    def row(self) -> Codes:
        return [code & 0xFFFFFFFF for code in self.codes]


class _Blocks:
    """What the rows of one function share."""

    def __init__(self, function: Function, level: int, random: Random) -> None:
        assert function.block is not None
        self.size, self.level, self.random = function.size, level, random
        self.element, self.scale = function.block.element, function.block.scale_value_format
        largest = max(self.element.max, -self.element.min)
        self.largest: Dyadic = (largest.numerator, 1 - largest.denominator.bit_length())
        self.binary32 = scalar_format("float32")
        self.two_scales = function.block.has_tensor_scale

    def number(self, value: Dyadic, steps: int = 0) -> int:
        """The binary32 code at a value, or so many steps from it."""
        return max(0, floor_code(self.binary32, value) + steps)

    def exponents(self) -> list[int]:
        """Powers of two for whole blocks: usual ones, and the ends of binary32 and of the scale."""
        low = [-149, -140, -127, -126, -125] + [self.random.randint(-120, 120) for _ in range(4 * self.level)]
        found = [0, 1, -1, 5, 100, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, *low]
        if isinstance(self.scale, FloatFormat) and abs(self.scale.emin) < 100:
            found += [self.scale.emin + i for i in range(-4, 5)] + [self.scale.emax + i for i in range(-4, 5)]
        return sorted(set(found))

    def elements(self, exponent: int) -> list[int]:
        """Binary32 codes at every boundary of the elements, times 2^exponent, and just beside them."""
        if isinstance(self.element, CodebookFormat):
            points = [(v.numerator, 1 - v.denominator.bit_length()) for v in self.element.values if v > 0]
        else:
            points = boundaries(self.element, 1, self.random)
        top = self.largest[0].bit_length() + self.largest[1]
        inside = [(m, e) for m, e in points if m.bit_length() + e <= top + 1]
        found = [self.number((m, e + exponent), s) for m, e in inside for s in (0, 1, -1)]
        return [code for code in dict.fromkeys(found) if code < INFINITY]

    def filled(self, codes: Codes, filler: Callable[[], int]) -> _Block:
        """A row that holds these codes somewhere, and fillers."""
        row = [filler() for _ in range(self.size)]
        for place, code in zip(self.random.sample(range(self.size), min(self.size, len(codes))), codes, strict=False):
            row[place] = code
        return _Block(row)

    def below(self, amax: int, exponent: int) -> int:
        """A number of either sign, not larger than another one."""
        return self.signed(_pattern(self.random, exponent) % (amax + 1))

    def signed(self, code: int) -> int:
        """The code with a drawn sign."""
        return code | SIGN if self.random.random() < 0.5 else code


def _every_block(function: Function, level: int, random: Random) -> Iterator[_Block]:
    b = _Blocks(function, level, random)
    yield from _special_blocks(b)
    for exponent in b.exponents():
        yield from _amax_blocks(b, exponent)
        yield from _element_blocks(b, exponent)
    yield from _scale_blocks(b)
    for _ in range(200 * level**3):  # patterns of digits at random exponents
        exponent = random.randint(1, 250)
        yield _Block([random.getrandbits(1) << 31 | _pattern(random, exponent) for _ in range(b.size)])


def _pattern(random: Random, exponent: int) -> int:
    field = max(0, min(254, exponent + random.choice((0, 0, 0, -1, -2, -3, -4, -6, -12, -25))))
    return field << 23 | random.choice((0, 1, 0x7FFFFF, 1 << random.randrange(23), random.getrandbits(23)))


def _special_blocks(b: _Blocks) -> Iterator[_Block]:
    one, least = 127 << 23, 1
    zero = lambda: 0  # noqa: E731
    for lone in (0, SIGN, one, SIGN | one, least, SIGN | least, 0x7FFFFF, 0x7F7FFFFF, INFINITY, SIGN | INFINITY, NAN,
                 SIGN | NAN, 0x7F800001, 0x7FFFFFFF):  # fmt: skip
        yield _Block([lone] * b.size)
        for filler in (zero, lambda: SIGN, lambda: one, lambda: b.signed(_pattern(b.random, 127))):
            yield b.filled([lone], filler)
            yield _Block([lone] + [filler() for _ in range(b.size - 1)])
            yield _Block([filler() for _ in range(b.size - 1)] + [lone])
    yield b.filled([NAN, INFINITY], zero)
    yield b.filled([INFINITY, SIGN | INFINITY], lambda: one)
    yield _Block([i % 2 * SIGN for i in range(b.size)])
    yield _Block([SIGN | _pattern(b.random, 120) for _ in range(b.size)])


def _amax_blocks(b: _Blocks, exponent: int) -> Iterator[_Block]:
    """Largest elements where the scale steps."""
    m, e = b.largest
    bounds = [(1, exponent), (3, exponent - 1), (7, exponent - 2), (m, e + exponent), (2 * m + 1, e + exponent - 1)]
    for bound in bounds:
        for step in (-2, -1, 0, 1, 2):
            amax = b.number(bound, step)
            if not 0 < amax < INFINITY:
                continue
            small = max(0, (amax >> 23) - b.random.randint(0, 6))
            yield b.filled([b.signed(amax)], partial(b.below, amax, small))
            yield _Block([b.signed(amax)] * b.size)
            yield b.filled([b.signed(amax)], lambda: 0)


def _element_blocks(b: _Blocks, exponent: int) -> Iterator[_Block]:
    """Elements at every boundary under a scale of 2^exponent, which the largest element fixes."""
    amax = b.number((b.largest[0], b.largest[1] + exponent))
    codes = [code for code in b.elements(exponent) if code <= amax]
    if not 0 < amax < INFINITY or exponent % (3 if b.level == 1 else 1) not in (0, 1):
        return
    b.random.shuffle(codes)
    for start in range(0, len(codes), max(1, b.size - 1)):
        part = [b.signed(code) for code in codes[start : start + b.size - 1]]
        yield b.filled([b.signed(amax), *part], lambda: 0)
    above = [code for code in b.elements(exponent) if amax < code < amax + (1 << 23)]
    for code in above[:: 3 if b.level == 1 else 1]:  # beyond the largest element after a scale that is rounded down
        yield b.filled([b.signed(code), b.signed(amax)], lambda: 0)


def _scale_blocks(b: _Blocks) -> Iterator[_Block]:
    """amax = largest element × a boundary of the scale format."""
    if not isinstance(b.scale, FloatFormat) or b.scale.bits > 16:
        return
    m, e = b.largest
    for point, q in boundaries(b.scale, 1, b.random)[:: 1 if b.level > 1 or b.scale.precision == 1 else 3]:
        for step in (-1, 0, 1):
            amax = b.number((m * point, e + q), step)
            if 0 < amax < INFINITY:
                yield b.filled([b.signed(amax)], partial(b.below, amax, amax >> 23))
