"""Comparisons, minima and neighbours: operations on the order of codes, which round nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import arithmetic_engine as engine
from ._core import arithmetic as core
from ._core.arithmetic import INVALID
from .arithmetic_plans import FRAMES, exact_frame, frame_name, layout_of
from .engines import NUMPY
from .formats import FloatFormat
from .sources import code_dtype

Array = npt.NDArray[Any]


class _Codes:
    """Codes of a format, read: signed keys in the order of values, -0 below +0."""

    def __init__(self, codes: Array, fmt: FloatFormat) -> None:
        name = frame_name((fmt,), fmt)
        if name is None:
            frame = exact_frame(max(64, fmt.precision))
            patterns = codes.astype(object) & (2**fmt.bits - 1)
        else:
            frame, patterns = FRAMES[name], engine.patterns_of(codes, fmt)
        number: Any = core.read(patterns, layout_of(fmt), frame, xp=NUMPY)
        self.fmt = fmt
        self.codes = (patterns & (2**fmt.bits - 1) if fmt.bits < 64 else patterns).astype(code_dtype(fmt))
        self.magnitude = patterns & fmt.magnitude_mask
        self.negative = np.asarray(number.negative != 0, bool)
        self.nan, self.signaling, self.zero = number.nan, number.signaling, number.m == 0
        self.key = np.where(self.negative, ~self.magnitude, self.magnitude)


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
    sign = np.array(fmt.sign_mask, code_dtype(fmt))
    codes = magnitude.astype(code_dtype(fmt)) | np.where(negative, sign, 0).astype(code_dtype(fmt))
    canonical = fmt.max_code if fmt.nan_code is None else fmt.nan_code
    codes = np.where(a.nan, np.array(canonical, codes.dtype), codes)
    return codes, np.where(a.signaling | (a.nan & (not fmt.has_nan)), INVALID, 0).astype(np.uint8)
