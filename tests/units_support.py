"""What the tests of dot-product units share: operands directed at their corners, and the comparison with spec.units.

Operands are codes. `cases(unit)` has, for lengths around a step, rows of every category of CATEGORIES.
"""

import itertools
from typing import NamedTuple

import numpy as np

import numfmt as nf
from spec import units as judge
from spec.oracle import encode, value


class Draw(NamedTuple):
    """Codes of a format."""

    fmt: nf.FloatFormat | nf.FixedFormat
    rng: np.random.Generator

    @property
    def is_float(self):
        return isinstance(self.fmt, nf.FloatFormat)

    def exponents(self):
        """The least and the largest floor(log2|x|) of finite nonzero values."""
        fmt = self.fmt
        if not self.is_float:
            return -fmt.fraction_bits, fmt.bits - fmt.signed - 1 - fmt.fraction_bits
        least = judge.floor_log2(fmt.min_subnormal or fmt.min_normal)
        return least, judge.floor_log2(fmt.max)

    def any(self, shape):
        """Any finite ones."""
        return self.finite(self.rng.integers(0, 2**self.fmt.bits - 1, shape, np.uint64, endpoint=True))

    def finite(self, codes):
        """These, and 1 (or a small integer) in the place of those that are no finite number."""
        if not self.is_float:
            return codes
        one = np.uint64(encode(1, judge.format_of(self.fmt)))
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(nf.decode(codes.astype(code_dtype(self.fmt)), self.fmt).astype(np.float64)), codes, one)

    def at(self, exponents, trailing=None, negative=None):
        """Values of these exponents, clipped to the format's; subnormals where the exponents are theirs."""
        fmt, rng = self.fmt, self.rng
        exponents = np.clip(exponents, *self.exponents())
        if not self.is_float:
            size = (1 << np.clip(exponents + fmt.fraction_bits, 0, fmt.bits - fmt.signed - 1)).astype(np.int64)
            whole = size + rng.integers(0, size) if trailing is None else 2 * size - 1
            whole = np.where(self._negative(whole.shape, negative), -whole, whole) if fmt.signed else whole
            return whole.astype(np.uint64) & np.uint64(2**fmt.bits - 1)
        t = fmt.trailing_bits
        field = np.maximum(exponents + fmt.bias, 0).astype(np.uint64)
        any_ = rng.integers(0, 2**t, exponents.shape, np.uint64)
        shape = np.array([0, 1, 2**t - 1, 2**t // 2, 2**t // 2 + 1], np.uint64)[rng.integers(0, 5, exponents.shape)] % np.uint64(2**t)
        digits = np.where(rng.random(exponents.shape) < 0.5, any_, shape) if trailing is None else trailing
        digits = np.asarray(digits, np.uint64)
        below = np.minimum(np.maximum(1 - fmt.bias - exponents, 0), 63).astype(np.uint64)  # binades below the normals
        digits = np.where(field > 0, digits, (digits | np.uint64(2**t)) >> below)
        codes = (field << np.uint64(t)) | digits
        if fmt.signed:
            codes |= self._negative(exponents.shape, negative).astype(np.uint64) << np.uint64(fmt.bits - 1)
        return self.finite(codes)

    def _negative(self, shape, negative):
        return self.rng.integers(0, 2, shape) == 1 if negative is None else np.broadcast_to(negative, shape)

    def corners(self):
        """Zeros, the ends of subnormals and normals, one, of both signs; and all that are no finite number."""
        fmt = self.fmt
        if not self.is_float:
            found = [0, 1, 2**fmt.bits - 1, 2 ** (fmt.bits - 1), 2 ** (fmt.bits - 1) - 1, 2]
            return np.array([code % 2**fmt.bits for code in found], np.uint64)
        t, top = fmt.trailing_bits, 2**fmt.exponent_bits - 1
        sizes = [0, 1, 2**t - 1, 2**t, top // 2 << t, (top << t) - 1, top << t, (top << t) + 1, (top + 1 << t) - 1]
        signs = (0, 2 ** (fmt.bits - 1)) if fmt.signed else (0,)
        return np.unique(np.array([(size | sign) % 2**fmt.bits for size in sizes for sign in signs], np.uint64))

    def corner(self, shape, nonfinite=False):
        codes = self.corners()
        return codes[self.rng.integers(0, codes.size, shape)] if nonfinite else self.finite(codes[self.rng.integers(0, codes.size, shape)])

    def zero(self, shape):
        """Zeros of either sign, as far as the format has them."""
        if not self.is_float or not self.fmt.signed or not self.fmt.has_negative_zero:
            return np.zeros(shape, np.uint64)
        return self.rng.integers(0, 2, shape).astype(np.uint64) << np.uint64(self.fmt.bits - 1)

    def signed(self, codes, negative):
        """Codes of these magnitudes, of these signs if the format has signs."""
        if not self.is_float or not self.fmt.signed:
            return codes
        sign = np.uint64(2 ** (self.fmt.bits - 1))
        return self.finite(np.where(negative, codes | sign, codes & ~sign))

    def negated(self, codes):
        if not self.is_float:
            return (-codes.astype(np.int64)).astype(np.uint64) & np.uint64(2**self.fmt.bits - 1)
        return self.finite(codes ^ np.uint64(2 ** (self.fmt.bits - 1))) if self.fmt.signed else codes


def code_dtype(fmt):
    return np.dtype(f"uint{next(bits for bits in (8, 16, 32, 64) if fmt.bits <= bits)}")


class Draws(NamedTuple):
    """For a, b and the accumulator of a unit, so many rows of length k."""

    unit: nf.DotUnit
    a: Draw
    b: Draw
    c: Draw
    shape: tuple[int, int]

    @property
    def rng(self):
        return self.a.rng

    def products(self, exponents, trailing=(None, None), negative=None):
        """Codes of a and b whose exponents have these sums, as far as there are such; with these trailing significands."""
        (low_a, high_a), (low_b, high_b) = self.a.exponents(), self.b.exponents()
        low, high = np.maximum(low_a, exponents - high_b), np.minimum(high_a, exponents - low_b)
        first = self.rng.integers(np.minimum(low, high), np.maximum(low, high), endpoint=True)
        first = np.clip(first, low_a, high_a)
        return self.a.at(first, trailing[0], negative), self.b.at(exponents - first, trailing[1], negative)

    def product_exponents(self):
        (low_a, high_a), (low_b, high_b) = self.a.exponents(), self.b.exponents()
        return low_a + low_b, high_a + high_b

    def reach(self):
        """How many digits below the largest exponent count."""
        if self.unit.fraction is not None:
            return self.unit.fraction
        return self.c.fmt.precision if self.c.is_float else self.c.fmt.bits

    def centre(self, below=0):
        """One exponent a row that products and accumulator may have, with so many more below it if there are."""
        low, high = self.product_exponents()
        low, high = max(low, self.c.exponents()[0]), min(high, self.c.exponents()[1])
        return self.rng.integers(min(low + below, high), max(low, high), (self.shape[0], 1), endpoint=True)

    def pick(self, values, shape):
        return np.asarray(values)[self.rng.integers(0, len(values), shape)]


# ---- categories: codes of a, b and c ------------------------------------------------------------------------------


def random_codes(d):
    return d.a.any(d.shape), d.b.any(d.shape), d.c.any(d.shape[0])


def close(d):
    """Exponents of products and accumulator within a few of one another."""
    centre = d.centre()
    exponents = centre + d.rng.integers(-3, 3, d.shape, endpoint=True)
    return *d.products(exponents), d.c.at(centre[:, 0] + d.rng.integers(-3, 5, d.shape[0]))


def swamped(d):
    """One large summand; the others end at, just above and just below the last digit that counts.

    In half of the rows the opposite of the large one is there too, so that only alignment loses the others.
    """
    reach, all_rows = d.reach(), np.arange(d.shape[0])
    centre = d.centre(reach + 2)
    exponents = centre - reach + d.rng.integers(-3, 3, d.shape)
    lane = d.rng.integers(0, d.shape[1], d.shape[0])
    exponents[all_rows, lane] = centre[:, 0]
    if d.unit.group and d.unit.scales:
        return opposite_groups(d)
    a, b = d.products(exponents)
    if d.shape[1] > 2:
        some = all_rows[d.rng.random(d.shape[0]) < 0.5]
        other = (lane + d.pick([1, 2], d.shape[0])) % d.shape[1]
        a[some, other[some]], b[some, other[some]] = d.a.negated(a[some, lane[some]]), b[some, lane[some]]
    c = d.c.at(centre[:, 0] + d.pick([0, -reach - 2, -reach - 1, -reach, -reach + 1, reach, reach + 1], d.shape[0]))
    return a, b, np.where(d.rng.random(d.shape[0]) < 0.3, d.c.zero(d.shape[0]), c)


def opposite_groups(d):
    """The first two groups cancel; `scales_of` gives the others scales below the last digit that counts."""
    a, b, size = d.a.any(d.shape), d.b.any(d.shape), d.unit.group
    if d.shape[1] > 2 * size:
        a[:, size : 2 * size], b[:, size : 2 * size] = d.a.negated(a[:, :size]), b[:, :size]
    return a, b, d.c.zero(d.shape[0])


def ties(d):
    """The accumulator, half of its last digit, and one product more, or less, that is small or lies too far below."""
    if not d.c.is_float:
        return close(d)
    precision, ones = nf.get_format(d.unit.accumulator).precision, [0 if draw.is_float else None for draw in (d.a, d.b)]
    deep = [n + extra for n in (d.unit.fraction, d.unit.late_fraction) if n for extra in (0, 1)] + [2 * precision]
    centre = np.minimum(d.centre(precision + min(deep) // 2), d.c.exponents()[1])[:, 0]
    negative = d.rng.random(d.shape[0]) < 0.5
    a, b = d.a.zero(d.shape), d.b.any(d.shape)
    a[:, 0], b[:, 0] = d.products(centre - precision, ones)
    if d.shape[1] > 1:
        a[:, 1], b[:, 1] = d.products(centre - d.pick(deep, d.shape[0]), ones)
    for codes, draw in ((a, d.a), (b, d.b)):  # most have the accumulator's sign, and most accumulators are even
        codes[:, :2] = draw.signed(codes[:, :2], np.where(d.rng.random(d.shape)[:, :2] < 0.8, (draw is d.a) & negative[:, None], True))
    order = np.argsort(d.rng.random(d.shape), axis=1)
    c = d.c.at(centre, negative=negative) & ~d.pick(np.array([0, 1, 1], np.uint64), d.shape[0])
    return np.take_along_axis(a, order, 1), np.take_along_axis(b, order, 1), c


def carries(d):
    """The largest significands of one exponent and one sign."""
    (low_a, high_a), (low_b, high_b) = d.a.exponents(), d.b.exponents()
    ea, eb = d.rng.integers(low_a, high_a, (d.shape[0], 1), endpoint=True), d.rng.integers(low_b, high_b, (d.shape[0], 1), endpoint=True)
    ea, eb = np.broadcast_to(ea, d.shape), np.broadcast_to(eb, d.shape)
    ones = [2**draw.fmt.trailing_bits - 1 if draw.is_float else 1 for draw in (d.a, d.b)]
    c = d.c.at(ea[:, 0] + eb[:, 0] + d.rng.integers(-2, 4, d.shape[0]), negative=False)
    return d.a.at(ea, ones[0], False), d.b.at(eb, ones[1], False), c


def cancelling(d):
    """Every product has its opposite somewhere in the row; now and then a small one is left, or the accumulator."""
    a, b, c = close(d)
    half = d.shape[1] // 2
    a[:, half : 2 * half], b[:, half : 2 * half] = d.a.negated(a[:, :half]), b[:, :half]
    a[:, 2 * half :] = d.a.zero((d.shape[0], d.shape[1] - 2 * half))
    order = np.argsort(d.rng.random(d.shape), axis=1)
    left = d.rng.random(d.shape[0]) < 0.5
    return np.take_along_axis(a, order, 1), np.take_along_axis(b, order, 1), np.where(left, d.c.zero(d.shape[0]), c)


def zeros(d):
    """Zeros of both signs, or of one; some rows have one product that is none, or subnormals in the place of zeros."""
    a, b, c = d.a.zero(d.shape), d.b.any(d.shape), d.c.zero(d.shape[0])
    some, one = d.rng.random(d.shape[0]) < 0.2, d.a.any(d.shape[0])
    a[some, 0] = one[some]
    least = d.rng.random(d.shape[0]) < 0.3
    a[least] = d.a.at(np.full(d.shape, d.a.exponents()[0]))[least]
    alike = d.rng.random(d.shape[0]) < 0.5
    a[alike], b[alike] = a[alike, :1], b[alike, :1]
    small = d.c.at(d.c.exponents()[0] + d.rng.integers(0, 3, d.shape[0]))
    c = np.where(d.rng.random(d.shape[0]) < 0.25, small, c)
    below = d.rng.random(d.shape[0]) < 0.3  # all of them -0
    a[below], b[below] = d.a.signed(np.zeros_like(a), True)[below], d.b.signed(b, False)[below]
    return a, b, np.where(below, d.c.signed(np.zeros_like(c), True), c)


def specials(d):
    """A corner of the format, most of them no finite numbers, in one or two lanes or in the accumulator."""
    a, b, c = close(d)
    rows = np.arange(d.shape[0])
    for draw, codes, share in ((d.a, a, 0.7), (d.b, b, 0.5), (d.a, a, 0.3)):
        chosen = rows[d.rng.random(d.shape[0]) < share]
        codes[chosen, d.rng.integers(0, d.shape[1], chosen.size)] = draw.corner(chosen.size, nonfinite=True)
    return a, b, np.where(d.rng.random(d.shape[0]) < 0.3, d.c.corner(d.shape[0], nonfinite=True), c)


def corners(d):
    return d.a.corner(d.shape), d.b.corner(d.shape), d.c.corner(d.shape[0])


def large(d):
    """Sums around the largest accumulator."""
    top = min(d.c.exponents()[1], d.product_exponents()[1])
    exponents = top + 1 - d.rng.integers(0, 5, (d.shape[0], 1)) - d.rng.integers(0, 3, d.shape)
    a, b = d.products(exponents)
    if d.c.is_float:
        most = np.uint64(encode(d.c.fmt.max, judge.format_of(d.c.fmt)))
        sign = d.rng.integers(0, 2, d.shape[0]).astype(np.uint64) << np.uint64(d.c.fmt.bits - 1)
        near = most - d.rng.integers(0, 3, d.shape[0]).astype(np.uint64) | sign
    else:
        near = d.c.corner(d.shape[0])
    return a, b, np.where(d.rng.random(d.shape[0]) < 0.7, near, d.c.at(np.full(d.shape[0], top)))


def tiny(d):
    """Sums around the smallest accumulators."""
    low = max(d.c.exponents()[0], d.product_exponents()[0])
    exponents = low + d.rng.integers(-3, 4, (d.shape[0], 1)) + d.rng.integers(-2, 3, d.shape)
    return *d.products(exponents), d.c.at(low + d.rng.integers(-1, 6, d.shape[0]))


def vanishing(d):
    """A sum of two products that is the smallest accumulator, or just above half of it, if the least E keeps its last digit."""
    if d.unit.zero_exponent is None or d.shape[1] < 2 or not d.a.is_float:
        return tiny(d)
    nearest = d.unit.rounding.value.startswith("ties")
    least = judge.floor_log2(judge.format_of(d.unit.accumulator).magnitude(1)) - nearest
    last = d.unit.zero_exponent - d.unit.fraction - d.pick([0, 1, 2], d.shape[0])
    count = np.ones_like(last) if nearest else np.clip(least - last, 1, d.a.fmt.precision)  # leading ones
    ones = ((1 << count) - 1 << (d.a.fmt.precision - count)) % 2**d.a.fmt.trailing_bits
    a, b = d.a.zero(d.shape), d.b.any(d.shape)
    a[:, 0], b[:, 0] = d.products(least - (count > 1), (ones, 0), False)
    a[:, 1], b[:, 1] = d.products(last, (0, 0), False)
    return a, b, d.c.zero(d.shape[0])


CATEGORIES = (random_codes, close, swamped, ties, carries, cancelling, zeros, specials, corners, large, tiny, vanishing)
OFTEN = (swamped, ties, zeros, specials)  # twice as many rows


# ---- cases --------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Rows of operands of one length, as codes, and the category of each."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    formats: tuple[str, str]
    scales: tuple[np.ndarray, np.ndarray] | None = None
    random: np.ndarray | None = None
    random_bit_count: int = 32
    categories: tuple[str, ...] = ()


def lengths(unit):
    """One product, a step and one more or less, two steps and three more; the same of promotion."""
    step = unit.length or 6
    found = {1, step - 1, step, step + 1, 2 * step + 3}
    if unit.promote_every:
        found |= {unit.promote_every - 1, unit.promote_every, unit.promote_every + 1, 2 * unit.promote_every + 1}
    if unit.scales:  # only whole blocks
        found = {-(-k // unit.scale_blocks[0]) * unit.scale_blocks[0] for k in found}
    return sorted(found - {0})


def cases(unit, budget, seed=0, least=2):
    """For every length rows of every category: `budget` products of each, or `least` rows, or one long one."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.product([str(fmt) for fmt in unit.inputs], repeat=2))
    pairs = pairs[:: max(1, len(pairs) // 7)]
    start = unit.promoted if unit.promote_every else unit.c_format
    for number, k in enumerate(lengths(unit)):
        formats = pairs[(number + seed) % len(pairs)]
        draws = [Draw(fmt, rng) for fmt in (*map(nf.get_format, formats), start)]
        parts = [part(unit, draws, category, k, 1 if k > 40 else max(least, budget // k)) for category in CATEGORIES]
        a, b, c = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
        scales = tuple(np.concatenate(half) for half in zip(*(scales for *_, scales in parts), strict=True)) if unit.scales else None
        names = tuple(category.__name__ for category, found in zip(CATEGORIES, parts, strict=True) for _ in found[2])
        yield with_random_numbers(unit, Case(a, b, c, formats, scales, categories=names), rng)


def part(unit, draws, category, k, count):
    """Codes of a, b, c and scales of one category."""
    shape = min(count, 12) * (1 + (category in OFTEN)), k
    a, b, c = category(Draws(unit, *draws, shape))
    if unit.kind.value == "fixed":
        a, b = draws[0].finite(a), draws[1].finite(b)
    return a, b, c, scales_of(unit, shape, draws[0].rng, category)


def scales_of(unit, shape, rng, category):
    """Codes of scales: close to one another, or some of them below the others by as many digits as count; a few corners."""
    if not unit.scales:
        return None
    draw, blocks = Draw(unit.scales[0], rng), -(-shape[1] // unit.scale_blocks[0])
    reach = (unit.fraction or 24) + rng.integers(-3, 3, (shape[0], blocks))
    if category is swamped and unit.group:  # both of the groups that cancel have one scale
        below = np.where(np.arange(blocks) * unit.scale_blocks[0] < 2 * unit.group, 0, reach)
        return tuple(draw.at((unit.fraction // 4 - half), 0, False) for half in (below // 2, below - below // 2))
    below = np.where((rng.random((shape[0], 1)) < 0.5) & (rng.random(reach.shape) < 0.5), reach, 0)
    found = []
    for half in (below // 2, below - below // 2):
        near = draw.at(rng.integers(-2, 3, reach.shape) - half)
        odd = (rng.random(near.shape) < 0.2) & (rng.random((shape[0], 1)) < 0.2)
        found.append(np.where(odd, draw.corner(near.shape, nonfinite=unit.kind.value != "fixed"), near))
    return tuple(found)


def with_random_numbers(unit, case, rng):
    """The case with as many for each row as the oracle takes, of any number of bits where the mode has a choice."""
    if not unit.is_stochastic:
        return case
    taken, row = itertools.count(), next(rows(case))
    judge.dot(unit, *row[:3], formats=case.formats, scales=row[3], random=taken)
    found = rng.integers(0, 2**32, (case.a.shape[0], next(taken)), np.uint32)
    numbers = np.where(rng.random(found.shape) < 0.2, np.uint32(2**32 - 1), found)
    bits = 32 if unit.rounding.value == "stochastic" else int(rng.integers(1, 32, endpoint=True))
    return case._replace(random=numbers, random_bit_count=bits)


def rows(case):
    """a, b, c, scales and random numbers of each row, as Python integers."""
    count = case.a.shape[0]
    scales = [None] * count if case.scales is None else list(zip(*(s.tolist() for s in case.scales), strict=True))
    random = [None] * count if case.random is None else case.random.tolist()
    return zip(case.a.tolist(), case.b.tolist(), case.c.tolist(), scales, random, strict=True)


# ---- the oracle's answers and numfmt's ----------------------------------------------------------------------------


def judged(unit, case):
    """The oracle's codes."""
    bits = case.random_bit_count
    return [judge.dot(unit, a, b, c, case.formats, scales, random, None, bits) for a, b, c, scales, random in rows(case)]


def addends(unit, codes):
    """Accumulators as numfmt takes them: floats that keep the bits of NaNs where the format is the dtype's, or integers."""
    fmt = unit.promoted if unit.promote_every else unit.c_format
    codes = codes.astype(code_dtype(fmt))
    if isinstance(fmt, nf.FixedFormat):
        exact = [value(code, judge.format_of(fmt)) for code in codes.tolist()]
        return np.array([int(x) if fmt.fraction_bits <= 0 else float(x) for x in exact])
    if str(fmt) in ("float16", "float32", "float64"):
        return codes.view(str(fmt))
    return nf.decode(codes, fmt)


def computed(unit, case):
    """numfmt's results."""
    random = {"random_bits": case.random, "random_bit_count": case.random_bit_count} if unit.is_stochastic else {}
    return run(unit, case, **random)


def run(unit, case, **options):
    """`numfmt.dot` of the case."""
    a, b = (codes.astype(code_dtype(nf.get_format(fmt))) for codes, fmt in zip((case.a, case.b), case.formats, strict=True))
    scales = None if case.scales is None else tuple(s.astype(code_dtype(unit.scales[0])) for s in case.scales)
    return nf.dot(a, b, addends(unit, case.c), unit=unit, formats=case.formats, scales=scales, **options)


def carried(code, fmt, dtype, nan=None):
    """The oracle's answer in a dtype, as a pattern or an integer; `nan` is the unit's, already one of the dtype."""
    if isinstance(fmt, nf.FixedFormat):
        x = value(code, judge.format_of(fmt))
        return int(x) if dtype.kind in "iu" else encode(x, f"binary{8 * dtype.itemsize}")
    name = f"binary{8 * dtype.itemsize}"
    if code == nan or judge.format_of(name) == judge.format_of(fmt):
        return code
    return encode(value(code, judge.format_of(fmt)), name)


def pattern(x, fmt, nan=None):
    """A result of numfmt, likewise; a NaN of a format that is not the dtype's is any, unless the unit says which."""
    if x.dtype.kind in "iu":
        return int(x)
    code = int(x.view(f"uint{8 * x.dtype.itemsize}"))
    return code if nan is not None or not np.isnan(x) or str(fmt) == str(x.dtype) else encode("nan", f"binary{8 * x.dtype.itemsize}")


def hexed(codes):
    return " ".join(format(int(code), "x") for code in np.ravel(codes))


def assert_judged(unit, case, name=""):
    """Fails with the first row in which numfmt and the oracle differ in a bit."""
    got, fmt = computed(unit, case), unit.result_format
    assert got.shape == case.c.shape, name
    expected = [carried(code, fmt, got.dtype, unit.nan) for code in judged(unit, case)]
    found = [pattern(x, fmt, unit.nan) for x in got]
    differs = [i for i, (x, y) in enumerate(zip(found, expected, strict=True)) if x != y]
    if differs:
        i = differs[0]
        more = "" if case.scales is None else f" scales {hexed(case.scales[0][i])} | {hexed(case.scales[1][i])}"
        more += "" if case.random is None else f" random {hexed(case.random[i])} of {case.random_bit_count} bits"
        kinds = sorted({case.categories[i] for i in differs}) if case.categories else ""
        raise AssertionError(
            f"{name}: {len(differs)} of {len(found)} differ {kinds}, first {case.formats}: a {hexed(case.a[i])} | b {hexed(case.b[i])}"
            f" | c {int(case.c[i]):x}{more}: {found[i]:x} instead of {expected[i]:x}; {unit.changes()}"
        )
