"""Operands of dots of units: terms at every distance below the largest one, in every place of a step, and every corner.

Rows are values first, which are encoded at the end; specials are put in as codes. A row is drawn as a large term, or a
pair of large terms that cancel, and a few small ones at distances that a unit may keep, lose, or round on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import encode
from ..formats import FixedFormat, FloatFormat
from .directed_codes import special_codes
from .intermediate import Array
from .unit_pen import Pen, reach_of

if TYPE_CHECKING:
    from .functions import Function

Scene = Callable[[Pen], list[Array]]


def _layers(pen: Pen) -> list[Array]:
    """A large term or a pair that cancels, and up to four terms below it."""
    rows, top, sign = pen.zeros(), pen.top(), pen.signs()
    every = np.ones(pen.n, bool)
    kind = pen.integers(0, 4)  # c; a product; c and a product; two products; nothing large
    first, second = pen.lane(), pen.lane()
    digits = bool(pen.rng.random() < 0.5)
    c = np.where((kind == 0) | (kind == 2), pen.addend(top, sign, digits), 0.0)
    for _ in range(int(pen.rng.integers(1, 5))):
        some = every if pen.k > 1 else pen.chance(0.5)
        pen.put(rows, some, pen.lane(), top - pen.distance(), pen.signs(), bool(pen.rng.random() < 0.3))
    small = pen.chance(0.4) & (c == 0)
    c = np.where(small, pen.addend(top - pen.distance(), pen.signs(), digits), c)
    pen.put(rows, (kind == 1) | (kind == 3), first, top, sign, False)
    pen.put(rows, (kind == 2) | (kind == 3), second, top, -sign, False)
    return pen.coded(rows._replace(c=c))


def _ties(pen: Pen) -> list[Array]:
    """A large number, half a unit of its last place or the whole, and something below that."""
    rows, top, sign = pen.zeros(), pen.top(), pen.signs()
    by_c = pen.chance(0.6)
    odd = pen.chance(0.5)
    last = 2.0 ** (1 - min(pen.digits, 52))
    big = np.ldexp(1.0 + np.where(odd, last, 0.0), np.clip(top, pen.c.least, pen.c.top)) * sign
    own = pen.chance(0.7)
    limit = pen.rng.choice(pen.limits, pen.n) + pen.integers(-1, 1)
    below = np.where(pen.chance(0.5), pen.digits + pen.integers(1, pen.furthest), limit)
    pen.put(rows, pen.chance(0.7), pen.lane(), top - below, pen.signs())
    pen.put(rows, pen.chance(0.2), pen.lane(), top - pen.distance(), pen.signs())
    pen.put(rows, np.ones(pen.n, bool), pen.lane(), top - pen.digits + pen.integers(-1, 1), np.where(own, sign, -sign))
    pen.put(rows, ~by_c, pen.lane(), top, sign)
    return pen.coded(rows._replace(c=np.where(by_c, big, 0.0)))


def _carries(pen: Pen) -> list[Array]:
    """Two equal products, half a unit of the last place of their sum, and a term in the last places that are kept."""
    rows, top, sign = pen.zeros(), pen.top(), pen.signs()
    every, half = np.ones(pen.n, bool), top + 1 - pen.digits + pen.integers(-1, 1)
    by_c = pen.chance(0.5)
    kept = pen.unit.fraction or 2 * pen.digits
    pen.put(rows, every, pen.lane(), top - kept + pen.integers(-1, 2), np.where(pen.chance(0.8), sign, -sign))
    pen.put(rows, ~by_c, pen.lane(), half, sign)
    pen.put(rows, every, pen.lane(), top, sign)
    pen.put(rows, every, pen.lane(), top, sign)
    return pen.coded(rows._replace(c=np.where(by_c, pen.addend(half, sign), 0.0)))


def _sums(pen: Pen) -> list[Array]:
    """Products in every lane, of like size and any digits."""
    rows, top = pen.zeros(), pen.top()
    spread = pen.integers(0, 12)[:, None]
    e = top[:, None] - (pen.rng.random((pen.n, pen.k)) * (spread + 1)).astype(np.int64)
    for lane in range(pen.k):
        live = pen.chance(0.8) if lane not in pen.places else np.ones(pen.n, bool)
        pen.put(rows, live, np.full(pen.n, lane), e[:, lane], pen.signs(), True)
    one_sign = pen.chance(0.4)
    rows.a[one_sign] = np.abs(rows.a[one_sign]) * pen.signs(int(one_sign.sum()))[:, None]
    c = pen.addend(top + pen.integers(-8, 8), pen.signs(), True)
    return pen.coded(rows._replace(c=np.where(pen.chance(0.3), 0.0, c)))


def _ends(pen: Pen) -> list[Array]:
    """The largest values of operands and accumulator, in one lane, in a few and in all."""
    rows = pen.zeros()
    signs = np.where(pen.chance(0.5)[:, None], pen.signs()[:, None], pen.signs((pen.n, pen.k)))
    live = pen.rng.random((pen.n, pen.k)) < np.array([1.5 / pen.k, 0.5, 1.0])[pen.integers(0, 2)][:, None]
    for source, values in ((pen.fa, rows.a), (pen.fb, rows.b)):
        high = float(source.max)
        values[...] = high * np.array([1.0, 0.5, 0.75])[pen.integers(0, 2, (pen.n, pen.k))]
    if isinstance(pen.fa, FixedFormat) or isinstance(pen.fb, FixedFormat):
        low = pen.chance(0.5, (pen.n, pen.k)) & (signs < 0)
        rows.b[low] = float(pen.fb.min)
    whole = pen.chance(0.15)
    rows.a[...] = np.where(live, rows.a * np.where(pen.fa.min < 0, signs, 1.0), 0.0)
    rows.a[whole] = float(pen.fa.max) * (pen.signs()[whole, None] if pen.fa.min < 0 else 1.0)
    rows.b[whole] = float(pen.fb.max)
    if rows.scale_a is not None and rows.scale_b is not None:
        ends = reach_of(pen.scale)
        for scale in (rows.scale_a, rows.scale_b):
            scale[...] = pen.rng.choice([ends.least, ends.top, 0, ends.top // 2], scale.shape)
    far = float(pen.fc.max)
    c = np.array([0.0, far, -far, far / 2, 1.0])[pen.integers(0, 4)]
    if isinstance(pen.fc, FixedFormat):
        total = np.sum(rows.a * rows.b, axis=1)
        end = np.where(total > 0, far, float(pen.fc.min))
        c = np.where(pen.chance(0.6), end - total + pen.integers(-2, 2), np.where(c < 0, float(pen.fc.min), c))
    return pen.coded(rows._replace(c=c))


def _brim(pen: Pen) -> list[Array]:
    """The accumulator's largest value, and half a unit of its last place or parts of that in a few lanes."""
    rows, sign, end = pen.zeros(), pen.signs(), reach_of(pen.acc).top
    e = end - pen.digits + pen.integers(-2, 1)
    for _ in range(int(pen.rng.integers(1, 5))):
        pen.put(rows, np.ones(pen.n, bool), pen.lane(), e, np.where(pen.chance(0.8), sign, -sign))
    return pen.coded(rows._replace(c=sign * float(pen.acc.max)))


def _apart(pen: Pen) -> list[Array]:
    """A product at the upper end of their range, and others at the lower end."""
    rows = pen.zeros()
    low, high = pen.products()
    for _ in range(int(pen.rng.integers(1, 4))):
        pen.put(rows, np.ones(pen.n, bool), pen.lane(), low + pen.integers(0, 2), pen.signs())
    pen.put(rows, np.ones(pen.n, bool), pen.lane(), high - pen.integers(0, 2), pen.signs())
    return pen.coded(rows)


def _least(pen: Pen) -> list[Array]:
    """Subnormal operands, c and results, beside normal ones and zeros of both signs."""
    rows = pen.zeros()
    for _ in range(int(pen.rng.integers(1, 4))):
        lane, index = pen.lane(), np.arange(pen.n)
        e = reach_of(pen.acc).normal - pen.integers(-2, pen.digits + 2)
        pen.put(rows, np.ones(pen.n, bool), lane, e, pen.signs(), True)
        tiny = pen.chance(0.4)
        for fmt, reach, values in ((pen.fa, pen.a, rows.a), (pen.fb, pen.b, rows.b)):
            below = pen.value(fmt, pen.integers(reach.least, reach.normal, pen.n), True)
            which = tiny & pen.chance(0.5)
            values[index[which], lane[which]] = (below * np.where(values[index, lane] < 0, -1, 1))[which]
    c = pen.addend(pen.c.normal - pen.integers(-2, max(1, pen.c.normal - pen.c.least)), pen.signs(), True)
    return pen.coded(rows._replace(c=np.where(pen.chance(0.4), 0.0, c)))


def _edge(pen: Pen) -> list[Array]:
    """The accumulator's least normal value, and half or a quarter of its last place above or below it."""
    rows, sign = pen.zeros(), pen.signs()
    normal = np.full(pen.n, reach_of(pen.acc).normal)
    by_c, every, lane = pen.chance(0.5), np.ones(pen.n, bool), pen.lane()
    part = normal - pen.digits + 1 - pen.integers(0, 3)
    pen.put(rows, every, lane, part, np.where(pen.chance(0.8), -sign, sign))
    pen.put(rows, ~by_c, (lane + pen.rng.choice([1, 2, -2], pen.n)) % pen.k, normal, sign)
    return pen.coded(rows._replace(c=np.where(by_c, pen.addend(normal, sign), 0.0)))


def _zeros(pen: Pen) -> list[Array]:
    """Zeros of every sign, alone, beside a sum that cancels, and times large factors."""
    rows, top, sign = pen.zeros(), pen.top(), pen.signs()
    negative = pen.chance(0.5)[:, None] | np.zeros((pen.n, pen.k), bool)
    negative ^= pen.chance(0.3)[:, None] & pen.chance(0.3, (pen.n, pen.k))
    many = pen.chance(0.4, (pen.n, pen.k))
    large = np.where(many, float(pen.fb.max), rows.b)
    other = np.where(many, float(pen.fa.max), 1.0)
    swapped = pen.chance(0.5)[:, None]  # the sign of the product is that of the zero, or of the other factor
    rows.a[...] = np.where(swapped, np.where(negative, -other, other), np.where(negative, -0.0, 0.0))
    rows.b[...] = np.where(swapped, 0.0, large)
    c = np.where(pen.chance(0.5), -0.0, 0.0)
    kind = pen.integers(0, 5)
    c = np.where(kind == 2, pen.addend(pen.integers(pen.c.least, pen.c.normal), sign, True), c)
    lane, other = pen.lane(), pen.lane()
    pen.put(rows, (kind >= 3) & (lane != other), lane, top, sign)
    pen.put(rows, (kind >= 4) & (lane != other), other, top, -sign)
    c = np.where(kind == 3, pen.addend(top, -sign), c)
    return pen.coded(rows._replace(c=c))


def _codes(pen: Pen) -> list[Array]:
    """Codes at random: any, also of specials, with few lanes alive or all."""
    found = []
    for fmt, count in zip(pen.function.sources, pen.function.operand_sizes, strict=True):
        codes = pen.rng.integers(0, 2**fmt.bits - 1, (pen.n, count), np.uint64, endpoint=True)
        if count == pen.k and pen.k > 1:
            share = np.where(pen.chance(0.5), 2.0 / pen.k, 1.0)[:, None]
            codes *= (pen.rng.random((pen.n, count)) < share).astype(np.uint64)
        found.append(codes)
    return [*found[:-1], found[-1].reshape(-1)]


def _specials(pen: Pen) -> list[Array]:
    """NaNs and infinities in lanes, scales and c, beside numbers and zeros; the other sign of scales."""
    columns = [column.copy() for column in (_zeros(pen) if pen.rng.random() < 0.5 else _layers(pen))]
    rows = np.arange(pen.n)
    target = pen.integers(0, len(columns) - 1)
    for number, (fmt, column) in enumerate(zip(pen.function.sources, columns, strict=True)):
        codes = special_codes(fmt)
        flips = fmt.sign_mask if isinstance(fmt, FloatFormat) and fmt.signed else 0
        is_scale = pen.scale is not None and number in (1, 3)
        for share in (1.0, 0.3):
            index = rows[(target == number) & pen.chance(share)] if share == 1.0 else rows[pen.chance(share / 2)]
            lane = pen.lane(index.size) // (pen.block if is_scale else 1)
            if codes:
                drawn = np.array(codes, np.uint64)[pen.rng.integers(0, len(codes), index.size)]
                if column.ndim == 1:
                    column[index] = drawn
                else:
                    column[index, lane] = drawn
        if is_scale and flips:
            column ^= np.where(pen.chance(0.3, column.shape), np.uint64(flips), np.uint64(0))
    return columns


def _infinities(pen: Pen) -> list[Array]:
    """Two infinities of any signs, in lanes and in c, beside numbers."""
    columns = [column.copy() for column in _layers(pen)]
    lanes = [0, 2] if pen.scale is not None else [0, 1]
    rows, lane, other = np.arange(pen.n), pen.lane(), pen.lane()
    for number, place in ((lanes[0], lane), (lanes[1], lane), (lanes[0], other), (lanes[1], other)):
        fmt = pen.function.sources[number]
        codes = (_infinite(fmt) if number == lanes[0] else []) or _ones(fmt)
        columns[number][rows, place] = np.array(codes, np.uint64)[pen.integers(0, 1)]
    codes = _infinite(pen.fc)
    if codes:
        index = rows[pen.chance(0.5)]
        columns[-1][index] = np.array(codes, np.uint64)[pen.integers(0, 1, index.size)]
    return columns


def _infinite(fmt: Any) -> list[int]:
    """Codes of both infinities."""
    code = fmt.infinity_code if isinstance(fmt, FloatFormat) else None
    return [] if code is None else [code, code | fmt.sign_mask]


def _ones(fmt: Any) -> list[int]:
    """Codes of 1 and -1."""
    low = -1.0 if fmt.min < 0 else 1.0
    return [int(code) for code in np.asarray(encode(np.array([1.0, low]), fmt))]


def _products(pen: Pen) -> list[Array]:
    """Products about the limit beyond which they count as infinite, and what brings the sum back."""
    limit = pen.unit.product_limit
    limit = reach_of(pen.acc).top + 1 if limit is None else limit
    rows, sign = pen.zeros(), pen.signs()
    e = limit + pen.integers(-2, 1)
    pen.put(rows, np.ones(pen.n, bool), pen.lane(), e, sign, bool(pen.rng.random() < 0.5))
    pen.put(rows, pen.chance(0.7), pen.lane(), e - pen.integers(0, 2), -sign, False)
    far = np.where(pen.chance(0.5), -sign * float(pen.fc.max), 0.0)
    return pen.coded(rows._replace(c=far))


SCENES: tuple[tuple[Scene, float], ...] = (
    (_layers, 0.25), (_ties, 0.16), (_carries, 0.05), (_sums, 0.1), (_ends, 0.08), (_brim, 0.04), (_least, 0.05),
    (_edge, 0.04), (_zeros, 0.08), (_specials, 0.08), (_infinities, 0.03), (_codes, 0.03), (_products, 0.03),
    (_apart, 0.02),
)  # fmt: skip


def drawn(function: Function, rows: int, seed: int, batch: int = 0) -> list[Array]:
    """Operand columns of about so many rows: some of every scene."""
    rng = np.random.default_rng([seed, batch])
    parts: list[Sequence[Array]] = []
    for scene, share in SCENES:
        for _ in range(4):  # some choices are those of a whole part
            parts.append(scene(Pen(function, max(2, int(rows * share / 4)), rng)))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
