"""Operands of scalar operations that make the exact intermediate result lie where rounding decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .directed_aim import Aim, minus, plain, tails
from .directed_codes import around, boundaries, dyadic, exact_code, floor_code, interesting, special_codes, stepped
from .directed_products import fused, products, quotients, roots

if TYPE_CHECKING:
    from .functions import Function

Row = tuple[int, ...]


def rows(function: Function, level: int, random: Random) -> Iterator[Row]:
    """Rows of operand codes aimed at the classes of the function; some come twice."""
    source, to = function.sources[0], function.to if function.to is not None else function.sources[0]
    operation = function.operation
    count = len(function.sources)
    yield from _grid(function.sources, level, random)
    if operation in ("convert", "from_integer"):
        yield from ((c,) for c in conversions(source, to, level, random))
    elif operation in ("to_integer", "round_to_integral"):
        yield from ((c,) for c in to_integers(source, function.integer, level, random))
    elif isinstance(source, FloatFormat) and operation in _MAKERS:
        made = _MAKERS[operation](Aim(source, level, random))
        yield from (row for row in made if None not in row)  # type: ignore[misc]
    elif isinstance(source, FixedFormat) and operation in ("mul", "mac"):
        yield from _fixed_products(source, count, level, random)
    elif isinstance(source, FloatFormat) and count == 2:
        yield from _neighbours(source, level, random)


def _grid(sources: tuple[Format, ...], level: int, random: Random) -> Iterator[Row]:
    """Interesting codes, each with each where that is not too many; of three, some."""
    codes = [interesting(fmt, level, random) for fmt in sources]
    limit = 20_000 * level
    total = 1
    for column in codes:
        total *= len(column)
    if len(codes) == 1:
        yield from ((c,) for c in codes[0])
    elif len(codes) == 2 and total <= limit:
        yield from ((a, b) for a in codes[0] for b in codes[1])
    else:
        for _ in range(limit // 4):
            yield tuple(random.choice(column) for column in codes)
        few = [_few(fmt) for fmt in sources]
        for row in product(*few):  # all specials meet each other
            if len(few) == 2 or random.random() < 0.3 * level:
                yield row
        for _ in range(limit // 16):
            yield tuple(random.choice(s if random.random() < 0.6 else c) for s, c in zip(few, codes, strict=True))


def _few(fmt: Format) -> list[int]:
    """Specials, zeros, one, and the ends."""
    magnitudes = [0, floor_code(fmt, (1, 0)), floor_code(fmt, (1, 1 << 20))]
    if isinstance(fmt, FloatFormat):
        magnitudes += [fmt.min_code, floor_code(fmt, (1, fmt.emin))]
    sign = 1 << (fmt.bits - 1) if fmt.min < 0 else 0
    return sorted({m ^ s for m in magnitudes for s in (0, sign)} | set(special_codes(fmt)))


def _fixed_products(fmt: FixedFormat, count: int, level: int, random: Random) -> Iterator[Row]:
    """Factors whose product ends in digits that decide, or lies at an end of the range; addends of a step or none."""
    digits, cut = fmt.bits - fmt.signed, max(0, fmt.fraction_bits)
    for _ in range(60 * level):
        a = random.getrandbits(random.randint(1, digits)) | 1
        pairs = [(a, tail * pow(a, -1, 1 << cut) % (1 << cut)) for tail in tails(cut)] if cut else []
        zeros = random.randint(0, max(0, cut - 1))
        pairs.append((a << zeros, (random.getrandbits(digits) | 1) << max(0, cut - 1 - zeros)))
        large = a | 1 << random.randint(max(0, min(cut, digits - 1)), digits - 1)
        for end in (fmt.max_integer, fmt.max_integer + 1, -fmt.min_integer + 1):
            for eighth in (0, 4, 7):
                last = ((end << cut) + eighth * (1 << cut) // 8) // large
                pairs += [(large, last), (large, last + 1)]
        for m, n in pairs:
            high = random.getrandbits(digits) >> cut << cut if n < 1 << cut and random.random() < 0.7 else 0
            for sign in (1, -1):
                factors = (sign * m, random.choice((1, -1)) * (n | high))
                if all(fmt.min_integer <= f <= fmt.max_integer for f in factors):
                    codes = [floor_code(fmt, (f, -fmt.fraction_bits)) for f in factors]
                    addend = random.choice((0, 0, 1, -1, 2)) if fmt.signed else random.choice((0, 1, 2))
                    yield (*codes, floor_code(fmt, (addend, -fmt.fraction_bits)))[:count]


def _neighbours(fmt: FloatFormat, level: int, random: Random) -> Iterator[Row]:
    """Pairs of equal, opposite and neighbouring codes."""
    for code in interesting(fmt, level, random):
        for step in (-2, -1, 0, 1, 2):
            other = stepped(fmt, code, step)
            if other is not None and code & fmt.magnitude_mask <= fmt.max_code:
                yield (code, other)
                yield (code, other ^ fmt.sign_mask)
        yield (code, code)


# ---- one operand -----------------------------------------------------------------------------------------------


def conversions(source: Format, to: Format, level: int, random: Random) -> Iterator[int]:
    """Codes of the source at every boundary of the target, and just beside it: one step, and one digit farther up."""
    points = boundaries(to, level, random)
    signs = (1, -1) if source.min < 0 else (1,)
    for m, e in points:
        for sign in signs:
            yield from around(source, (sign * m, e))
    if isinstance(source, FixedFormat) and isinstance(to, FloatFormat):
        yield from _long_integers(source, to, level, random)
    if isinstance(source, FloatFormat) and not isinstance(to, CodebookFormat):
        for m, e in points[:: 1 if level > 1 else 7]:  # one digit somewhere below: sticky alone
            code, up = exact_code(source, (m, e)), random.randrange(max(1, source.trailing_bits - 4))
            if code is not None and (more := stepped(source, code, 1 << up)) is not None:
                yield more | (source.sign_mask if random.random() < 0.5 and not source.integer_bit else 0)


def _long_integers(source: FixedFormat, to: FloatFormat, level: int, random: Random) -> Iterator[int]:
    """Integers of every length whose low digits decide."""
    for dropped in range(source.bits - to.precision + 1):
        for _ in range(2 * level):
            kept = random.choice((random.getrandbits(to.precision), (1 << to.precision) - 1)) | 1 << to.trailing_bits
            for tail in tails(dropped):
                for low in (0, 1):
                    for sign in (1, -1) if source.signed else (1,):
                        n = sign * ((kept ^ low) << dropped | tail)
                        if source.min_integer <= n <= source.max_integer:
                            yield from around(source, (n, -source.fraction_bits), 0)


def to_integers(source: Format, integer: str | None, level: int, random: Random) -> Iterator[int]:
    """Codes at integers, halves and the ends of an integer type."""
    whole = {0, 1, 2, 3, 4, 5, 7, 8, 126, 127, 128, 254, 255, 256}
    for bits in (8, 16, 32, 64, 11, 24, 53):
        whole |= {2 ** (bits - 1) + i for i in (-2, -1, 0, 1)} | {2**bits + i for i in (-2, -1, 0, 1)}
    whole |= {random.getrandbits(random.randint(1, 62)) for _ in range(40 * level)}
    for n in sorted(whole):
        for eighth in (-4, -3, -1, 0, 1, 3, 4, 5):
            for sign in (1, -1) if source.min < 0 else (1,):
                yield from around(source, (sign * (8 * n + eighth), -3))


# ---- sums ------------------------------------------------------------------------------------------------------


def sums(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """Every difference of exponents with every decisive tail, cancellation, both ends."""
    p, ones = aim.p, (1 << aim.p) - 1
    units = sorted({aim.low, aim.low + 1, aim.unit(), aim.unit(), aim.high - 1, aim.high})
    for apart in range(p + 5):
        for _ in range(aim.level * 3 if p < 30 else aim.level):
            for unit in units:
                for tail in tails(min(apart, p)):
                    a = aim.random.choice((aim.number(), aim.number() | 1, ones, ones - 1, 1 << (p - 1)))
                    b = (aim.number() >> min(apart, p) << min(apart, p)) | tail
                    sign = aim.sign()
                    first = aim.code(sign * a, unit)
                    yield from ((first, aim.code(s * b, unit - apart)) for s in ((1, -1) if aim.fmt.signed else (1,)))
    for _ in range(20 * aim.level):
        for unit in units:
            a = aim.random.choice((aim.number(), ones, 1 << (p - 1)))
            sign = aim.sign()
            yield from ((aim.code(sign * a, unit), aim.code(sign * (k - a), unit)) for k in range(-3, 4))
            start = aim.code(sign << (p - 1), unit)
            yield from ((start, aim.code(-sign * (2 * (1 << (p - 1)) - k), unit - 1)) for k in range(4))
    largest = aim.fmt.max_code
    for steps in range(4):
        end = stepped(aim.fmt, plain(aim, largest), -steps)
        for eighths in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16):
            for part in around(aim.fmt, (eighths, aim.high - 3)):
                yield from ((end, part), (minus(aim, end), minus(aim, part)), (minus(aim, end), part))


def differences(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """As sums, the second operand negated."""
    return ((a, minus(aim, b)) for a, b in sums(aim))


# ---- the others ------------------------------------------------------------------------------------------------


def remainders(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """x at integers and halves of y, and one step beside; exponents far apart."""
    p = aim.p
    for _ in range(60 * aim.level):
        digits = aim.random.randint(1, p)
        y, unit = aim.number(digits), aim.unit()
        n = aim.number(aim.random.randint(1, p - digits + 1))
        for twice in (2 * n, 2 * n + 1, 2 * n + 2, 1, 3, 5):
            for x in around(aim.fmt, (aim.sign() * twice * y, unit - 1)):
                yield x, aim.code(aim.sign() * y, unit)
        far = aim.random.randint(aim.low, aim.high)
        yield aim.code(aim.sign() * aim.number(), far), aim.code(aim.sign() * y, aim.random.randint(aim.low, far))


def scalings(aim: Aim) -> Iterator[tuple[int | None, int]]:
    """Shifts to both ends and to every length of subnormal."""
    fmt, mask = aim.fmt, (1 << 32) - 1
    for code in interesting(fmt, aim.level, aim.random):
        m, e = dyadic(fmt, code) or (1, 0)
        top = m.bit_length() - 1 + e
        shifts = {0, 1, -1, aim.p, -aim.p, 2**31 - 1, -(2**31), fmt.emax - fmt.emin + 3 * aim.p}
        shifts |= {fmt.emax - top + i for i in (-1, 0, 1, 2)}
        shifts |= {fmt.emin - top - i for i in (-1, 0, 1, 2, 3, aim.t - 1, aim.t, aim.t + 1, aim.t + 2, aim.t + 5)}
        for n in sorted(shifts):
            yield code, n & mask


_MAKERS: dict[str, Callable[[Aim], Iterator[tuple[int | None, ...]]]] = {
    "add": sums,
    "sub": differences,
    "mul": products,
    "div": quotients,
    "sqrt": roots,
    "fma": fused,
    "rem": remainders,
    "scale_b": scalings,
}
