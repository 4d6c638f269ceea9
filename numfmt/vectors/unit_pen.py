"""What draws operands of dots of units: places in a step, distances below a large term, exponents, values, codes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import encode
from ..carriers import floor_log2
from ..formats import FixedFormat, FloatFormat
from ..sources import code_dtype
from ..units import DotUnit, Kind
from .intermediate import Array

if TYPE_CHECKING:
    from .functions import Function

WIDE = 24  # distances of terms in units that align nothing


class Values(NamedTuple):
    """Rows before they are codes.

    Attributes:
        a, b: float64, (n, K).
        scale_a, scale_b: exponents of the scales of every block, (n, K / block); None without scales.
        c: float64, (n,).
    """

    a: Array
    b: Array
    scale_a: Array | None
    scale_b: Array | None
    c: Array


class Reach(NamedTuple):
    """Exponents of a format's least positive, least normal and largest values."""

    least: int
    normal: int
    top: int


@lru_cache(maxsize=64)
def reach_of(fmt: FloatFormat | FixedFormat) -> Reach:
    """How far a format's exponents go."""
    if isinstance(fmt, FixedFormat):
        return Reach(-fmt.fraction_bits, -fmt.fraction_bits, floor_log2(fmt.max))
    return Reach(floor_log2(fmt.min_positive), floor_log2(fmt.min_normal), floor_log2(fmt.max))


class Pen:
    """Draws rows for a function."""

    def __init__(self, function: Function, rows: int, rng: np.random.Generator) -> None:
        assert function.unit is not None
        unit: DotUnit = function.unit
        self.function, self.unit, self.n, self.k, self.rng = function, unit, rows, function.size, rng
        scaled = bool(unit.scales)
        self.fa: Any = function.sources[0]
        self.fb: Any = function.sources[2 if scaled else 1]
        self.fc: Any = function.sources[-1]
        self.a, self.b, self.c = reach_of(self.fa), reach_of(self.fb), reach_of(self.fc)
        self.block = unit.scale_blocks[0] if scaled else self.k
        self.scale = unit.scales[0] if scaled else None
        self.acc: Any = unit.accumulator
        self.digits = self.acc.precision if isinstance(self.acc, FloatFormat) else self.acc.bits - 1
        keeps = {self.digits, unit.fraction or 0, unit.late_fraction or 0, unit.late_reach or 0}
        if unit.kind is not Kind.ALIGNED:
            keeps |= {2 * self.digits, WIDE}
        self.limits = sorted(keeps - {0})
        self.furthest = max(self.limits) + 6
        self.places = self._places()

    def _places(self) -> Array:
        """Lanes where steps, groups, blocks and stretches begin and end; each lane of a short dot."""
        unit, found = self.unit, {0, 1, 2, self.k - 1, self.k - 2}
        if self.k <= 12:
            found |= set(range(self.k))
        for size in (unit.length, unit.group, unit.promote_every, self.block):
            if size:
                found |= {at + i for at in range(0, self.k + 1, size) for i in (-1, 0, 1)}
        return np.array(sorted(i for i in found if 0 <= i < self.k))

    # Draws

    def integers(self, low: int, high: int, shape: Any = None) -> Array:
        """Integers in [low, high], an array of rows unless a shape is given."""
        return self.rng.integers(low, max(low, high) + 1, self.n if shape is None else shape)

    def chance(self, share: float, shape: Any = None) -> Array:
        """True for about that share."""
        return self.rng.random(self.n if shape is None else shape) < share

    def signs(self, shape: Any = None) -> Array:
        """-1 and 1."""
        return self.rng.choice([-1.0, 1.0], self.n if shape is None else shape)

    def lane(self, shape: Any = None) -> Array:
        """Lanes, more often those where something begins or ends."""
        shape = self.n if shape is None else shape
        usual, any_ = self.rng.choice(self.places, shape), self.integers(0, self.k - 1, shape)
        return np.where(self.chance(0.7, shape), usual, any_)

    def distance(self) -> Array:
        """How far below the largest a term lies: any distance, or beside a limit of the unit."""
        near = self.rng.choice(self.limits, self.n) + self.integers(-2, 3)
        return np.where(self.chance(0.5), np.maximum(near, 0), self.integers(0, self.furthest))

    def top(self) -> Array:
        """Exponents of large terms: anywhere, about the middle, and about both ends of the accumulator."""
        low, high = self.range()
        end = reach_of(self.acc)
        middle = np.clip(self.integers(-4, 8), low, high)
        above = np.clip(end.top + self.integers(-3, 2), low, high)
        below = np.clip(end.normal + self.integers(-self.digits - 2, 4), low, high)
        least = np.full(self.n, int(np.clip(end.normal, low, high)))
        zero = self.unit.zero_exponent
        tiny = below if zero is None else np.clip(zero + self.integers(-3, 16), low, high)
        products = self.a.least + self.b.least, self.a.top + self.b.top
        aimed = np.clip(self.integers(*products) + self.rng.choice(self.limits, self.n), low, high)
        choices = [middle, middle, middle, above, below, least, tiny, aimed, aimed, self.integers(low, high)]
        return np.choose(self.integers(0, 9), choices)

    def products(self) -> tuple[int, int]:
        """Exponents of products, with their scales."""
        low, high = self.a.least + self.b.least, self.a.top + self.b.top
        if self.scale is None:
            return low, high
        ends = reach_of(self.scale)
        return low + 2 * ends.least, high + 2 * ends.top

    def range(self) -> tuple[int, int]:
        """Exponents of products, and of c where that goes further."""
        low, high = self.products()
        return min(low, self.c.least), max(high, self.c.top)

    def zeros(self) -> Values:
        """Rows of zeros, with scales of one."""
        shape = (self.n, self.k // self.block)
        scales = [np.zeros(shape, np.int64) for _ in range(2)] if self.scale is not None else [None, None]
        one = float(2 ** max(self.b.least, min(0, self.b.top)))
        lanes = (self.n, self.k)
        return Values(np.zeros(lanes), np.full(lanes, one), scales[0], scales[1], np.zeros(self.n))

    # Terms

    def factors(self, e: Array, digits: bool) -> tuple[Array, Array]:
        """Values of both formats whose product has about an exponent: powers of two, or with all their digits."""
        first = np.clip(self.integers(self.a.least, self.a.top, e.shape), e - self.b.top, e - self.b.least)
        first = np.clip(first, self.a.least, self.a.top)
        second = np.clip(e - first, self.b.least, self.b.top)
        return self.value(self.fa, first, digits), self.value(self.fb, second, digits)

    def value(self, fmt: Any, e: Array, digits: bool) -> Array:
        """2**e, or a number of that exponent and any digits that the format has; all ones more often than by chance."""
        if not digits:
            return np.ldexp(1.0, e)
        t = fmt.trailing_bits if isinstance(fmt, FloatFormat) else fmt.bits - 1
        any_ = self.rng.integers(0, 2**t, e.shape)
        some = np.array([0, 2**t - 1, 2**t // 2, 1 % 2**t, max(2**t - 2, 0)])[self.rng.integers(0, 5, e.shape)]
        whole = np.where(self.rng.random(e.shape) < 0.5, any_, some)
        made, least = np.ldexp(1.0 + whole / 2.0**t, e), reach_of(fmt).least
        if least < -1000:
            return made
        return np.maximum(np.floor(np.ldexp(made, -least)), 1) * 2.0**least

    def put(self, rows: Values, index: Array, lane: Array, e: Array, sign: Array, digits: bool = False) -> None:
        """Products of these exponents and signs into lanes of some rows; the scales of their blocks go along."""
        index = np.flatnonzero(index)
        lane, e, sign = lane[index], e[index], sign[index]
        if rows.scale_a is not None and rows.scale_b is not None:
            block = lane // self.block
            ends = reach_of(self.scale)
            free = self.integers(self.a.least + self.b.least, self.a.top + self.b.top, e.shape)
            moved = np.clip(e - free, 2 * ends.least, 2 * ends.top)
            half = np.clip(moved // 2 + self.integers(-2, 2, e.shape), np.maximum(ends.least, moved - ends.top),
                           np.minimum(ends.top, moved - ends.least))  # fmt: skip
            rows.scale_a[index, block], rows.scale_b[index, block] = half, moved - half
            e = e - moved
        x, y = self.factors(e, digits)
        on_a = self.fa.min < 0
        rows.a[index, lane], rows.b[index, lane] = (x * sign, y) if on_a else (x, y * sign)

    def addend(self, e: Array, sign: Array, digits: bool = False) -> Array:
        """Accumulators of these exponents; zeros where the format has none so small."""
        inside = np.clip(e, self.c.least, self.c.top)
        made = self.value(self.fc, inside, digits) * sign
        return np.where(e < self.c.least, 0.0 * sign, made)

    # Codes

    def coded(self, rows: Values) -> list[Array]:
        """Operand columns of a function."""
        columns = [self._codes(rows.a, self.fa), self._codes(rows.b, self.fb)]
        c = self._codes(rows.c, self.fc)
        if self.scale is None:
            return [*columns, c]
        scales = [self._codes(np.ldexp(1.0, e), self.scale) for e in (rows.scale_a, rows.scale_b)]  # type: ignore[arg-type]
        return [columns[0], scales[0], columns[1], scales[1], c]

    @staticmethod
    def _codes(x: Array, fmt: Any) -> Array:
        low, high = float(fmt.min), float(fmt.max)
        with np.errstate(over="ignore"):
            return np.asarray(encode(np.clip(x, low, high), fmt)).astype(code_dtype(fmt)).astype(np.uint64)
