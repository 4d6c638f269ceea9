"""What a format does to weights: encode them, decode them, and count what was lost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from weights import Tensor, Weights

import numfmt as nf

Doubles = npt.NDArray[np.float64]
Format = nf.FloatFormat | nf.FixedFormat | nf.CodebookFormat

SCALES = ("none", "2^k", "amax")
SEED = 0  # of stochastic rounding; tensor number i takes the words of (SEED, i)

# What the demo runs, widest first: FORMAT[:ROUNDING[:SCALE]], see Case.parse for what is left out.
CASES = (
    "tf32", "f16", "bf16", "bf16:toward_zero", "bf16:stochastic", "e5m7",
    "e5m2", "e4m3fn", "e4m3fn:toward_zero", "e4m3fn:stochastic", "e4m3fn:ties_to_even:none", "e3m4", "int8",
    "q0.7:ties_to_even:none", "e3m2", "e2m3",
    "nf4", "e2m1", "e2m1:toward_zero", "e2m1:stochastic", "e2m1:ties_to_even:none",
)  # fmt: skip

# fmt: off
DEFINITIONS = {
    "scale": "x = w / scale is what is rounded; one scale a tensor, not counted in bits. 2^k: the smallest power of "
             "two that saturates nothing; amax: the largest magnitude over the format's",
    "SQNR dB": "10 log10(sum of w^2 / sum of (w - w')^2), w' being the weight that comes back",
    "max ulp": "largest |x' - x| / ulp, cut after three digits. The ulp of x: 2^(max(floor(log2 |x|), emin) - (p - 1)) "
               "in floats, 2^-(fraction bits) in fixed point, in codebooks the gap that x lies in; beyond the range, "
               "the last one",
    "saturated": "weights whose x lies beyond the format's largest value, which it becomes",
    "to zero": "weights other than zero that become zero",
}
# fmt: on


@dataclass(frozen=True)
class Case:
    """One row of the table: a format (by the name that was asked for), a rounding mode and a kind of scale."""

    name: str
    rounding: str
    scale: str

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case FORMAT[:ROUNDING[:SCALE]]: ties to even, and the scale that suits the format, if not given.

        Raises:
            ValueError: an unknown name; the message offers the nearest.
        """
        name, rounding, scale, *rest = [*text.split(":"), "", "", ""]
        if any(rest):
            raise ValueError(f"{text!r} is given; a case is FORMAT[:ROUNDING[:SCALE]]")
        fmt = nf.get_format(name)
        if not isinstance(fmt, Format) or (isinstance(fmt, nf.FloatFormat) and not fmt.zero):
            raise ValueError(f"format {name!r} is given; the demo takes floats with a zero, fixed point and codebooks")
        if scale and scale not in SCALES:
            raise ValueError(f"scale {scale!r} is given; it is one of {', '.join(SCALES)}")
        case = cls(name, nf.Rounding.parse(rounding or "ties_to_even").value, scale or _usual_scale(fmt))
        nf.decode(encode(np.zeros(1, np.float32), case, 0), fmt)  # refuses here what cannot be done
        return case

    @property
    def format(self) -> Format:
        """The format."""
        return nf.get_format(self.name)

    def __str__(self) -> str:
        return f"{self.name}:{self.rounding}:{self.scale}"


def _usual_scale(fmt: Format) -> str:
    """Wide floats reach all weights; a codebook has a unit of its own; the range of narrow formats must be placed."""
    match fmt:
        case nf.CodebookFormat():
            return "amax"
        case nf.FloatFormat() if fmt.bits > 8:
            return "none"
        case _:
            return "2^k"


@dataclass(frozen=True)
class Row:
    """What one case did to all weights; `sqnr_db` is None where nothing was lost."""

    format: str
    canonical_name: str
    rounding: str
    scale: str
    scales: tuple[float, ...] | None
    bits: int
    sqnr_db: float | None
    max_error_ulps: float
    saturated: int
    flushed_to_zero: int
    codes_sha256: str

    @property
    def key(self) -> str:
        """The case, as `Case.parse` reads it."""
        return f"{self.format}:{self.rounding}:{self.scale}"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return asdict(self)


def measure(tensors: Iterable[Tensor], case: Case) -> Row:
    """The figures of one case over all tensors."""
    fmt = case.format
    signal = noise = worst = 0.0
    saturated = flushed = 0
    scales, digest = [], hashlib.sha256()
    for index, tensor in enumerate(tensors):
        scale = scale_of(tensor.values, fmt, case.scale)
        scales.append(scale)
        scaled = scaled_by(tensor.values, scale)
        codes = encode(scaled, case, index)
        digest.update(codes.astype(codes.dtype.newbyteorder("<")).tobytes())

        x, y = scaled.astype(np.float64), nf.decode(codes, fmt).astype(np.float64)
        weights = tensor.values.astype(np.float64)
        signal += float(np.sum(weights**2))
        noise += float(np.sum((weights - y * scale) ** 2))
        worst = max(worst, float(np.max(error_in_ulps(x, y, fmt))))
        saturated += int(np.count_nonzero((x > float(fmt.max)) | (x < float(fmt.min))))
        flushed += int(np.count_nonzero((x != 0) & (y == 0)))
    return Row(
        case.name, str(fmt), case.rounding, case.scale, None if case.scale == "none" else tuple(scales), fmt.bits,
        round(10 * math.log10(signal / noise), 4) if noise and signal else None,
        worst, saturated, flushed, digest.hexdigest(),
    )  # fmt: skip


def encode(scaled: Weights, case: Case, tensor_index: int) -> npt.NDArray[Any]:
    """The codes of a tensor that was divided by its scale."""
    seed = (SEED, tensor_index) if nf.Rounding.parse(case.rounding).is_stochastic else None
    codes: npt.NDArray[Any] = nf.encode(scaled, case.format, rounding=case.rounding, overflow="saturate", seed=seed)
    return codes


def scale_of(values: Weights, fmt: Format, kind: str) -> float:
    """The scale of a tensor, a normal float32 number; 1 for a tensor of zeros."""
    amax = Fraction(float(np.max(np.abs(values))))
    if kind == "none" or amax == 0:
        return 1.0
    ratio = amax / fmt.max
    if kind == "2^k":
        return math.ldexp(1.0, min(max(ceil_log2(ratio), -126), 127))
    return float(np.float32(float(ratio)))


def ceil_log2(ratio: Fraction) -> int:
    """The smallest k with ratio <= 2**k, exactly.

    >>> ceil_log2(Fraction(1, 4)), ceil_log2(Fraction(5, 16))
    (-2, -1)
    """
    k = ratio.numerator.bit_length() - ratio.denominator.bit_length() - 1  # 2**k < ratio or one below
    while Fraction(2) ** k < ratio:
        k += 1
    return k


def scaled_by(values: Weights, scale: float) -> Weights:
    """values / scale in float32: exact for a power of two unless it underflows, else one rounding."""
    return values / np.float32(scale)


def error_in_ulps(x: Doubles, y: Doubles, fmt: Format) -> Doubles:
    """|y - x| in ulps of x in the format (DEFINITIONS), exact for floats and fixed point."""
    error = np.abs(y - x)
    match fmt:
        case nf.FloatFormat():
            return np.asarray(np.ldexp(error, -quantum_exponents(x, fmt)))
        case nf.FixedFormat():
            return np.asarray(np.ldexp(error, fmt.fraction_bits))
        case nf.CodebookFormat():
            values: Doubles = np.unique([float(v) for v in fmt.values])
            right = np.clip(np.searchsorted(values, x), 1, values.size - 1)
            return np.asarray(error / (values[right] - values[right - 1]))


def quantum_exponents(x: Doubles, fmt: nf.FloatFormat) -> npt.NDArray[Any]:
    """The exponent q of the quantum 2**q of the format at each x, read from the exponent field of binary64."""
    exponents = ((x.view(np.int64) >> 52) & 0x7FF) - 1023
    return np.asarray(np.clip(exponents, fmt.emin, fmt.emax), np.intp) - fmt.trailing_bits
