"""What several tests share: operands that meet every corner of a format, and comparison of bits."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import numfmt as nf

DETERMINISTIC = [
    r.value for r in nf.Rounding if not r.is_stochastic and not r.value.endswith(("_positive", "_negative"))
]
DETERMINISTIC += ["toward_positive", "toward_negative"]
FIXED_ONLY = ["ties_to_positive", "ties_to_negative"]
OVERFLOWS = [o.value for o in nf.Overflow]
SPECIALS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 5e-324, -5e-324, 1e-40, -1e-40, 2.0**-126, -(2.0**-149)]

SIGNIFICANDS_32 = sorted(
    {0, 1, 2, 3, 0x7FFFFF, 0x7FFFFE, 0x555555, 0x2AAAAA}
    | {1 << i for i in range(23)}
    | {(1 << i) - 1 for i in range(23)}
    | {0x7FFFFF ^ ((1 << i) - 1) for i in range(23)}
    | {(1 << i) + 1 for i in range(1, 23)}
    | {(3 << i) for i in range(22)}
    | {0x7FFFFF ^ (1 << i) for i in range(23)}
)


def modes(fmt):
    """Deterministic rounding modes that a format takes."""
    return DETERMINISTIC + (FIXED_ONLY if isinstance(fmt, nf.FixedFormat) else [])


def stratified_float32():
    """Every exponent field, both signs, with significands of every characteristic shape: float32 patterns."""
    fields = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23)
    return (fields | np.array(SIGNIFICANDS_32, np.uint32)).reshape(-1).view(np.float32)


def stratified_float64(step=1):
    """The same for float64, every `step`-th exponent."""
    shapes = sorted(
        {0, 1, 2**52 - 1, 2**52 - 2}
        | {1 << i for i in range(0, 52, 3)}
        | {2**52 - (1 << i) for i in range(0, 52, 3)}
        | {(1 << i) + 1 for i in range(1, 52, 5)}
    )
    fields = np.arange(0, 4096, step, dtype=np.uint64)[:, None] << np.uint64(52)
    return (fields | np.array(shapes, np.uint64)).reshape(-1).view(np.float64)


def boundaries(values):
    """Values, their midpoints and what lies just beside both, with both signs, as sorted distinct float64."""
    values = sorted(values)
    exact = values + [(a + b) / 2 for a, b in pairwise(values)]
    center = np.array([float(v) for v in exact])
    points = np.concatenate([center, np.nextafter(center, np.inf), np.nextafter(center, -np.inf)])
    return np.unique(np.concatenate([points, -points]))


def operands(fmt):
    """Every value and midpoint of a format of at most 8 bits and their neighbours in float64, the ends, and specials."""
    values = {v for v in nf.value_table(fmt) if isinstance(v, Fraction)}
    if isinstance(fmt, nf.FloatFormat):
        quantum = fmt.max - max((v for v in values if v != fmt.max), default=0)
        values |= {fmt.max + quantum, fmt.max + 2 * quantum, 3 * fmt.max, 8 * fmt.max}
    if isinstance(fmt, nf.FixedFormat):
        values |= {v * fmt.quantum for v in range(fmt.min_integer - 3, fmt.min_integer)}
        values |= {v * fmt.quantum for e in range(1, 5) for v in (fmt.max_integer + e, fmt.max_integer * 2**e + e)}
    return np.concatenate([boundaries(values), SPECIALS])


def exactly(x):
    """The exact reals (or special words) of a float array, as the oracle takes them."""

    def one(v):
        if np.isnan(v):
            return "nan"
        if np.isinf(v):
            return "inf" if v > 0 else "-inf"
        return "-0" if v == 0 and np.signbit(v) else Fraction(float(v))

    return [one(v) for v in x]


def mostly_nightly(names, default):
    """Parameters of which those in `default` are in the default run, the others in the nightly one."""
    return [
        name if name in default else pytest.param(*(name if isinstance(name, tuple) else (name,)), marks=pytest.mark.nightly)
        for name in names
    ]


TWINS = {  # block formats that differ from one of the default run in a parameter
    "mxfp6_e3m2", "nvfp4_4over6_mse", "nvfp4_torchao_1level", "nvfp4_modelopt", "deepseek_fp8_128x128", "deepseek_fp8_ue8m0_128x128",
    "int8_group128", "int4_axis", "int4_group128", "int8_affine_axis", "int4_affine_group128", "mx4", "msfp16", "hbfp8",
    "af4_block", "fp4_block", "q5_0", "q5_1", "mxfp6_e2m3", "mxfp8_te", "nvfp4_torchao", "nvfp4_compressed_tensors", "deepseek_fp8_ue8m0",
    "int8_affine_tensor", "msfp12", "mx6", "nf4_double", "q4_0",
}  # fmt: skip


def without_twins(names):
    """Names of block formats, of which TWINS are in the nightly run."""
    return mostly_nightly(names, set(names) - TWINS)


def bits_of(x):
    """A float array as unsigned integers, all NaNs alike."""
    x = np.asarray(x)
    codes = x.view(f"uint{8 * x.dtype.itemsize}").copy()
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        codes[np.isnan(x.astype(np.float64))] = np.iinfo(codes.dtype).max
    return codes


def assert_same_bits(got, expected, what=""):
    """Fails with the first differing element, where two integer or float arrays differ in a bit (NaN by class)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, what
    assert got.dtype == expected.dtype, f"{what}: {got.dtype} instead of {expected.dtype}"
    if got.dtype.kind not in "iuO":
        got, expected = bits_of(got), bits_of(expected)
    differs = np.flatnonzero(got.reshape(-1) != expected.reshape(-1))
    if differs.size:
        i = differs[0]
        raise AssertionError(
            f"{what}: {differs.size} differ, first at {i}: {got.flat[i]:#x} instead of {expected.flat[i]:#x}"
        )


def drawn(artist):
    """Draw the whole figure, so that whatever would warn does."""
    figure = artist if hasattr(artist, "savefig") else artist.figure
    figure.canvas.draw()
    return artist
