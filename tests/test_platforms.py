"""Platforms: what each is documented to do. The peers that can be run are compared in tests/judges."""

import dataclasses

import numpy as np
import pytest

import numfmt as nf

INF, NAN, MINUS_NAN = np.inf, np.float32(np.nan), np.uint32(0xFFC00000).view(np.float32)
HUGE = 1e9
OVERRIDDEN = [
    "float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float4_e2m1fn", "float8_e4m3fnuz", "float8_e8m0fnu",
]  # fmt: skip
NAMES = ["ocp", "ml_dtypes", "xla", "torch", "nvidia", "amd", "onnx", "p3109"]

# Codes of (huge, -huge, inf, -inf, nan, -nan): documents that each platform's source names. E8M0 holds 1e9: 2^30.
DOCUMENTED = [
    ("ocp", "float8_e4m3fn", 0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0x7F),
    ("ocp", "float8_e5m2", 0x7B, 0xFB, 0x7B, 0xFB, 0x7E, 0x7E),
    ("ocp", "float8_e8m0fnu", 0x9D, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
    ("nvidia", "float8_e4m3fn", 0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0x7F),
    ("nvidia", "float8_e5m2", 0x7B, 0xFB, 0x7B, 0xFB, 0x7E, 0x7E),
    ("nvidia", "float6_e2m3fn", 0x1F, 0x3F, 0x1F, 0x3F, 0x1F, 0x1F),
    ("nvidia", "float6_e3m2fn", 0x1F, 0x3F, 0x1F, 0x3F, 0x1F, 0x1F),
    ("nvidia", "float4_e2m1fn", 0x7, 0xF, 0x7, 0xF, 0x7, 0x7),
    ("nvidia", "float8_e8m0fnu", 0x9D, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF),
    ("amd", "float8_e4m3fn", 0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0xFF),
    ("amd", "float8_e5m2", 0x7B, 0xFB, 0x7B, 0xFB, 0x7F, 0xFF),
    ("amd", "float8_e4m3fnuz", 0x7F, 0xFF, 0x7F, 0xFF, 0x7F, 0xFF),
    ("amd", "float8_e5m2fnuz", 0x7F, 0xFF, 0x7F, 0xFF, 0x7F, 0xFF),
    ("amd", "float6_e2m3fn", 0x1F, 0x3F, 0x1F, 0x3F, 0x1F, 0x3F),
    ("amd", "float6_e3m2fn", 0x1F, 0x3F, 0x1F, 0x3F, 0x1F, 0x3F),
    ("amd", "float4_e2m1fn", 0x7, 0xF, 0x7, 0xF, 0x7, 0xF),
    ("amd", "ue5m3", 0xFE, 0x00, 0xFE, 0x00, 0xFF, 0xFF),
    ("ml_dtypes", "float8_e4m3fn", 0x7F, 0xFF, 0x7F, 0xFF, 0x7F, 0xFF),
    ("ml_dtypes", "float8_e5m2", 0x7C, 0xFC, 0x7C, 0xFC, 0x7E, 0xFE),
    ("ml_dtypes", "float8_e4m3fnuz", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80),
    ("ml_dtypes", "float6_e2m3fn", 0x1F, 0x3F, 0x1F, 0x3F, 0x20, 0x00),
    ("ml_dtypes", "float4_e2m1fn", 0x7, 0xF, 0x7, 0xF, 0x8, 0x0),
    ("ml_dtypes", "float8_e8m0fnu", 0x9D, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF),
    ("xla", "float4_e2m1fn", 0x7, 0xF, 0x7, 0xF, 0x8, 0x8),
    ("torch", "float8_e4m3fn", 0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0xFF),
    ("torch", "float8_e5m2", 0x7C, 0xFC, 0x7C, 0xFC, 0x7F, 0xFF),
    ("torch", "float8_e4m3fnuz", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80),
    ("torch", "float8_e8m0fnu", 0x9D, 0x9D, 0xFF, 0xFF, 0xFF, 0xFF),
    ("onnx", "float8_e4m3fn", 0x7E, 0xFE, 0x7E, 0xFE, 0x7F, 0xFF),
    ("onnx", "float8_e5m2", 0x7B, 0xFB, 0x7B, 0xFB, 0x7E, 0xFE),
    ("onnx", "float8_e4m3fnuz", 0x7F, 0xFF, 0x7F, 0xFF, 0x80, 0x80),
    ("onnx", "float4_e2m1fn", 0x7, 0xF, 0x7, 0xF, 0x8, 0x0),
    ("onnx", "float8_e8m0fnu", 0x9D, 0x9D, 0xFF, 0xFF, 0xFF, 0xFF),
]


@pytest.mark.parametrize(("platform", "fmt", "codes"), [(p, f, tuple(c)) for p, f, *c in DOCUMENTED])
def test_overflow_infinity_and_nan_are_as_documented(platform, fmt, codes):
    x = np.array([HUGE, -HUGE, INF, -INF, NAN, MINUS_NAN], np.float32)
    found = nf.encode(x, fmt, platform=platform)
    assert [hex(c) for c in found] == [hex(c) for c in codes]


@pytest.mark.parametrize("platform", ["ml_dtypes", "xla", "torch"])
def test_e8m0_ties_go_up(platform):
    x = np.float32([0.75, 1.5, 3.0, 6.0, 2.5])
    assert nf.decode(nf.encode(x, "e8m0", platform=platform), "e8m0").tolist() == [1, 2, 4, 8, 2]
    assert nf.decode(nf.encode(x, "e8m0"), "e8m0").tolist() == [0.5, 2, 2, 8, 2]  # the even code


@pytest.mark.parametrize("platform", ["nvidia", "onnx"])
def test_e8m0_rounds_up(platform):
    x = np.float32([1.0, 1.0000001, 1.5, 1.9999999, 2.0])
    assert nf.decode(nf.encode(x, "e8m0", platform=platform), "e8m0").tolist() == [1, 2, 2, 2, 2]


def test_zero_into_e8m0_is_refused_by_ml_dtypes_and_xla_only():
    refused = {name for name in NAMES if nf.encode(0.0, "e8m0", platform=name) == 0xFF}
    assert refused == {"ml_dtypes", "xla"}


def test_negative_scales_lose_their_sign_in_torch_and_onnx_only():
    folded = {name for name in NAMES if nf.encode(-4.0, "e8m0", platform=name) == nf.encode(4.0, "e8m0")}
    assert folded == {"torch", "onnx"}


def test_everything_above_the_least_scale_rounds_up_where_bits_of_a_subnormal_decide():
    just_above = np.uint32(0x0040_0001).view(np.float32)  # 2^-127 and a float32 ulp
    assert nf.encode(just_above, "e8m0") == 0
    assert [nf.encode(just_above, "e8m0", platform=name) for name in ("ml_dtypes", "xla", "torch")] == [1, 1, 1]


@pytest.mark.parametrize("platform", NAMES)
@pytest.mark.parametrize("fmt", OVERRIDDEN)
def test_explicit_modes_override_a_platform_s(platform, fmt):
    x = np.linspace(0.001, 1.5 * float(min(nf.get_format(fmt).max, 2**60)), 999)
    for rounding in ("ties_to_even", "toward_zero", "to_odd", "away_from_zero"):
        expected = nf.encode(x, fmt, rounding=rounding, overflow="saturate")
        found = nf.encode(x, fmt, rounding=rounding, overflow="saturate", platform=platform)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("platform", [name for name in NAMES if name != "p3109"])
def test_a_platform_leaves_formats_that_it_does_not_name_alone(platform):
    x = np.array([HUGE, -HUGE, INF, -INF, NAN, 0.1, -0.1, 0.0, -0.0])
    for fmt in ("binary8p3se", "e5m7", "tf32", "int8", "nf4"):
        assert np.array_equal(nf.encode(x, fmt, platform=platform), nf.encode(x, fmt))


# P3109 v4.0 §4.7.5, SatNone: codes of (+Inf, -Inf, X > Mhi, X < Mlo); Mhi and Mlo of 8p3: se 0x7e 0xfe, sf 0x7f 0xff,
# ue 0xfd 0x00, uf 0xfe 0x00; NaN is 0x80 of signed, 0xff of unsigned formats.
SAT_NONE = [
    ("binary8p3se", "ties_to_even", 0x7F, 0xFF, 0x7F, 0xFF),
    ("binary8p3se", "toward_zero", 0x7F, 0xFF, 0x7E, 0xFE),
    ("binary8p3se", "toward_negative", 0x7F, 0xFF, 0x7E, 0xFF),
    ("binary8p3se", "toward_positive", 0x7F, 0xFF, 0x7F, 0xFE),
    ("binary8p3se", "to_odd", 0x7F, 0xFF, 0x7F, 0xFF),
    ("binary8p3sf", "ties_to_even", 0x7F, 0xFF, 0x7F, 0xFF),
    ("binary8p3sf", "to_odd", 0x7F, 0xFF, 0x7F, 0xFF),
    ("binary8p3ue", "ties_to_even", 0xFE, 0xFF, 0xFE, 0xFF),
    ("binary8p3ue", "toward_zero", 0xFE, 0xFF, 0xFD, 0x00),
    ("binary8p3ue", "toward_positive", 0xFE, 0xFF, 0xFE, 0x00),
    ("binary8p3ue", "toward_negative", 0xFE, 0xFF, 0xFD, 0xFF),
    ("binary8p3ue", "to_odd", 0xFE, 0xFF, 0xFD, 0xFF),
    ("binary8p3uf", "ties_to_even", 0xFE, 0xFF, 0xFE, 0xFF),
    ("binary8p3uf", "toward_zero", 0xFE, 0xFF, 0xFE, 0x00),
]


@pytest.mark.parametrize(("fmt", "rounding", "codes"), [(f, r, tuple(c)) for f, r, *c in SAT_NONE])
def test_p3109_without_saturation_follows_its_own_table(fmt, rounding, codes):
    x = np.array([INF, -INF, 1e30, -1e30])
    found = nf.encode(x, fmt, rounding=rounding, overflow="infinity", platform="p3109")
    assert [hex(c) for c in found] == [hex(c) for c in codes]


def test_to_odd_reaches_infinity_on_the_platform_p3109_only():
    """IEEE 754 and TestFloat stay at the largest finite value."""
    assert nf.encode(1e30, "binary8p3se", rounding="to_odd") == 0x7E
    assert nf.encode(1e30, "binary8p3se", rounding="to_odd", platform="p3109") == 0x7F


@pytest.mark.parametrize("name", NAMES)
def test_a_platform_is_frozen_hashable_data_with_a_source(name):
    platform = nf.get_platform(name)
    assert isinstance(hash(platform), int)
    assert platform.name == str(platform) == name
    assert platform.source
    assert nf.get_platform(platform) is platform
    with pytest.raises(dataclasses.FrozenInstanceError):
        platform.name = "mine"
    with pytest.raises(TypeError):
        platform.rules["float8_e4m3fn"] = None
    assert all(str(nf.get_format(fmt)) == fmt for fmt in platform.rules)


def test_a_platform_of_one_s_own_is_accepted():
    from numfmt.rounding import Rule

    mine = nf.Platform("mine", "a test", {"float8_e5m2": Rule(overflow=nf.Overflow.SATURATE, nan=(0x7D, 0xFD))})
    assert nf.encode(np.float32([INF, NAN, MINUS_NAN]), "e5m2", platform=mine).tolist() == [0x7B, 0x7D, 0xFD]


def test_an_unknown_platform_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match=r"unknown platform 'ml_dtype'; nearest: ml_dtypes"):
        nf.get_platform("ml_dtype")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_sign_of_a_nan_operand_is_seen_whatever_its_dtype(dtype):
    x = np.copysign(np.full(2, np.nan, dtype), np.array([1, -1], dtype))
    assert nf.encode(x, "e4m3fn", platform="ml_dtypes").tolist() == [0x7F, 0xFF]
    assert nf.encode(x, "e2m1", platform="ml_dtypes").tolist() == [0x8, 0x0]


FP4_THRESHOLDS = np.float32([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333])
FP4_MAGNITUDE_CODES = [0, 1, 6, 7, 4, 5, 2, 3]  # ascending


def test_bitsandbytes_compares_fp4_magnitudes_strictly():
    """bitsandbytes csrc/kernels.cu dQuantizeFP4: |x| > constant, the sign apart, so that tiny negatives get code 8."""
    for sign, bit in ((1, 0), (-1, 8)):
        at = nf.encode(np.float32(sign) * FP4_THRESHOLDS, "fp4_bnb", platform="bitsandbytes").tolist()
        above = nf.encode(np.float32(sign) * np.nextafter(FP4_THRESHOLDS, np.float32(1)), "fp4_bnb", platform="bitsandbytes").tolist()
        assert at == [code | bit for code in FP4_MAGNITUDE_CODES[:-1]]
        assert above == [code | bit for code in FP4_MAGNITUDE_CODES[1:]]
    zeros = np.float32([0.0, -0.0, 1e-45, -1e-45])
    assert nf.encode(zeros, "fp4_bnb", platform="bitsandbytes").tolist() == [0, 0, 0, 8]
    assert nf.quantize(zeros, "fp4_bnb", platform="bitsandbytes").tolist() == [0.0, 0.0, 0.0, 0.0]
    assert nf.encode(np.float32([-0.0859375]), "fp4_bnb", platform="bitsandbytes", rounding="toward_zero").tolist() == [9]
