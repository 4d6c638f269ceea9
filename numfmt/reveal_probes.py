"""Questions to an unknown dot product, and what its answers say of order, precision, alignment and promotion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import encode
from .formats import FloatFormat
from .named import scalar_format
from .reveal_operands import Rows, exponents, powers

Array = npt.NDArray[Any]
SPANS = ((64, 0), (30, -26), (28, -28), (16, -12), (14, -14), (14, -12))  # exponents of a mask and of what it hides


class Subject:
    """An unknown function, and what it answered about thresholds."""

    def __init__(self, fn: Callable[..., Any], inputs: FloatFormat, addend: FloatFormat | None, longest: int) -> None:
        self.fn, self.inputs, self.addend, self.longest = fn, inputs, addend, longest
        self.thresholds: list[tuple[Rows, Array]] = []  # rows about a bit that is kept or lost, and answers
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def ask(self, rows: Rows) -> Array:
        """Results as the function gives them, one a row.

        Raises:
            ValueError: results of another shape, or none that are floats.
        """
        columns = [carried(rows.a, self.inputs), carried(rows.b, self.inputs)]
        if self.addend is not None:
            columns.append(carried(rows.c, self.addend))
        found = np.asarray(self.fn(*columns))
        if found.shape != (len(rows),) or found.dtype.itemsize > 8:
            raise ValueError(
                f"the function gives {found.dtype} of shape {found.shape} for {len(rows)} rows; "
                "it gives one float a row"
            )
        if found.dtype not in (np.float16, np.float32, np.float64):
            found = found.astype(np.float32)
        self.dtype = found.dtype
        return found

    def values(self, a: Any, b: Any, c: Any = 0.0) -> Array:
        """Results of rows that are written out, as float64."""
        a, b = (np.atleast_2d(np.array(x, np.float64)) for x in (a, b))
        rows = Rows(a, b, np.broadcast_to(np.float64(c), len(a)).copy())
        answers = self.ask(rows)
        if len(rows) > 2:
            self.thresholds.append((rows, answers))
        return answers.astype(np.float64)


def carried(x: Array, fmt: FloatFormat) -> Array:
    """Values as float32, or float64 where that does not have them all."""
    low, high = exponents(fmt)
    fits = fmt.precision <= 24 and low - fmt.trailing_bits >= -149 and high <= 127
    with np.errstate(over="ignore"):
        return x.astype(np.float32 if fits else np.float64)


def coded(rows: Rows, fmt: FloatFormat) -> tuple[Array, Array]:
    """Both operands as codes."""
    return np.asarray(encode(rows.a, fmt)), np.asarray(encode(rows.b, fmt))


def digits(x: Array) -> int:
    """The most significant digits that a finite value has."""
    m, _ = np.frexp(np.abs(x[np.isfinite(x) & (x != 0)]))
    whole = np.ldexp(m, 53).astype(np.int64)
    return 53 - int(np.log2((whole & -whole).astype(np.float64)).min()) if whole.size else 0


# ---- order -------------------------------------------------------------------------------------------------------


def span(subject: Subject) -> tuple[int, int] | None:
    """Exponents of a mask and of what it hides, of which products alone come back; None: the inputs have too few."""
    low, high = exponents(subject.inputs)
    for top, one in SPANS:
        if 2 * low <= one and top <= 2 * high:
            a, b = powers(subject.inputs, [[top], [one]])
            if np.array_equal(subject.values(a, b), [2.0**top, 2.0**one]):
                return top, one
    return None


def masked(subject: Subject, k: int, pairs: Sequence[tuple[int, int]], place: tuple[int, int]) -> Rows:
    """Rows of k equal products, of which two are a mask and its negative; index -1 is the addend."""
    x, y = powers(subject.inputs, [place[1]])
    big_x, big_y = powers(subject.inputs, [place[0]])
    a, b = np.full((len(pairs), k), x[0]), np.full((len(pairs), k), y[0])
    c = np.zeros(len(pairs))
    for row, (i, j) in enumerate(pairs):
        for at, sign in ((i, 1.0), (j, -1.0)):
            if at < 0:
                c[row] = sign * 2.0 ** place[0]
            else:
                a[row, at], b[row, at] = sign * big_x[0], big_y[0]
    return Rows(a, b, c)


def tree_text(subject: Subject, k: int, place: tuple[int, int]) -> str:
    """The order of k products as brackets, after FPRev (arXiv 2411.00442): how many each pair of masks hides."""
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    left = subject.ask(masked(subject, k, pairs, place)).astype(np.float64) * 2.0 ** -place[1]
    if not np.all(np.isfinite(left)):
        return "unknown: masks overflow"
    hidden = {pair: int(k - n) for pair, n in zip(pairs, np.round(left), strict=True)}

    def build(leaves: list[int]) -> str:
        if len(leaves) == 1:
            return str(leaves[0])
        first, text = leaves[0], str(leaves[0])
        sizes = sorted({hidden[first, j] for j in leaves[1:]})
        for size in sizes:
            others = [j for j in leaves[1:] if hidden[first, j] == size]
            together = all(hidden[i, j] == size for i in others for j in others if i < j)
            text = f"({text}+{'+'.join(map(str, others)) if together else build(others)})"
        return text

    return build(list(range(k)))


def records(subject: Subject, k: int, place: tuple[int, int]) -> list[int]:
    """The j of which a mask pair (0, j) hides more than all before: steps end there."""
    pairs = [(0, j) for j in range(1, k)]
    left = subject.ask(masked(subject, k, pairs, place)).astype(np.float64)
    found, least = [], np.inf
    for j, x in zip(range(1, k), left, strict=True):
        if x < least:
            found.append(j)
            least = x
    return found


def joined(subject: Subject, k: int, precision: int) -> tuple[Rows, list[int]] | None:
    """Rows of an addend and two products of half its last place, and the j at which their sum becomes another."""
    rows = halves(subject, k, precision)
    if rows is None:
        return None
    found = subject.ask(rows).astype(np.float64)
    return rows, [j for j in range(2, k) if found[j - 1] != found[j - 2]]


def halves(subject: Subject, k: int, precision: int) -> Rows | None:
    """An addend, products 0 and j of half a unit of its last place, zeros else: j from 1 to k - 1."""
    if subject.addend is None:
        return None
    low, high = exponents(subject.inputs)
    e = int(np.clip(0, 2 * low, 2 * high))
    if e + precision > exponents(subject.addend)[1] - 2:
        e = exponents(subject.addend)[1] - 2 - precision
        if e < 2 * low:
            return None
    x, y = powers(subject.inputs, [e])
    a, b = np.full((k - 1, k), x[0]), np.zeros((k - 1, k))
    b[:, 0] = y[0]
    b[np.arange(k - 1), np.arange(1, k)] = y[0]
    return Rows(a, b, np.full(k - 1, 2.0 ** (e + precision)))


# ---- the accumulator ---------------------------------------------------------------------------------------------


def precisions(subject: Subject, rows: Sequence[Rows]) -> tuple[int, int]:
    """Digits of results without an addend, and of all."""
    alone = [digits(subject.ask(Rows(r.a, r.b, 0 * r.c)).astype(np.float64)) for r in rows]
    with_c = [digits(subject.ask(r).astype(np.float64)) for r in rows] if subject.addend is not None else []
    return max(alone), max(alone + with_c)


def accumulator(subject: Subject, precision: int, promotes: bool) -> FloatFormat:
    """A format with so many digits; of its exponents only whether they reach beyond 2**20."""
    if precision > 24:
        return scalar_format("float64")  # type: ignore[return-value]
    high = exponents(subject.inputs)[1]
    wide = subject.dtype != np.float16
    if subject.addend is not None and not promotes and exponents(subject.addend)[1] >= 20:
        wide = bool(subject.values([[0.0]], [[0.0]], 2.0**20)[0] == 2.0**20)
    elif 2 * high >= 20:
        wide = bool(np.isfinite(subject.values(*(x[None] for x in powers(subject.inputs, [20])))[0]))
        wide &= bool(subject.values(*(x[None] for x in powers(subject.inputs, [20])))[0] == 2.0**20)
    name = {(24, True): "float32", (11, False): "float16", (8, True): "bfloat16"}.get((precision, wide))
    return scalar_format(name or f"e{8 if wide else 5}m{precision - 1}")  # type: ignore[return-value]


def promotion(subject: Subject, precision: int, place: tuple[int, int]) -> int | None:
    """After how many products a sum that stalls grows again; None if it does not."""
    k = min(subject.longest, 640)
    top = place[1] + precision + 3
    if top > place[0] or k < 8:
        return None
    x, y = powers(subject.inputs, [place[1]])
    a, b = np.full((1, k), x[0]), np.full((1, k), y[0])
    big = powers(subject.inputs, [top])
    a[0, 0], b[0, 0] = big[0][0], big[1][0]
    grown = (subject.values(a, b)[0] - 2.0**top) * 2.0 ** -place[1]
    every = k - int(grown)
    return every if 0 < grown < k and every > 1 else None


# ---- alignment ---------------------------------------------------------------------------------------------------


def fraction(subject: Subject, length: int) -> tuple[int, str] | None:
    """F: below a mask that cancels, the last bit that is left; with the probe in words."""
    low, high = exponents(subject.inputs)
    top = min(2 * high, 14)
    k = min(max(length, 3), subject.longest)
    if length < 2 or (length == 2 and subject.addend is None):
        return None
    down = np.arange(1, 61)
    by_product = length >= 3 or subject.addend is not None
    reachable = down[top - down >= 2 * low]
    x, y = powers(subject.inputs, [top])
    for tiny_is_addend in (False, True):
        if tiny_is_addend and (subject.addend is None or length < 2):
            continue
        steps = down if tiny_is_addend else reachable
        a, b, c = np.full((steps.size, k), 1.0), np.zeros((steps.size, k)), np.zeros(steps.size)
        a[:, 0], b[:, 0] = x[0], y[0]
        if tiny_is_addend:
            a[:, length - 1], b[:, length - 1] = -x[0], y[0]
            c = np.ldexp(1.0, top - steps)
        else:
            if length >= 3:
                a[:, length - 1], b[:, length - 1] = -x[0], y[0]
            else:
                c[:] = -(2.0**top)
            a[:, 1], b[:, 1] = powers(subject.inputs, top - steps)
        kept = subject.values(a, b, c if subject.addend is not None else 0.0) != 0
        if kept.all() or not kept.any() or not by_product:
            continue
        found = int(steps[~kept][0]) - 1
        what = "an addend" if tiny_is_addend else "a product"
        return found, f"beside 2^{top} and -2^{top}, {what} 2^{top - found} is kept and 2^{top - found - 1} is lost"
    return None


def zero_exponent(subject: Subject, acc: FloatFormat, bits: int) -> int | None:
    """The least alignment exponent, if the accumulator's least values show one above their own."""
    quantum = exponents(acc)[0] - acc.trailing_bits
    low = exponents(subject.inputs)[0] - subject.inputs.trailing_bits
    steps = np.arange(1, 61)
    steps = steps[quantum - 1 - steps >= 2 * low]
    found = None
    alone = np.arange(max(2 * low, quantum), 1)
    x, y = powers(subject.inputs, alone)
    lost = subject.values(x[:, None] * [1.0, 0.0], y[:, None] * [1.0, 1.0]) == 0
    if lost.any() and not lost[-1]:
        return int(alone[np.flatnonzero(lost)[-1] + 1]) + bits
    if not steps.size:
        return None
    for base in (quantum, quantum - 1):
        x, y = powers(subject.inputs, [base])
        for sign in (-1.0, 1.0):
            a, b = np.full((steps.size + 1, 2), x[0]), np.full((steps.size + 1, 2), y[0])
            a[:-1, 1], b[:-1, 1] = powers(subject.inputs, base - steps)
            a[:, 1] *= sign
            b[-1, 1] = 0.0
            got = subject.values(a, b)
            kept = steps[got[:-1] != got[-1]]
            if kept.size:
                found = min(base - int(kept.max()) + bits, found if found is not None else 10**6)
    return found


def breaks_of_ties(subject: Subject, precision: int) -> None:
    """What is far below: beside an addend and half a unit of its last place, and addends beside a product.

    The answers are for the search.
    """
    if subject.addend is None or subject.longest < 2:
        return
    low, high = exponents(subject.inputs)
    half = int(np.clip(-1, 2 * low, 2 * high))
    steps = np.arange(1, 41)
    a, b = np.zeros((steps.size + 1, 2)), np.zeros((steps.size + 1, 2))
    x, y = powers(subject.inputs, [half])
    a[:, 0], b[:, 0] = x[0], y[0]
    a[:-1, 1], b[:-1, 1] = powers(subject.inputs, half - steps)
    for sign in (-1.0, 1.0):
        a[:, 1] = np.abs(a[:, 1]) * sign
        subject.values(a, b, min(2.0 ** (half + precision), float(subject.addend.max) / 2))
    top = min(2 * high, 12)
    below = np.arange(1, 46)
    x, y = powers(subject.inputs, [top])
    fits = top - below >= exponents(subject.addend)[0]
    for sign in (-1.0, 1.0):
        a, b = np.tile([x[0], 0.0], (fits.sum(), 1)), np.tile([y[0], 1.0], (fits.sum(), 1))
        subject.values(a, b, sign * np.ldexp(1.0, top - below[fits]))
