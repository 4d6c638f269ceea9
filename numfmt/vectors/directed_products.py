"""Factors, dividends and addends whose exact results are ties, beside ties, and at both ends of a format.

Products near ties come from inverses modulo a power of two, quotients likewise, roots from square roots modulo a power
of two (Parks, Number-theoretic test generation for directed rounding, IEEE Transactions on Computers 49(7), 2000).
"""

from __future__ import annotations

from collections.abc import Iterator

from .directed_aim import Aim, minus, plain, targets
from .directed_codes import around, dyadic, stepped


def _near_products(aim: Aim) -> Iterator[tuple[int, int]]:
    """Significands whose product ends in decisive digits: b = tail / a modulo a power of two."""
    p = aim.p
    for _ in range(30 * aim.level):
        for digits in {p, aim.random.randint(1, p)}:
            a = aim.number(digits) | 1
            for dropped in {digits - 1, digits}:
                modulus = 1 << dropped
                for tail in (1, 3, -1, modulus // 2 + 1, modulus // 2 - 1, modulus // 2 + 2, modulus // 2 - 3):
                    rest = tail * pow(a, -1, modulus) % modulus if dropped else 0
                    b = (aim.number() >> dropped << dropped | rest) if dropped < p else rest
                    if b.bit_length() == p:
                        yield a, b


def _tied_products(aim: Aim) -> Iterator[tuple[int, int]]:
    """Odd significands whose product has p + 1 digits, so that it is a tie."""
    p = aim.p
    for _ in range(60 * aim.level):
        digits = aim.random.randint(1, p)
        u = aim.number(digits) | 1
        low, high = -(-(1 << p) // u), ((1 << (p + 1)) - 1) // u
        v = aim.random.randint(low, max(low, high)) | 1
        if (u * v).bit_length() == p + 1 and v.bit_length() <= p:
            yield u, v


def products(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """Ties, near ties and the ends, of normal and subnormal factors."""
    for made in (_near_products(aim), _tied_products(aim)):
        for a, b in made:
            short, full = aim.p - a.bit_length(), aim.p - b.bit_length()
            unit = aim.unit() - full
            yield aim.code(aim.sign() * a, aim.low), aim.code(aim.sign() * b, -aim.low + unit)
            yield aim.code(aim.sign() * a, aim.unit() + short), aim.code(aim.sign() * b, unit)
    yield from _by_division(aim)


def _by_division(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """b = target / a, cut, and the next one: results just below and just above each target, and upon it."""
    shift = 4 * aim.p
    for m, e in targets(aim):
        top = m.bit_length() - 1 + e
        lengths = [aim.p, 1, *(aim.between(1, aim.p) for _ in range(4))]
        factors = [aim.number(digits) for digits in lengths] + _divisors(m, aim.p)
        for a in factors:
            last = a.bit_length() - 1
            low, high = max(aim.low, top - last - aim.fmt.emax), min(aim.high, top - last - aim.low)
            for unit in {aim.between(low, high), aim.between(max(low, -aim.t - 2), min(high, 2)), low}:
                sign, other = aim.sign(), aim.sign()
                x = aim.code(sign * a, unit)
                for b in around(aim.fmt, (other * ((m << shift) // a), e - shift - unit), 0):
                    yield x, b


def _divisors(m: int, digits: int) -> list[int]:
    """A few divisors of the odd part whose cofactors have so many digits at most."""
    odd = m // (m & -m)
    found = [d for d in range(3, 2000, 2) if odd % d == 0 and (odd // d).bit_length() <= digits >= d.bit_length()]
    return found[:2] if odd.bit_length() > digits else []


# ---- quotients and roots ---------------------------------------------------------------------------------------


def quotients(aim: Aim) -> Iterator[tuple[int | None, int | None]]:
    """Near ties by inverses modulo 2^k, exact quotients, and the ends."""
    p = aim.p
    for _ in range(40 * aim.level):
        b = aim.number() | 1
        for k in {p - 1, p, p + 1}:
            for r in (1, -1, 3, -3):
                q = r * pow(b, -1, 1 << k) % (1 << k) if k else 0
                for start in {0, 1 << p, 1 << (p - 1), 3 << (p - 1)}:
                    whole = q + start
                    a, rest = divmod(whole * b - r, 1 << k)
                    if rest == 0 and 0 < a.bit_length() <= p and whole.bit_length() in (p, p + 1):
                        unit, other = aim.unit(), aim.unit()
                        yield aim.code(aim.sign() * a, unit), aim.code(aim.sign() * b, other)
        u = aim.random.randint(1, p)
        x, y = aim.number(u), aim.number(max(1, p - u))
        yield aim.code(aim.sign() * x * y, aim.unit()), aim.code(aim.sign() * y, aim.unit())
    for m, e in targets(aim):
        top = m.bit_length() - 1 + e
        for digits in (p, p, 1, aim.between(1, p), aim.between(1, p)):
            b = aim.number(digits)
            low, high = max(aim.low, aim.low - top - digits + 1), min(aim.high, aim.fmt.emax - top - digits)
            for unit in {low, aim.between(low, high), high}:
                sign, other = aim.sign(), aim.sign()
                divisor = aim.code(other * b, unit)
                yield from ((a, divisor) for a in around(aim.fmt, (sign * m * b, e + unit), 0))


def _square_roots(c: int, k: int) -> list[int]:
    """Odd numbers below 2^k whose squares are c modulo 2^k; c is 1 modulo 8."""
    x = 1
    for i in range(3, k):
        if (x * x - c) >> i & 1:
            x += 1 << (i - 1)
    modulus = 1 << k
    return sorted({x % modulus, -x % modulus, (x + modulus // 2) % modulus, (modulus // 2 - x) % modulus})


def roots(aim: Aim) -> Iterator[tuple[int | None]]:
    """Squares, values beside squares of midpoints, and the nearest ones to ties there are."""
    p = aim.p
    for _ in range(60 * aim.level):
        for digits in {p, (p + 1) // 2, max(1, p // 2)}:
            m = aim.number(digits)
            e = aim.random.randint(-3, 3)
            for j in (0, 1, -1, 4, 3, 5):
                q = 8 * m + j
                yield from ((c,) for c in around(aim.fmt, (q * q, 2 * (e - digits - 3))))
    for k in {p, p + 1, p + 2}:
        for c in (-7, 17, -15, 33, -23, 9, 25, -31, 41, 1):
            for q in _square_roots(c % (1 << k), k):
                a = q * q - c >> k
                for e in (k & 1, (k & 1) - 2, (k & 1) + 2):
                    yield (aim.code(a, -p - (p + k & 1) + e),)
                    yield (aim.code(a, -p - (p + k & 1) + e + 1),)
    for e in range(aim.low, aim.high, max(1, (aim.high - aim.low) // (64 * aim.level))):
        yield from ((aim.code(m, e),) for m in (aim.number(), (1 << p) - 1, 1 << (p - 1), (1 << (p - 1)) + 1))


# ---- three operands --------------------------------------------------------------------------------------------


def fused(aim: Aim) -> Iterator[tuple[int | None, int | None, int | None]]:
    """Addends at every distance from a product, that cancel it, that turn a tie into something above or below it."""
    p, fmt = aim.p, aim.fmt
    pairs = [*_near_products(aim), *_tied_products(aim)]
    aim.random.shuffle(pairs)
    for a, b in pairs[: 400 * aim.level]:
        unit, other = aim.unit(), aim.unit()
        sign = aim.sign()
        x, y = aim.code(sign * a, unit), aim.code(b, other)
        m, e = sign * a * b, unit + other
        top = m.bit_length() - 1 + e
        yield x, y, 0
        for c in around(fmt, (-m, e), 1):  # cancellation: the low digits remain
            yield x, y, c
        for apart in {aim.random.randint(-2 * p - 4, p + 5) for _ in range(5)} | {-p - 2, -2 * p - 2, p + 3}:
            c = aim.random.choice((1 << (p - 1), (1 << p) - 1, aim.number(), aim.number() | 1))
            yield x, y, aim.code(aim.sign() * c, top + apart - p + 1)
        for sticky in (aim.low, max(aim.low, top - 2 * p - 3), max(aim.low, top - p - 3)):
            yield x, y, aim.code(aim.sign(), sticky)
    yield from _fused_targets(aim)
    yield from _fused_ends(aim)


def _fused_targets(aim: Aim) -> Iterator[tuple[int | None, int | None, int | None]]:
    """The addend that is missing to a target, for products of all sizes."""
    wanted = targets(aim)
    for m, e in wanted:  # the target's first digits as addend, the others as product
        for sign in (1, -1) if aim.fmt.signed else (1,):
            for c in around(aim.fmt, (sign * m, e), 0):
                first = dyadic(aim.fmt, c)
                assert first is not None
                low = min(e, first[1])
                rest = (sign * m << (e - low)) - (first[0] << (first[1] - low))
                odd, twos = (rest // (rest & -rest), (rest & -rest).bit_length() - 1) if rest else (0, 0)
                unit = low + twos
                half = aim.between(max(aim.low, unit - aim.high), min(aim.high, unit - aim.low))
                yield aim.code(odd, half), aim.code(1, unit - half), c
    aim.random.shuffle(wanted)
    for m, e in wanted[: 300 * aim.level]:
        for _ in range(3):
            digits, more = aim.random.randint(1, aim.p), aim.random.randint(1, aim.p)
            a, b = aim.number(digits), aim.number(more)
            top = m.bit_length() + e
            exponent = top + aim.random.randint(-aim.p - 3, 2) - digits - more
            unit = aim.between(max(aim.low, exponent - aim.high), min(aim.high, exponent - aim.low))
            sign, other = aim.sign(), aim.sign()
            low = min(e, exponent)
            missing = (sign * m << (e - low)) - (other * a * b << (exponent - low))
            x, y = aim.code(other * a, unit), aim.code(b, exponent - unit)
            for c in around(aim.fmt, (missing, low), 0):
                yield x, y, c


def _fused_ends(aim: Aim) -> Iterator[tuple[int | None, int | None, int | None]]:
    """Products beyond the range that the addend brings back, and products below it."""
    p, fmt = aim.p, aim.fmt
    largest = plain(aim, fmt.max_code)
    for _ in range(40 * aim.level):
        a, b = aim.number(), aim.number()
        unit = aim.between(max(aim.low, -aim.t), aim.high)
        sign, other = aim.sign(), aim.sign()
        for over in (0, 1):
            y = aim.code(b, fmt.emax + over - (p - 1) - unit - (p - 1))
            for c in (largest, stepped(fmt, largest, -1), aim.code(aim.number(), aim.high)):
                yield aim.code(sign * a, unit), y, c if sign < 0 else minus(aim, c)
        x = aim.code(other * aim.number(aim.random.randint(1, p)), aim.low)
        under = aim.code(sign * aim.number(), -p - aim.random.randint(0, p))
        yield x, under, aim.code(aim.sign() * aim.random.randint(1, (1 << aim.t) or 1), aim.low)
        yield x, under, aim.code(aim.sign() * aim.number(), aim.low)
