"""Named platforms: what the conversions of vendors, libraries and standards do where they differ."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from .named import NF4
from .rounding import ArithmeticRule, Overflow, Platform, Rounding, Rule, unknown

_SATURATE = Rule(overflow=Overflow.SATURATE)
_FNUZ = ("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz")
_SMALL = ("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")

# ml_dtypes, XLA and torch round e8m0 ties up, refuse or fold negatives, and round every inexact value
# of the lowest binade up, because they look at the bits of a float32 subnormal.
_E8M0_UP = Rule(Rounding.TIES_TO_AWAY, Overflow.NAN, infinity=(0xFF, 0xFF), lowest_away=True)

_ML_DTYPES_NAN = {
    "float8_e4m3fn": Rule(overflow=Overflow.NAN, nan=(0x7F, 0xFF)),
    "float8_e5m2": Rule(nan=(0x7E, 0xFE)),
    "float8_e4m3": Rule(nan=(0x7C, 0xFC)),
    "float8_e3m4": Rule(nan=(0x78, 0xF8)),
    **{name: Rule(overflow=Overflow.NAN) for name in _FNUZ},
    "float8_e8m0fnu": replace(_E8M0_UP, zero=(0xFF, 0xFF), negative=0xFF),
    "float16": Rule(nan=(0x7E00, 0xFE00)),
    "bfloat16": Rule(nan=(0x7FC0, 0xFFC0)),
}

_ML_DTYPES_SMALL_NAN = {  # a NaN becomes -0, one of sign 1 becomes +0
    "float6_e2m3fn": Rule(nan=(0x20, 0x00)),
    "float6_e3m2fn": Rule(nan=(0x20, 0x00)),
    "float4_e2m1fn": Rule(nan=(0x8, 0x0)),
}

# Midpoints of the binary32 values, rounded to binary32; on one of them the lower value wins.
_NF4_THRESHOLDS = tuple((float(np.float32((a + b) / 2)), False) for a, b in pairwise(map(float, NF4)))
# Of magnitudes; on one of them the smaller magnitude wins.
_FP4_CONSTANTS = (0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333)
_FP4_MAGNITUDES = tuple(float(np.float32(t)) for t in _FP4_CONSTANTS)
_FP4_THRESHOLDS = (*((-t, True) for t in reversed(_FP4_MAGNITUDES)), *((t, False) for t in _FP4_MAGNITUDES))

_PLATFORMS = (
    Platform(
        "ocp",
        "OCP OFP8 v1.0 §5 (saturating mode) and MX v1.0 §5.3, §5.4",
        {name: _SATURATE for name in ("float8_e4m3fn", "float8_e5m2", *_SMALL)}
        | {"float8_e8m0fnu": Rule(overflow=Overflow.NAN)},
    ),
    Platform(
        "ml_dtypes",
        "ml_dtypes 0.6.0 casts from float32, measured",
        _ML_DTYPES_NAN | _ML_DTYPES_SMALL_NAN,
    ),
    Platform(
        "xla",
        "XLA CPU of jax 0.10.2 casts from float32, measured; it has no FP6",
        _ML_DTYPES_NAN | {"float4_e2m1fn": Rule(nan=(0x8, 0x8))},
    ),
    Platform(
        "torch",
        "torch 2.13 CPU casts from float32, measured",
        {
            "float8_e4m3fn": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float8_e5m2": Rule(nan=(0x7F, 0xFF)),
            "float8_e4m3fnuz": Rule(overflow=Overflow.NAN),
            "float8_e5m2fnuz": Rule(overflow=Overflow.NAN),
            "float8_e8m0fnu": replace(_E8M0_UP, absolute=True),
        },
    ),
    Platform(
        "nvidia",
        "PTX ISA 9.0 §9.7.9.21 cvt.satfinite; E8M0 with cvt.rp, as TransformerEngine",
        {name: _SATURATE for name in ("float8_e4m3fn", "float8_e5m2", *_SMALL)}
        | {"float8_e8m0fnu": Rule(rounding=Rounding.TOWARD_POSITIVE, overflow=Overflow.SATURATE)},
        arithmetic=ArithmeticRule(all_ones=True),
    ),
    Platform(
        "amd",
        "ROCm clr amd_hip_fp8.h and amd_hip_ocp_host.hpp, saturating; gfx1250 for ue5m3",
        {
            "float8_e4m3fn": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float8_e5m2": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float8_e4m3fnuz": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float8_e5m2fnuz": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float6_e2m3fn": Rule(overflow=Overflow.SATURATE, nan=(0x1F, 0x3F)),
            "float6_e3m2fn": Rule(overflow=Overflow.SATURATE, nan=(0x1F, 0x3F)),
            "float4_e2m1fn": Rule(overflow=Overflow.SATURATE, nan=(0x7, 0xF)),
            "ue5m3": _SATURATE,
        },
    ),
    Platform(
        "onnx",
        "ONNX Cast with saturate=1, reference implementation of onnx 1.23.2",
        {
            "float8_e4m3fn": Rule(overflow=Overflow.SATURATE, nan=(0x7F, 0xFF)),
            "float8_e5m2": Rule(overflow=Overflow.SATURATE, nan=(0x7E, 0xFE)),
            "float8_e4m3fnuz": _SATURATE,
            "float8_e5m2fnuz": _SATURATE,
            **_ML_DTYPES_SMALL_NAN,  # as the other casts, these are those of ml_dtypes
            "float8_e8m0fnu": Rule(
                rounding=Rounding.TOWARD_POSITIVE, overflow=Overflow.SATURATE, infinity=(0xFF, 0xFF), absolute=True
            ),
            "float16": Rule(nan=(0x7E00, 0xFE00)),
            "bfloat16": Rule(nan=(0x7FC0, 0xFFC0)),
        },
    ),
    Platform(
        "bitsandbytes",
        "bitsandbytes csrc/kernels.cu dQuantizeNF4 and dQuantizeFP4, 95f9af3: strict > against binary32 constants",
        {
            "nf4": Rule(thresholds=_NF4_THRESHOLDS),
            "fp4_bnb": Rule(thresholds=_FP4_THRESHOLDS, zero=(0, 8)),
        },
    ),
    Platform("riscv", "RISC-V unprivileged ISA, F extension: canonical NaNs, saturating integers"),
    Platform(
        "arm",
        "Arm Architecture Reference Manual, FPProcessNaNs with FPCR.DN = 0",
        arithmetic=ArithmeticRule("signaling_first", integers="arm"),
    ),
    Platform(
        "x86.sse",
        "Intel SDM vol. 1 §4.8.3.5 and table 4-7, SSE and FMA instructions",
        arithmetic=ArithmeticRule("first", negative_nan=True, quiet_fma=True, integers="x86"),
    ),
    Platform(
        "x86.vcvtneps2bf16",
        "Intel SDM, VCVTNEPS2BF16: to nearest even, subnormals flushed, whatever MXCSR says",
        arithmetic=ArithmeticRule("first", flushes=True, rounding=Rounding.TIES_TO_EVEN),
    ),
    Platform("x86.vcvtps2ph", "Intel SDM, VCVTPS2PH", arithmetic=ArithmeticRule("first", negative_nan=True)),
    Platform("x86.vcvtph2ps", "Intel SDM, VCVTPH2PS", arithmetic=ArithmeticRule("first", negative_nan=True)),
    Platform("p3109", "IEEE P3109 Interim Report v4.0 §4.7.5, table of SatNone", {}, Rule(odd_overflows=True)),
)

PLATFORMS = {platform.name: platform for platform in _PLATFORMS}


def get_platform(name: str | Platform) -> Platform:
    """The platform called `name`: ocp, ml_dtypes, xla, torch, nvidia, amd, onnx, bitsandbytes, riscv, arm, x86.sse, ….

    Raises:
        ValueError: an unknown name.

    >>> get_platform("torch").source
    'torch 2.13 CPU casts from float32, measured'
    """
    if isinstance(name, Platform):
        return name
    found = PLATFORMS.get(str(name).lower().replace("-", "_"))
    if found is None:
        raise ValueError(unknown("platform", str(name), list(PLATFORMS)))
    return found
