"""What the tests of arithmetic share: operands directed at the exact result, and the oracle over columns of codes."""

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

import numfmt as nf
from numfmt import arithmetic
from spec import arithmetic as judge
from spec import oracle
from spec.oracle import resolve
from tests.judges.operands import significands
from tests.support import DETERMINISTIC

ARITHMETIC = ("add", "sub", "mul", "div", "rem")
ORDERS = ("minimum", "maximum", "minimum_number", "maximum_number")
COMPARISONS = ("equal", "less", "less_equal", "equal_signaling", "less_quiet", "less_equal_quiet")

FOUR = ["ties_to_even", "toward_zero", "toward_negative", "to_odd"]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
CUSTOM = {
    "float(e=4, m=3, subnormals=none)": oracle.float_format(4, 3, lowest_binade="unused"),
    "float(e=3, m=2, specials=f, subnormals=none)": oracle.float_format(
        3, 2, infinity="none", nan="none", lowest_binade="unused"
    ),
    "e4m3b-20fn": oracle.float_format(4, 3, bias=-20, infinity="none", nan="all_ones"),
    "e2m5b60": oracle.float_format(2, 5, bias=60),
    "e4m0fn": oracle.float_format(4, 0, infinity="none", nan="all_ones"),
    "e5m7": oracle.float_format(5, 7),
    "e11m20": oracle.float_format(11, 20),
    "e8m40": oracle.float_format(8, 40),
    "e5m58": oracle.float_format(5, 58),
    "e15m48": oracle.float_format(15, 48),
}  # fmt: skip


# ---- operands ----------------------------------------------------------------------------------------------------


class Fields(NamedTuple):
    """Columns of exponent fields and trailing significands of a float format, which `codes` puts together."""

    fmt: nf.FloatFormat
    rng: np.random.Generator

    @property
    def top(self):
        return 2**self.fmt.exponent_bits - 1

    def fields(self, count):
        """Any exponent, the ends more often."""
        ends = np.array([0, 0, 1, 2, self.top - 1, self.top, self.top, self.fmt.bias, self.fmt.bias + 1])
        any_ = self.rng.integers(0, self.top, count, endpoint=True)
        return np.where(self.rng.random(count) < 0.25, ends[self.rng.integers(0, ends.size, count)], any_)

    def near(self, fields):
        """Exponents within a significand of these."""
        reach = self.fmt.precision + 3
        return fields + self.rng.integers(-reach, reach, fields.size, endpoint=True)

    def codes(self, fields):
        """Codes of these exponents, clipped, with characteristic significands or random ones, and random signs."""
        fmt, count = self.fmt, fields.size
        shapes = np.array(significands(fmt.trailing_bits, seed=1, random=0) if fmt.trailing_bits else [0], np.uint64)
        any_ = self.rng.integers(0, 2**fmt.trailing_bits, count, dtype=np.uint64)
        trailing = np.where(self.rng.random(count) < 0.6, shapes[self.rng.integers(0, shapes.size, count)], any_)
        signs = self.rng.integers(0, 2, count, dtype=np.uint64) if fmt.signed else np.zeros(count, np.uint64)
        magnitude = (np.clip(fields, 0, self.top).astype(np.uint64) << np.uint64(fmt.trailing_bits)) | trailing
        return (signs << np.uint64(fmt.bits - 1)) | magnitude


def stratified(fmt, operands, count, seed=0):
    """Columns of about `count` rows: exponents apart and close, exact results near the ends of the range, equal operands."""
    fmt = nf.get_format(fmt) if isinstance(fmt, str) else fmt
    draw = Fields(fmt, np.random.default_rng(seed))
    part = max(1, count // 5)
    ends = np.array([1, draw.top - 1])
    a, b = [draw.fields(part) for _ in range(5)], []
    b.append(draw.fields(part))
    b.append(draw.near(a[1]))
    end = ends[draw.rng.integers(0, 2, part)]
    b.append(draw.near(end - a[2] + fmt.bias))  # products
    b.append(draw.near(a[3] - end + fmt.bias))  # quotients
    b.append(a[4])
    columns = [draw.codes(np.concatenate(a)), draw.codes(np.concatenate(b))]
    columns[1][-part:] = _beside(draw, columns[0][-part:])
    if operands == 3:
        product = np.concatenate(a) + np.concatenate(b) - fmt.bias
        c = np.where(draw.rng.random(product.size) < 0.75, draw.near(product), draw.fields(product.size))
        columns.append(draw.codes(c))
    return columns[:operands]


def _beside(draw, codes):
    """Codes beside these, of either sign."""
    fmt = draw.fmt
    limit = 2 ** (fmt.bits - fmt.signed) - 1
    step = draw.rng.integers(-2, 2, codes.size, endpoint=True)
    magnitude = np.clip((codes & np.uint64(limit)).astype(object) + step, 0, limit).astype(np.uint64)
    signs = draw.rng.integers(0, 2, codes.size, dtype=np.uint64) if fmt.signed else np.uint64(0)
    return magnitude | (signs << np.uint64(fmt.bits - 1))


def all_pairs(bits):
    codes = np.arange(2**bits, dtype=np.uint64)
    return [np.repeat(codes, codes.size), np.tile(codes, codes.size)]


# ---- the oracle over columns -------------------------------------------------------------------------------------


class Judged:
    """The oracle's answers for an operation that is rounded once: exact results are found once a row, and rounded once a value.

    Two exact results that are equal, with the same flags before rounding, are rounded alike. All of that is said by
    spec.arithmetic (`exact`, `Rules.encode`); only the grouping is done here.
    """

    def __init__(self, operation, columns, source, to=None):
        self.operation, self.source = operation, resolve(source)
        self.to = resolve(to or source)
        self.columns = [column.tolist() for column in columns]
        codes = {code for column in self.columns for code in column}
        self.operands = {code: judge.read(code, self.source) for code in codes}
        self.groups: dict[object, int] = {}
        rows = [[self.operands[code] for code in row] for row in zip(*self.columns, strict=True)]
        exact = [judge.exact(operation, row, self.to, "ties_to_even") for row in rows]
        self.index = self._indices(exact)
        # Where the sum is an exact zero the direction of rounding decides its sign.
        self.downward = self.index.copy()
        zeros = [i for i, (value, _) in enumerate(exact) if value in (0, "-0")]
        below = [judge.exact(operation, rows[i], self.to, "toward_negative") for i in zeros]
        self.downward[zeros] = self._indices(below)
        self.outside = [i for i, (value, _) in enumerate(self.groups) if not self._is_inside(value)]
        self.tables: dict[object, tuple[np.ndarray, np.ndarray]] = {}

    def _indices(self, results):
        return np.array([self.groups.setdefault(result, len(self.groups)) for result in results], np.intp)

    def _is_inside(self, value):
        """No overflow mode has a say in what this becomes."""
        if isinstance(value, str):
            return False
        return abs(value) <= self.to.max and (self.to.signed or value >= 0)

    def under(self, rounding, overflow=None, tininess="after"):
        """Codes and flags of all rows under one set of rules."""
        if self.operation in ORDERS:
            overflow = "infinity"
        codes, flags = self._table(rounding, tininess)
        rules = judge.Rules(rounding, overflow, tininess=tininess)
        groups = list(self.groups)
        for i in self.outside:
            codes[i], flags[i] = self._rounded(*groups[i], rules)
        index = self.downward if rounding == "toward_negative" else self.index
        return codes[index], flags[index]

    def _table(self, rounding, tininess):
        """Arrays over the groups, where what lies outside the range is not said yet."""
        key = rounding, tininess
        if key not in self.tables:
            rules = judge.Rules(rounding, tininess=tininess)
            outside = set(self.outside)
            pairs = [(0, 0) if i in outside else self._rounded(*group, rules) for i, group in enumerate(self.groups)]
            codes, flags = zip(*pairs, strict=True)
            self.tables[key] = np.array(codes, np.uint64), np.array(flags, np.uint8)
        return tuple(column.copy() for column in self.tables[key])

    def _rounded(self, value, flags, rules):
        if value == "nan":
            return judge.nan_result(self.operation, [], self.to, flags, rules)
        code, raised = rounded(value, self.to, rules)
        return code, flags | raised


@lru_cache(maxsize=400_000)
def rounded(value, to, rules):
    return rules.encode(value, to)


def compared(operation, columns, source):
    """Results and flags of a comparison of all rows."""
    source = resolve(source)
    operands = {code: judge.read(code, source) for column in columns for code in set(column.tolist())}
    pairs = [[operands[code] for code in column.tolist()] for column in columns]
    answers = [judge.compare(operation, x, y) for x, y in zip(*pairs, strict=True)]
    return tuple(np.array(column, np.uint8) for column in zip(*answers, strict=True))


def each_row(columns, answer: Callable[..., tuple[int, int]]):
    """Results and flags of one call of the oracle a row."""
    pairs = [answer(list(row)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    results, flags = zip(*pairs, strict=True)
    return np.array(results, object), np.array(flags, np.uint8)


def assert_same(got, expected, columns, what):
    """Fails with the first row, in hex, where a result or its flags differ."""
    results, flags = (np.asarray(part) for part in got)
    wanted, raised = expected
    assert results.shape == wanted.shape, what
    assert flags.dtype == np.uint8, what
    differs = np.flatnonzero((results != wanted) | (flags != raised))
    if differs.size:
        i = differs[0]
        row = " ".join(format(int(column[i]), "#x") for column in columns)
        raise AssertionError(
            f"{what}: {differs.size} of {results.size} differ, first {row}: {int(results[i]):#x} flags {int(flags[i])}"
            f" instead of {int(wanted[i]):#x} flags {int(raised[i])}"
        )


# ---- numfmt and the oracle ---------------------------------------------------------------------------------------


def judge_of(name):
    return CUSTOM.get(name) or oracle.get(name)


def modes_of(fmt):
    """Pairs of rounding and overflow modes: the format's own overflow for each rounding, the others for a few."""
    fmt = nf.get_format(fmt) if isinstance(fmt, str) else fmt
    others = ["saturate", "infinity"] + ["nan"] * (fmt.has_nan or fmt.has_infinity)
    return [(rounding, None) for rounding in DETERMINISTIC] + list(itertools.product(FOUR, others))


def check(operation, columns, name, *, to=None, modes=None, tininess=("after",)):
    """Results and flags of numfmt and of the oracle for all rows under all modes."""
    judged = Judged(operation, columns, judge_of(name), judge_of(to) if to else None)
    target = None if operation in ORDERS else to
    for rounding, overflow in modes or modes_of(to or name):
        for when in tininess:
            got = arithmetic.compute(
                operation, columns, name, to=target, rounding=rounding, overflow=overflow, tininess=when
            )
            what = f"{operation} {name} -> {to or name} {rounding} {overflow} tininess {when}"
            assert_same(got, judged.under(rounding, overflow, when), columns, what)


def check_rows(operation, columns, name, **options):
    """The same for operations that the oracle does one row at a time."""
    got = arithmetic.compute(operation, columns, name, **options)
    integer, to = options.pop("integer", None), options.pop("to", None)
    to = integer or (judge_of(to) if to else None)
    rules = {"rounding": None, **options}
    expected = each_row(columns, lambda row: judge.compute(operation, row, judge_of(name), to=to, **rules))
    assert_same(got, expected, columns, f"{operation} {name} {to or ''} {options}")
