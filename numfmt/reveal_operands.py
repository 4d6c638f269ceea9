"""Operands that tell dot-product units apart: rows of values of a format, near every limit that a unit may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import decode, encode, quantize
from .carriers import floor_log2
from .formats import FloatFormat

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Operands of equally many products: float64 arrays a, b of shape (rows, K), c of shape (rows,)."""

    a: Array
    b: Array
    c: Array

    def __len__(self) -> int:
        return len(self.c)

    @property
    def k(self) -> int:
        """Products of a row."""
        return int(self.a.shape[1])

    def text(self, i: int) -> str:
        """One row as a sum."""
        terms = [f"{self.a[i, k]:g}·{self.b[i, k]:g}" for k in range(self.k)]
        live = [t for t, x, y in zip(terms, self.a[i], self.b[i], strict=True) if x != 0 and y != 0]
        shown = " + ".join(terms if self.k <= 4 else live[:4]) or "zeros"
        more = f" + … (K = {self.k})" if self.k > 4 and len(live) > 4 else f" (K = {self.k})" if self.k > 4 else ""
        return f"{shown}{more} + c = {self.c[i]:.9g}"


class Scene(NamedTuple):
    """What operands are drawn for: formats, and guesses of what the unit does.

    Attributes:
        inputs: format of a and b.
        addend: format of c; None: c is 0.
        precision: digits of the accumulator.
        least, top: exponents of its smallest normal and largest value.
        reach: bits below the largest exponent that may matter.
    """

    inputs: FloatFormat
    addend: FloatFormat | None
    precision: int
    least: int
    top: int
    reach: int


def exponents(fmt: FloatFormat) -> tuple[int, int]:
    """Those of the least normal and the largest value."""
    return floor_log2(fmt.min_normal), floor_log2(fmt.max)


def powers(fmt: FloatFormat, e: Any) -> tuple[Array, Array]:
    """Factors that are powers of two, of products 2**e; the nearest there are. Below normal ones both are subnormal."""
    low, high = exponents(fmt)
    low -= fmt.trailing_bits
    e = np.clip(np.asarray(e, np.int64), 2 * low, 2 * high)
    first = np.clip(e // 2, low, high)
    return np.ldexp(1.0, first), np.ldexp(1.0, np.clip(e - first, low, high))


class _Draw:
    """Random rows for a scene."""

    def __init__(self, scene: Scene, rows: int, k: int, rng: np.random.Generator) -> None:
        self.scene, self.shape, self.rng = scene, (rows, k), rng
        low, high = exponents(scene.inputs)
        self.low, self.high = low, high
        quantum = low - scene.inputs.trailing_bits
        self.floor = max(2 * quantum, scene.least - scene.precision - 50)
        self.ceiling = min(2 * high + 1, scene.top + 1)

    def spread(self, center: int, below: int, above: int, digits: int | None = None) -> tuple[Array, Array, Array]:
        """Products and addends of random signs whose exponents lie about one."""
        e = center + self.rng.integers(-below, above + 1, self.shape)
        a, b = self.factors(e, digits)
        return a, b, self.addend(center + self.rng.integers(-below, above + 1, self.shape[0]), digits)

    def factors(self, e: Array, digits: int | None = None) -> tuple[Array, Array]:
        """Random factors of products with about these exponents."""
        t = self.scene.inputs.trailing_bits
        half = np.clip(e // 2 + self.rng.integers(-3, 4, e.shape), self.low - t, self.high)
        return self.value(half, digits), self.value(np.clip(e - half, self.low - t, self.high), digits)

    def value(self, e: Array, digits: int | None) -> Array:
        bits = self.scene.inputs.trailing_bits if digits is None else digits
        m = 1 + self.rng.integers(0, 2**bits, e.shape) / 2**bits
        sign = self.rng.choice([-1.0, 1.0], e.shape)
        return np.clip(self.of(np.ldexp(m * sign, e), self.scene.inputs), *self.ends(self.scene.inputs))

    def addend(self, e: Array, digits: int | None = None) -> Array:
        """Random addends with about these exponents."""
        fmt = self.scene.addend
        if fmt is None:
            return np.zeros(e.shape)
        bits = fmt.trailing_bits if digits is None else digits
        m = 1 + self.rng.integers(0, 2**bits, e.shape) / 2**bits
        return self.of(np.ldexp(m * self.rng.choice([-1.0, 1.0], e.shape), np.minimum(e, floor_log2(fmt.max))), fmt)

    @staticmethod
    def ends(fmt: FloatFormat) -> tuple[float, float]:
        return float(fmt.min), float(fmt.max)

    @staticmethod
    def of(x: Array, fmt: FloatFormat) -> Array:
        return np.asarray(quantize(x, fmt), np.float64)

    def middle(self) -> int:
        """An exponent of products with room on both sides, in inputs and accumulator."""
        low, high = max(2 * self.low, self.scene.least), min(2 * self.high, self.scene.top)
        return int(np.clip(0, low + 1, high - 1)) if high - low > 8 else (low + high) // 2


Category = Callable[[_Draw], tuple[Array, Array, Array]]


def _close(d: _Draw) -> tuple[Array, Array, Array]:
    """Products and addends of like size."""
    return d.spread(d.middle(), 3, 3)


def _spread(d: _Draw) -> tuple[Array, Array, Array]:
    """Sizes over all bits that a sum may keep."""
    return d.spread(d.middle() + d.scene.reach // 2, d.scene.reach + 4, 2)


def _ties(d: _Draw) -> tuple[Array, Array, Array]:
    """Few digits, about the accumulator's last place."""
    return d.spread(d.middle() + d.scene.precision // 2, d.scene.precision + 3, 1, digits=1)


def _cancelling(d: _Draw) -> tuple[Array, Array, Array]:
    """A product or the addend is another one with the sign changed."""
    a, b, c = _spread(d)
    rows = np.arange(len(c))
    i, j = (d.rng.integers(0, a.shape[1], len(c)) for _ in range(2))
    a[rows, i], b[rows, i] = -a[rows, j], b[rows, j]
    if d.scene.addend is not None:
        own = d.rng.random(len(c)) < 0.5
        c = np.where(own, d.of(-a[rows, i] * b[rows, i], d.scene.addend), c)
    return a, b, c


def _beneath(d: _Draw) -> tuple[Array, Array, Array]:
    """Products that come in pairs of both signs, and an addend, or one product more, far below them."""
    rows, k = d.shape
    top = min(d.middle() + d.scene.reach // 2, 2 * d.high)
    a, b = d.factors(top - d.rng.integers(0, 4, d.shape), 1)
    half = d.rng.permuted(np.tile(np.arange(k), (rows, 1)), axis=1)
    at = np.arange(rows)
    alive = 2 * d.rng.integers(0, 3, rows)
    for i in range(0, k - 1, 2):
        x, y = half[:, i], half[:, i + 1]
        a[at, y], b[at, y] = -a[at, x], np.where(i < alive, b[at, x], 0.0)
        b[at, x] = np.where(i < alive, b[at, x], 0.0)
    if k > 1:  # one pair, 1, 2, 4, … apart
        x = d.rng.integers(0, k, rows)
        y = (x + 2 ** d.rng.integers(0, int(k).bit_length() - 1, rows)) % k
        alone = d.rng.random(rows) < 0.5
        b[alone] = 0.0
        a[at[alone], y[alone]] = -a[at[alone], x[alone]]
        b[at[alone], x[alone]] = b[at[alone], y[alone]] = d.value(np.zeros(rows, np.int64), 1)[alone]
    low = top - d.rng.integers(max(0, d.scene.reach - 8), d.scene.reach + 8, rows)
    if k % 2:
        a[at, half[:, -1]], b[at, half[:, -1]] = d.factors(low)
    return a, b, d.addend(low)


def _sticky(d: _Draw) -> tuple[Array, Array, Array]:
    """A large number, half a unit of its last place, and something far below; zeros else, or the like of them."""
    top = d.middle() + d.scene.reach // 2
    rows, k = d.shape
    e = np.full(d.shape, top - d.scene.precision)
    e = e - np.where(np.arange(k) % 3 == 0, 0, d.rng.integers(-2, d.scene.reach + 12, d.shape))
    a, b = powers(d.scene.inputs, e)
    a = a * d.rng.choice([-1.0, 1.0], d.shape)
    alive = np.minimum(k, 1 + d.rng.integers(1, 4, rows))
    order = d.rng.permuted(np.tile(np.arange(k), (rows, 1)), axis=1)
    b = np.where(order < alive[:, None], b, 0.0)
    big = d.rng.integers(0, k, rows)
    c = d.addend(np.full(rows, top), digits=1)
    by_product = (d.rng.random(rows) < 0.4) | (d.scene.addend is None)
    x, y = powers(d.scene.inputs, np.full(rows, top))
    index = np.flatnonzero(by_product)
    a[index, big[index]], b[index, big[index]] = x[index], y[index]
    return a, b, np.where(by_product & (d.rng.random(rows) < 0.5), 0.0, c)


def _tiny(d: _Draw) -> tuple[Array, Array, Array]:
    """About the accumulator's least values."""
    a, b, c = d.spread(max(d.scene.least - 2, d.floor + 2), 6, 4)
    b = np.where(d.rng.random((len(c), 1)) < 0.2, 0.0, b)
    low = d.addend(d.scene.least + d.rng.integers(-8, 3, len(c)))
    return a, b, np.select([d.rng.random(len(c)) < 0.3, d.rng.random(len(c)) < 0.3], [0.0, low], c)


def _edge(d: _Draw) -> tuple[Array, Array, Array]:
    """The accumulator's least value or half of it, less or more of something far below, and zeros."""
    quantum = d.scene.least - d.scene.precision + 1
    rows, k = d.shape
    e = quantum - np.where(np.arange(k) == 0, d.rng.integers(0, 2, d.shape), d.rng.integers(1, 50, d.shape))
    a, b = powers(d.scene.inputs, e)
    b = np.where((np.arange(k) < 2) | (d.rng.random(d.shape) < 0.1), b, 0.0)
    zero = d.rng.integers(0, k, rows)
    shift = zero[:, None]
    a = a * d.rng.choice([-1.0, 1.0], d.shape)
    a, b = (np.take_along_axis(x, (np.arange(k) + shift) % k, axis=1) for x in (a, b))
    return a, b, np.where(d.rng.random(rows) < 0.7, 0.0, d.addend(np.full(rows, quantum), digits=0))


def _least(d: _Draw) -> tuple[Array, Array, Array]:
    """Sums just below the accumulator's least normal value, and subnormal operands."""
    rows = d.shape[0]
    e = np.where(d.rng.random(d.shape) < 0.5, d.scene.least, d.scene.least - d.scene.precision + 1)
    a, b = d.factors(e - d.rng.integers(0, 3, d.shape), digits=1)
    subnormal = d.value(np.full(d.shape, d.low - 1), None)
    a = np.where(d.rng.random(d.shape) < 0.2, subnormal, a)
    b = np.where(d.rng.random((rows, 1)) < 0.2, 0.0, b)
    c = d.addend(np.full(rows, d.scene.least - 1) + d.rng.integers(0, 2, rows))
    # The least normal value, less half or a quarter of its last place below it.
    edge = (d.rng.random(rows) < 0.4) & (d.scene.addend is not None)
    x, y = powers(d.scene.inputs, d.scene.least - d.scene.precision - d.rng.integers(0, 2, rows))
    least = d.addend(np.full(rows, d.scene.least), digits=0)
    b[edge] = 0.0
    a[edge, 0], b[edge, 0] = (np.where(least > 0, -x, x))[edge], y[edge]
    return a, b, np.where(edge, least, c)


def _large(d: _Draw) -> tuple[Array, Array, Array]:
    """About the accumulator's largest value."""
    a, b, c = d.spread(d.ceiling - 1, 3, 2)
    same = d.rng.random(d.shape[0]) < 0.6
    sign = np.where(same, 1.0, -1.0)[:, None]
    return np.abs(a) * sign, np.abs(b), np.where(d.rng.random(len(c)) < 0.5, np.abs(c) * sign[:, 0], c)


def _zeros(d: _Draw) -> tuple[Array, Array, Array]:
    """Zeros of both signs, alone and between others."""
    a, b, c = _close(d)
    share = d.rng.choice([0.5, 1.0], (d.shape[0], 1))
    a = np.where(d.rng.random(d.shape) < share, np.copysign(0.0, a), a)
    signs = d.rng.choice([-1.0, 1.0, 0.0], (d.shape[0], 1))
    a = np.where(signs != 0, np.copysign(a, signs * b), a)
    if d.scene.addend is None:
        return a, b, c
    return a, b, np.where(d.rng.random(len(c)) < 0.7, np.copysign(0.0, np.where(signs[:, 0] == 0, c, signs[:, 0])), c)


def _specials(d: _Draw) -> tuple[Array, Array, Array]:
    """Infinities and NaNs where the formats have them, with zeros."""
    a, b, c = _zeros(d)
    few = d.rng.random(d.shape) < 1.5 / d.shape[1]
    kinds = [np.inf, -np.inf, np.nan]

    def placed(x: Array, where: Array, fmt: FloatFormat) -> Array:
        known = [v for v in kinds if (fmt.nan_code if v != v else fmt.infinity_code) is not None]
        return np.where(where, d.rng.choice(known, x.shape), x) if known else x

    a, b = placed(a, few, d.scene.inputs), placed(b, d.rng.random(d.shape) < 0.3 / d.shape[1], d.scene.inputs)
    if d.scene.addend is not None:
        c = placed(c, d.rng.random(len(c)) < 0.2, d.scene.addend)
    return a, b, c


def _codes(d: _Draw) -> tuple[Array, Array, Array]:
    """Codes at random."""
    fmt = d.scene.inputs
    found = []
    for _ in range(2):
        codes = d.rng.integers(0, 2**fmt.bits, d.shape, np.uint64)
        x = np.asarray(decode(codes.astype(np.asarray(encode(0.0, fmt)).dtype), fmt), np.float64)
        found.append(np.where(np.isfinite(x), x, 1.0))
    return found[0], found[1], d.addend(d.rng.integers(d.scene.least, d.scene.top + 1, d.shape[0]))


CATEGORIES: tuple[Category, ...] = (
    _close, _spread, _ties, _cancelling, _beneath, _sticky, _tiny, _edge, _least, _large, _zeros, _specials, _codes
)  # fmt: skip


def directed(scene: Scene, ks: Iterable[int], rows: int, seed: int) -> list[Rows]:
    """Rows of every category for every K, those of one K together."""
    rng = np.random.default_rng(seed)
    found = []
    for k in ks:
        count = rows if k <= 40 else max(2, rows // 2)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [category(_Draw(scene, count, k, rng)) for category in CATEGORIES]
        a, b, c = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        found.append(Rows(a, b, c if scene.addend is not None else np.zeros(len(c))))
    return found
