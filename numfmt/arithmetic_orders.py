"""Comparisons, minima and neighbours: operations on the order of codes, which round nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._core.arithmetic import INVALID
from .formats import FloatFormat, Subnormals
from .sources import code_dtype

Array = npt.NDArray[Any]


class _Codes:
    """Codes of a format, taken apart: signed keys in the order of values, -0 below +0."""

    def __init__(self, codes: Array, fmt: FloatFormat) -> None:
        wide = fmt.bits > 64 or codes.dtype.kind == "O"
        mask = 2**fmt.bits - 1
        if wide:
            codes = codes.astype(object) & mask
            self.magnitude = codes & fmt.magnitude_mask
            self.negative = (codes & fmt.sign_mask) != 0
        else:
            codes = codes.astype(np.uint64) & np.uint64(mask)
            self.magnitude = (codes & np.uint64(fmt.magnitude_mask)).view(np.int64)
            self.negative = (codes & np.uint64(fmt.sign_mask)) != 0
        self.fmt = fmt
        self.codes = codes.astype(code_dtype(fmt))
        infinity = -1 if fmt.infinity_code is None else fmt.infinity_code
        alone = (self.magnitude == 0) & self.negative
        self.nan = (self.magnitude > fmt.max_code) & (self.magnitude != infinity)
        if not fmt.has_negative_zero:
            self.negative = self.negative & ~alone
            self.nan = self.nan | (alone & (fmt.signed and fmt.exact(fmt.sign_mask) == "nan"))
        if fmt.subnormals is Subnormals.NONE:
            self.nan = self.nan | ((self.magnitude > 0) & (self.magnitude < fmt.min_code))
        self.signaling = self.nan & (fmt.quiet_bit != 0) & ((self.magnitude & fmt.quiet_bit) == 0)
        self.key = np.where(self.negative, ~self.magnitude, self.magnitude)

    @property
    def zero(self) -> Any:
        """Where the value is ±0."""
        return (self.magnitude == 0) & self.fmt.zero & ~self.nan


def compared(name: str, operands: list[Array], fmt: FloatFormat) -> tuple[Array, Array]:
    """Whether a relation holds, and the flags (IEEE 754-2019 §5.11)."""
    a, b = (_Codes(each, fmt) for each in operands)
    unordered = a.nan | b.nan
    same = (a.key == b.key) | (a.zero & b.zero)
    below = (a.key < b.key) & ~(a.zero & b.zero)
    relation = name.removesuffix("_quiet").removesuffix("_signaling")
    holds = {"equal": same, "less": below, "less_equal": below | same}[relation]
    quiet = name in ("equal", "less_quiet", "less_equal_quiet")
    invalid = a.signaling | b.signaling if quiet else unordered
    return (holds & ~unordered).astype(bool), np.where(invalid, INVALID, 0).astype(np.uint8)


def selected(name: str, operands: list[Array], fmt: FloatFormat) -> tuple[Array, Array]:
    """The smaller or the larger operand, and the flags (IEEE 754-2019 §9.6)."""
    a, b = (_Codes(each, fmt) for each in operands)
    first = a.key <= b.key if name.startswith("minimum") else a.key >= b.key
    chosen = np.where(first, a.codes, b.codes)
    nan = a.nan | b.nan
    if name.endswith("number"):
        chosen = np.where(b.nan, a.codes, np.where(a.nan, b.codes, chosen))
        nan = a.nan & b.nan
    canonical = fmt.max_code if fmt.nan_code is None else fmt.nan_code
    chosen = np.where(nan, np.array(canonical, chosen.dtype), chosen)
    invalid = a.signaling | b.signaling | (nan & (not fmt.has_nan))
    return chosen, np.where(invalid, INVALID, 0).astype(np.uint8)


def neighbour(name: str, operands: list[Array], fmt: FloatFormat) -> tuple[Array, Array]:
    """The next value above or below, and the flags (IEEE 754-2019 §5.3.1)."""
    a = _Codes(operands[0], fmt)
    down = name == "next_down"
    inward = a.negative != down
    top = fmt.max_code if fmt.infinity_code is None else fmt.infinity_code
    least = fmt.min_code if fmt.zero else 0
    grown = np.where(a.magnitude >= top, top, a.magnitude + 1)
    grown = np.where(a.zero, least, grown)
    shrunk = np.where(a.magnitude > least, a.magnitude - 1, 0)
    magnitude, negative = np.where(inward, shrunk, grown), a.negative
    if fmt.signed:
        negative = np.where(a.zero, down, negative)
        magnitude = np.where(a.zero, least, magnitude)
    elif down:
        magnitude = np.where(a.zero, 0, magnitude)
    negative = negative & ((magnitude != 0) | fmt.has_negative_zero)
    codes = magnitude.astype(code_dtype(fmt)) | np.where(negative, fmt.sign_mask, 0).astype(code_dtype(fmt))
    canonical = fmt.max_code if fmt.nan_code is None else fmt.nan_code
    codes = np.where(a.nan, np.array(canonical, codes.dtype), codes)
    return codes, np.where(a.signaling | (a.nan & (not fmt.has_nan)), INVALID, 0).astype(np.uint8)
