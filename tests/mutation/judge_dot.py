"""The part of the judge that is for numfmt/_core/dot.py: sums of products and their rounding, by exact integers.

    cases(seed)     the cases, in the order in which they are tried
    sweeps()        the same calls on other operands, without expectations, for sweep.py

A result of several parts is judged in two calls: sign, significand and what is special as one integer, and the exponent.
Sums that are too long for a significand count up to `KEPT` digits and whether anything lies below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from tests.mutation.judge import STRICT, Case, Strict, integers
from tests.mutation.judge_core import away

TRAILING = {32: 27, 64: 58}  # where leading bits are
FAR = {32: 1 << 24, 64: 1 << 40}
KEPT = {32: 25, 64: 55}  # of sums of up to 31 or 63 bits, whose end is one sticky bit
PRODUCT, ACCUMULATOR = 27, 29
WORDS = {32: (16, 22, 28), 64: (32, 45, 59)}  # bits of low words of other sums
LONGEST = 300  # a shift beyond which nothing changes
NEAREST = ("ties_to_even", "ties_to_odd", "ties_to_away", "ties_to_zero", "ties_to_positive", "ties_to_negative")
MODES = (*NEAREST, "toward_zero", "away_from_zero", "toward_positive", "toward_negative", "to_odd")
RANDOM = (("stochastic_a", 1), ("stochastic_a", 32), ("stochastic_b", 8), ("stochastic_c", 3), ("stochastic_c", 31))

Row = tuple[int, ...]


class To(NamedTuple):
    """A format to round to: p digits, exponents, the largest significand of p digits, and what lies beyond it."""

    p: int
    emin: int
    emax: int
    largest: int
    beyond: tuple[int, int] = (1, 1)
    flush: int = 0  # 1: as rounded, 2: as rounded with any exponent
    infinity: int = 1  # 0: infinity becomes the largest value


FORMATS = {
    "e4m3fn": To(4, -6, 8, 0b1110, (2, 2), infinity=0),
    "e5m2": To(3, -14, 15, 0b111),
    "e5m2, up": To(3, -14, 15, 0b111, (1, 0)),
    "e5m2, down, flushed": To(3, -14, 15, 0b111, (0, 1), 1),
    "e2m1": To(2, 0, 2, 0b11, (0, 2), 1, 0),
    "e5m7, tiny": To(8, -14, 15, 2**8 - 1, (1, 1), 2),
    "float32, tiny": To(24, -126, 127, 2**24 - 1, (1, 1), 2),
    "e8m13": To(14, -126, 127, 2**14 - 1),
    "float32": To(24, -126, 127, 2**24 - 1),
    "float32, flushed": To(24, -126, 127, 2**24 - 1, (1, 1), 1),
    "powers of two": To(1, -10, 3, 1, (0, 0)),
    "float64": To(53, -1022, 1023, 2**53 - 1),
}


# ---- what is right -----------------------------------------------------------------------------------------------


def rounded(m: int, drop: int, negative: int, mode: str) -> int:
    """The magnitude m · 2**-drop as an integer."""
    if drop <= 0:
        return m << -drop
    drop = min(drop, LONGEST)
    kept, rest, half = m >> drop, m & ((1 << drop) - 1), 1 << (drop - 1)
    if rest == 0 or (mode in NEAREST and rest < half):
        return kept
    if mode in NEAREST and rest > half:
        return kept + 1
    odd = kept & 1
    up = {
        "ties_to_even": odd, "ties_to_odd": 1 - odd, "ties_to_away": 1, "ties_to_zero": 0,
        "ties_to_positive": 1 - negative, "ties_to_negative": negative, "toward_zero": 0, "away_from_zero": 1,
        "toward_positive": 1 - negative, "toward_negative": negative, "to_odd": 1 - odd,
    }  # fmt: skip
    return kept + up[mode]


def rounded_at_random(m: int, drop: int, mode: str, number: int, count: int) -> int:
    """The same with a random number of `count` bits."""
    drop = min(drop, LONGEST)
    kept = m >> drop
    return kept + away(Fraction(m & ((1 << drop) - 1), 1 << drop), number, mode, count)


def normalised(size: int, bits: int) -> tuple[int, int]:
    """size · 2**-trailing as a significand with its leading bit there, and an exponent; zero has exponent 0."""
    up = TRAILING[bits] + 1 - size.bit_length()
    if size == 0:
        return 0, 0
    return (size << up if up >= 0 else size >> -up), -up


def packed(negative: int, m: int, bits: int, kind: int = 0) -> int:
    """Sign, significand, infinity (1) and NaN (2) as one integer."""
    return m + (negative << TRAILING[bits] + 1) + (kind << TRAILING[bits] + 2)


def settled(total: int, exponent: int, zero_negative: int, bits: int, digits: int | None) -> tuple[int, int]:
    """total · 2**exponent in two integers; of its digits so many, and whether there are more, unless they are None."""
    negative = zero_negative if total == 0 else int(total < 0)
    size = abs(total)
    m, above = normalised(size, bits)
    if digits is not None:
        more = max(size.bit_length() - digits, 0)
        m = (size >> more << max(digits - size.bit_length(), 0)) * 2 + (size & ((1 << more) - 1) != 0)
    return packed(negative, m, bits), exponent + above + TRAILING[bits] if size else 0


def kept(row: Row, to: To, bits: int, mode: str, count: int | None) -> tuple[int, int]:
    """A number rounded to a format, in two integers."""
    m, negative, exponent, kind, number = row
    trailing = TRAILING[bits]
    last = max(exponent, to.emin) - to.p + 1
    drop = last - exponent + trailing
    if kind == 1 and not to.infinity:
        return packed(negative, to.largest << trailing + 1 - to.p, bits), to.emax
    kind &= 3 if to.infinity else 2
    s = rounded(m, drop, negative, mode) if count is None else rounded_at_random(m, drop, mode, number, count)
    result, above = normalised(s, bits)
    exponent = above + last + trailing
    if to.flush == 2:
        below = exponent if count is not None else _with_any_exponent(m, row[2], negative, to.p, bits, mode)
    else:
        below = exponent
    if s == 0 or (to.flush and below < to.emin):
        return packed(negative, int(bool(kind)), bits, kind), 0 if kind else -FAR[bits]
    largest = to.largest << trailing + 1 - to.p
    if (exponent, result) > (to.emax, largest):
        result, exponent = largest, to.emax
        kind |= to.beyond[negative]
    return (packed(negative, 1, bits, kind), 0) if kind else (packed(negative, result, bits), exponent)


def _with_any_exponent(m: int, exponent: int, negative: int, p: int, bits: int, mode: str) -> int:
    """The exponent of a number that is rounded to p digits."""
    return exponent + (rounded(m, TRAILING[bits] + 1 - p, negative, mode) >> p)


def accumulated(row: Row, shift: int) -> tuple[int, int]:
    """An accumulator and a product added, and rounded to nearest, ties to even: m with its sign, and an exponent."""
    m, exponent, product, place = row
    low = min(exponent - ACCUMULATOR if m else place - PRODUCT, place - PRODUCT if product else exponent - ACCUMULATOR)
    total = (m << exponent - ACCUMULATOR - low if m else 0) + (product << place - PRODUCT - low if product else 0)
    size = abs(total)
    if size == 0:
        return 0, -FAR[32]
    p = ACCUMULATOR + 1 - shift
    drop = size.bit_length() - p
    size = rounded(size, drop, 0, "ties_to_even")
    low += drop
    up = ACCUMULATOR + 1 - size.bit_length()
    return (size << up) * (1 if total > 0 else -1), low - up + ACCUMULATOR


# ---- cases -------------------------------------------------------------------------------------------------------


def cases(seed: int = 0) -> list[Case]:
    """All cases."""
    rng = np.random.default_rng(seed)
    whole = [case for bits in (32, 64) for case in _of_carrier(bits, rng)] + [*_sums(rng)]
    made = [part for case in whole for part in (case, _part(case))]
    return [made[i] for i in rng.permutation(len(made))]


def _part(case: Case) -> Case:
    """A fifth of a case, on the strict engine."""
    step = slice(len(case.operands) % 5, None, 5)
    by = None if case.by is None else tuple(column[step] for column in case.by)
    random = None if case.random is None else case.random[step]
    return replace(
        case, engine="strict", operands=case.operands[step], expected=case.expected[step], by=by, random=random
    )


def _case(kernel: str, bits: int, rows: Iterable[Row], expected: Iterable[int], **options: Any) -> Case:
    first, *others = (integers(column, bits) for column in zip(*rows, strict=True))
    by = tuple(others) or None
    name = options.pop("format", "")
    return Case(f"dot {kernel}", name, bits, "numpy", True, first, integers(expected, bits), by=by, **options)


def _both(kernel: str, bits: int, rows: list[Row], found: list[tuple[int, int]], **options: Any) -> Iterator[Case]:
    """The two calls of a result of two parts."""
    for name, place in ((kernel, 0), (f"{kernel} exponent", 1)):
        yield _case(name, bits, rows, (pair[place] for pair in found), **options)


def _of_carrier(bits: int, rng: np.random.Generator) -> Iterator[Case]:
    yield from _alignments(bits, rng)
    rows = [
        (n, drop) for n in _integers(bits, rng) for drop in (0, 1, *rng.integers(1, bits, 4), bits - 1, bits, 10**6)
    ]
    rows += [(n, drop) for n in (-9, -8, -7, -5, -4, -2, -1, 1, 3, 7, 9) for drop in range(6)]
    yield _case("cut", bits, rows, (n >> min(int(d), 99) for n, d in rows), rounding="toward_negative")
    toward_zero = ((abs(n) >> min(int(d), 99)) * (1 if n > 0 else -1) for n, d in rows)
    yield _case("cut", bits, rows, toward_zero, rounding="toward_zero")
    yield from _settling(bits, rng)
    for name, to in FORMATS.items():
        if to.p <= KEPT[bits]:
            yield from _keeping(name, bits, rng)


def _drawn(digits: int, rng: np.random.Generator) -> int:
    """An integer of so many digits, the first of them 1."""
    top = 1 << digits - 1
    return top + int.from_bytes(rng.bytes(10), "little") % top


def _integers(bits: int, rng: np.random.Generator) -> list[int]:
    """Integers of every length, both signs: powers of two, their neighbours, and any."""
    sizes = {(1 << k) + d for k in range(bits - 1) for d in (-1, 0, 1)} | {(1 << bits - 1) - 1}
    sizes |= {_drawn(k + 1, rng) for k in range(bits - 2) for _ in range(3)}
    sizes |= {(3 << k) + 1 for k in range(1, bits - 3, 3)}
    return sorted({sign * size for size in sizes for sign in (1, -1)})


def _alignments(bits: int, rng: np.random.Generator) -> Iterator[Case]:
    top = TRAILING[bits] + 1
    sizes = [0, 1, 2, 3, 5, (1 << top) - 1, (1 << top) - 2, 1 << top - 1, (1 << top - 1) + 1]
    sizes += [_drawn(k + 1, rng) for k in range(1, top) for _ in range(2)]
    rows = []
    for m in sizes:
        length = m.bit_length()
        places = {-length - 1, -length, -length + 1, -1, 0, 1, top - length - 1, top - length, -top, -top - 1, -top - 2}
        places |= {-top - 3, 1 - bits, -bits, -FAR[bits], -int(rng.integers(1, top))}
        rows += [(m, int(rng.integers(0, 2)), place) for place in places if place <= max(top - length, 0)]
    for place in (1, 2, 3, 9, top - 6):  # ties, and what is beside them
        shapes = [(k << place) + (1 << place >> 1) + d for k in (4, 5, 6, 7) for d in (-1, 0, 1)]
        rows += [(m, negative, -place) for m in shapes for negative in (0, 1)]
    for mode in MODES:
        expected = (rounded(m, -place, negative, mode) * (-1 if negative else 1) for m, negative, place in rows)
        yield _case("align", bits, rows, expected, rounding=mode)


def _settling(bits: int, rng: np.random.Generator) -> Iterator[Case]:
    exact = TRAILING[bits] + 1
    totals = [0, 0, *_integers(bits, rng)]
    rows = [(t, int(rng.integers(-300, 300)), i & 1) for i, t in enumerate(totals)]
    for digits in (None, KEPT[bits]):
        some = [row for row in rows if abs(row[0]) < 1 << exact or digits]
        yield from _both("settle", bits, some, [settled(*row, bits, digits) for row in some], count=digits)
    for word in WORDS[bits]:
        yield from _long_words(word, bits, rng)


def _in_words(word: int, length: int, bits: int, rng: np.random.Generator) -> list[Row]:
    """High and low words, an exponent, and the integer below 2**length that the words are."""
    totals = [0, 0, 1 << word, -1 << word, (1 << word) - 1, *_integers(length + 1, rng)]
    for k in range(word + 1, length):  # low words that are zero, or have a few bits, which a long sum loses
        high = _drawn(k - word + 1, rng) << word
        totals += [(high + low) * sign for low in (0, 1, 7, 8, 15, 16, 1 << word - 1) for sign in (1, -1)]
    most = 1 << min(bits - 3 - word, 13)
    words = []
    for i, t in enumerate(totals):
        moved = int(rng.integers(-most, most)) if i % 3 and abs(t) < 1 << length - 1 else 0
        words.append(((t >> word) - moved, (t & (1 << word) - 1) + (moved << word), int(rng.integers(-300, 300)), t))
    return words


def _long_words(word: int, bits: int, rng: np.random.Generator) -> Iterator[Case]:
    """Sums of two words of any split, and integers taken apart into such."""
    words = [(*row, i & 1) for i, row in enumerate(_in_words(word, word + bits - 1, bits, rng))]
    for digits in (None, TRAILING[bits]):  # the last is sticky
        some = [row for row in words if abs(row[3]) < 2 << TRAILING[bits] or digits]
        found = [settled(t, e, zero, bits, digits) for _, _, e, t, zero in some]
        rows = [(high, low, e, zero) for high, low, e, _, zero in some]
        yield from _both("settle_long", bits, rows, found, count=digits, format=str(word))
    rows = []
    for t in _integers(bits, rng)[::2]:
        room = bits - 1 + word - t.bit_length()
        places = {0, 1, word - 1, word, word + 1, room, *(int(n) for n in rng.integers(0, room + 1, 2))}
        rows += [(t, place) for place in places if place <= min(room, word + bits - 1)]
    rows += [(0, place) for place in (0, word, word + bits - 1)]
    found = [((t << place) >> word, (t << place) & ((1 << word) - 1)) for t, place in rows]
    for name, part in (("lifted", 0), ("lifted low", 1)):
        yield _case(name, bits, rows, (pair[part] for pair in found), format=str(word))


# ---- keep --------------------------------------------------------------------------------------------------------


def _keeping(name: str, bits: int, rng: np.random.Generator) -> Iterator[Case]:
    to = FORMATS[name]
    rows = _numbers(to, bits, rng)
    every, few = name in ("e5m2", "float32"), name in ("float32, flushed", "e5m2, up")
    some_modes = MODES if every else MODES[len(name) % 3 :: 4] if few else MODES[len(name) % 3 :: 3]
    modes = some_modes if to.p > 1 else ("toward_zero", "toward_positive", "ties_to_away")
    for mode in modes:
        found = [kept(row, to, bits, mode, None) for row in rows]
        yield from _both("keep", bits, [row[:4] for row in rows], found, format=name, rounding=mode)
    if not every:
        return
    for mode, count in RANDOM:
        some = [(*row[:4], number) for row in rows[::2] for number in _close(row, to, bits, count, rng)]
        found = [kept(row, to, bits, mode, count) for row in some]
        above = rng.integers(0, 2 ** (32 - count), len(some))  # bits above the low N do not count
        random = integers([row[4] + (int(a) << count) for row, a in zip(some, above, strict=True)], bits)
        yield from _both(
            "keep", bits, [row[:4] for row in some], found, format=name, rounding=mode, random=random, count=count
        )


def _close(row: Row, to: To, bits: int, count: int, rng: np.random.Generator) -> list[int]:
    """Random numbers about the one from which a number is rounded up, and any."""
    drop = min(max(row[2], to.emin) - to.p + 1 - row[2] + TRAILING[bits], LONGEST)
    least = 2**count - ((row[0] & ((1 << drop) - 1)) << count >> drop)
    return [n for n in (least - 1, least, int(rng.integers(0, 2**count))) if 0 <= n < 2**count]


def _numbers(to: To, bits: int, rng: np.random.Generator) -> list[Row]:
    """m, sign, exponent, 1 of an infinity and 2 of a NaN, and no random number."""
    top, room = TRAILING[bits] + 1, TRAILING[bits] + 1 - to.p
    rows: list[tuple[int, int]] = []
    ends = {to.emin, to.emin + 1, (to.emin + to.emax) // 2, to.emax - 1, to.emax, to.emax + 1, to.emax + 99}
    for exponent in ends | {to.emin - d for d in range(1, to.p + 5)}:
        drop = room + max(to.emin - exponent, 0)
        digits = top - drop  # that are kept
        heads = {1, 2, 3, 0} if digits < 1 else {1 << digits - 1, (1 << digits) - 1, (1 << digits) - 2}
        heads |= {_drawn(digits, rng) for _ in range(2)} if digits > 0 else set()
        heads |= {to.largest, to.largest - 1} if exponent == to.emax else set()
        low = 1 << drop
        tails = {0, 1, low // 2 - 1, low // 2, low // 2 + 1, low - 1, int(rng.integers(0, min(low, 2**62)))}
        shapes = {(head << drop) + tail for head in heads for tail in tails}
        shapes |= {1 << top - 1, (1 << top - 1) + 1, (1 << top) - 1}
        rows += [(m, exponent) for m in sorted(shapes) if m.bit_length() == top]
    rows += [(m, e) for m in (1 << top - 1, (1 << top) - 1) for e in (to.emin - 33, to.emin - 70, -FAR[bits])]
    rows += [(0, e) for e in (0, to.emin - 1, to.emin - to.p - 5, to.emax + 1, -FAR[bits])]
    made = [(m, negative, e, 0, 0) for m, e in rows for negative in (0, 1)]
    m, e = 3 << top - 2, (to.emin + to.emax) // 2
    return [*made, *((m, negative, e, kind, 0) for kind in (1, 2, 3) for negative in (0, 1))]


# ---- accumulate --------------------------------------------------------------------------------------------------


def _sums(rng: np.random.Generator) -> Iterator[Case]:
    """Accumulators of p digits and products of w, any number of places apart."""
    for p, w in ((14, 13), (14, 8), (13, 14), (13, 13), (12, 12), (11, 11), (11, 8), (8, 19), (8, 13), (8, 8), (3, 2)):
        shift = ACCUMULATOR + 1 - p
        rows = []
        for apart in (*range(-33, 34), -90, 90):  # the product's exponent less the accumulator's
            for _ in range(10):
                exponent = int(rng.integers(-60, 60))
                m = int(rng.choice(_shapes(p, rng))) << shift
                product = int(rng.choice(_shapes(w, rng))) >> int(rng.choice([0, 1]))
                signs = rng.choice([-1, 1], 2)
                rows.append((m * int(signs[0]), exponent, (product << 29 - w) * int(signs[1]), exponent + apart))
        for apart in range(-p - 3, 4):  # what cancels, or all but
            for m in _shapes(p, rng):
                near = (m << max(w - p, 0) >> max(p - w, 0)) + int(rng.integers(-1, 2))
                rows.append((m << shift, 7, -near << 29 - w, 7 + apart)) if 1 << w - 2 <= near < 1 << w else None
        rows += _ties(p, w, rng)
        nothing = -(1 << 20)
        some = int(rng.choice(_shapes(w, rng))) << 29 - w
        rows += [
            (0, -FAR[32], some, -40),
            (0, -FAR[32], -some, 40),
            (0, -FAR[32], 0, nothing),
            (0, nothing * 16, 0, -3),
        ]
        rows += [
            (sign * (1 << 30), 5, sign * product, place)
            for product, place in ((0, nothing), (some, -4), (some, 5), (some, 7))
            for sign in (1, -1)
        ]
        rows += [(sign << 29, 9, 0, nothing) for sign in (1, -1)]
        found = [accumulated(row, shift) for row in rows]
        for sticky in ("", "sticky") if 2 * p <= PRODUCT and w <= p else ("sticky",):
            yield from _both("accumulate", 32, rows, found, count=shift, format=sticky)


def _shapes(digits: int, rng: np.random.Generator) -> list[int]:
    """Integers of so many digits, the first of them 1."""
    top = 1 << digits - 1
    return [
        top,
        2 * top - 1,
        min(top + 1, 2 * top - 1),
        max(2 * top - 2, top),
        *(_drawn(digits, rng) for _ in range(3)),
    ]


def _ties(p: int, w: int, rng: np.random.Generator) -> list[Row]:
    """Products that end half a unit below an accumulator's last place, or next to that."""
    rows = []
    for below in range(1, w + 2):  # places between the product's last digit and that of the accumulator
        for m in _shapes(p, rng):
            half = 1 << below - 1
            for product in {half + d + (k << below) for d in (-1, 0, 1) for k in (0, 1, 2)}:
                if 0 < product < 1 << w:
                    up = max(w - 1 - product.bit_length(), 0)
                    # The units are 2**(7 - p + 1) and 2**(place + 2 - w).
                    product, place = product << up, 7 - p + 1 - below - 2 + w - up
                    rows += [(m * sign << 30 - p, 7, product * other << 29 - w, place)
                             for sign, other in ((1, 1), (1, -1), (-1, 1))]  # fmt: skip
    return rows


# ---- calls -------------------------------------------------------------------------------------------------------


def call_of(case: Case) -> Callable[[Any, Any, Any, Any], Any]:
    """The imported numfmt's function, as `judge.answer` calls it."""
    from numfmt._core import dot
    from numfmt.arithmetic_plans import FRAMES, SHORT

    carrier = {32: SHORT, 64: FRAMES["wide"]}[case.bits].carrier
    name, _, part = case.kernel.removeprefix("dot ").partition(" ")
    match name:
        case "align":
            mode = _mode(case)
            return lambda m, _, by, xp: dot.align(m, *by, mode, carrier.reach, xp=xp)
        case "cut":
            floors = case.rounding == "toward_negative"
            return lambda n, _, by, xp: dot.cut(n, *by, floors, carrier, xp=xp)
        case "accumulate":
            return lambda m, _, by, xp: _carried(dot.accumulate(m, *by, case.count, bool(case.format), xp=_with_bits(xp)), part, xp)
        case "keep":
            return _keep_call(case, carrier, part)
        case "lifted":
            return lambda t, _, by, xp: dot.lifted(t, *by, int(case.format), xp=xp)[part == "low"]
        case "settle_long":
            call = lambda high, low, *rest, xp: dot.settle_long(high, low, int(case.format), *rest, xp=xp)  # noqa: E731
            return lambda high, _, by, xp: _outcome(call(high, *by, carrier, xp=xp), part, case, xp)
    function = getattr(dot, name)
    return lambda a, _, by, xp: _outcome(function(a, *by, carrier, xp=xp), part, case, xp)


def _mode(case: Case) -> Any:
    from numfmt.plans import round_parameters
    from numfmt.rounding import Overflow, Rounding, Rule
    from numfmt.specials import Rules

    count = case.count if case.random is not None else 0
    return round_parameters(Rules(Rounding.parse(case.rounding), Overflow.SATURATE, Rule(), count or 0))


def _keep_call(case: Case, carrier: Any, part: str) -> Callable[[Any, Any, Any, Any], Any]:
    from numfmt._core import dot
    from numfmt._core.arithmetic import Outcome

    found, mode = FORMATS[case.format], _mode(case)
    largest = found.largest << carrier.trailing + 1 - found.p
    to = dot.Keep(found.p, found.emin, found.emax, largest, *found.beyond, found.infinity, found.flush)

    def call(m: Any, random: Any, by: Any, xp: Any) -> Any:
        negative, exponent, kind = by
        out = Outcome(negative, exponent, m, kind & 1 != 0, kind & 2 != 0, m * 0)
        number = dot.keep(out, random, carrier, to, mode, xp=xp)
        special = number.infinite | number.nan
        if part:
            return xp.where(special, m * 0, number.exponent)
        size = xp.where(special & (number.m != 0), m * 0 + 1, number.m)  # of infinity and NaN: that it is not zero
        return _packed(number._replace(m=size), number.signaling, case.bits, xp)

    return call


def _outcome(out: Any, part: str, case: Case, xp: Any) -> Any:
    m = out.m
    if part:
        return xp.where(m == 0, m, out.exponent)
    if case.count is not None:
        below = TRAILING[case.bits] + 1 - case.count
        rest = m & ((1 << below) - 1)
        out = out._replace(m=((m >> below) << 1) + xp.where(rest != 0, m * 0 + 1, m * 0))
    return _packed(out, out.flags != 0, case.bits, xp)


def _packed(number: Any, wrong: Any, bits: int, xp: Any) -> Any:
    """A number without its exponent, as `packed` has it; -1 where it claims what none of these results is."""
    m, top = number.m, TRAILING[bits] + 1
    special = xp.where(number.infinite, m * 0 + (2 << top), m * 0) + xp.where(number.nan, m * 0 + (4 << top), m * 0)
    return xp.where(wrong, m * 0 - 1, m + (number.negative << top) + special)


def _carried(result: tuple[Any, Any], part: str, xp: Any) -> Any:
    """A sum whose rounding carried into one more digit, as others."""
    m, exponent = result
    long = (m >= 2 << ACCUMULATOR) | (m <= -2 << ACCUMULATOR)
    return xp.where(long, exponent + 1, exponent) if part else xp.where(long, m >> 1, m)


def _with_bits(xp: Any) -> Any:
    """A namespace with what vectors have: absolute values, and the zeros above leading bits of 32."""
    if xp is STRICT:
        more = {"leading_zeros": lambda x: Strict(_leading_zeros(x.value), x.bits), "magnitude": _strict_magnitude}
    else:
        more = {"leading_zeros": _leading_zeros, "magnitude": np.abs}
    return SimpleNamespace(**vars(xp), **more)


def _strict_magnitude(x: Strict) -> Strict:
    return Strict(np.abs(x.value), x.bits)


def _leading_zeros(x: Any) -> Any:
    _, length = np.frexp((x.astype(np.int64) & 0xFFFFFFFF).astype(np.float64))
    return (32 - length).astype(x.dtype)


# ---- sweeps ------------------------------------------------------------------------------------------------------


def sweeps() -> Iterator[Case]:
    """Every call on other operands than those of `cases`, without expectations."""
    for seed in (101, 102, 103):
        for case in cases(seed):
            if case.engine == "numpy":
                yield replace(case, expected=None)
